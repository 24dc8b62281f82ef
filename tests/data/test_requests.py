"""What a model asks to have recorded: its file, and recording it."""

import json

import gymnasium as gym
import numpy as np
import pytest

import envs  # noqa: F401 - registers the environments
from envs.pendulum import rk4_step
from worldmodel import data
from worldmodel.data.fulfilling import fulfil, resets_to
from worldmodel.data.record import reset_seeds
from worldmodel.data.requests import Request, Requests, Wanted
from worldmodel.errors import FileFormatError, SourceError, SpecError

PENDULUM = data.Source("worldmodel/Pendulum-v0")
STATE = [0.3, -7.0]


def wanted(options, steps=5, size=1, seed=0):
    actions = np.linspace(-2, 2, steps * size, dtype=np.float32).reshape(steps, size)
    return Wanted(options, seed, actions)


def asking(*episodes, source=PENDULUM, probe="square"):
    told = dict(latent=[0.1, 0.2], state=STATE, dreams=3, error=0.7, bound=None, near=2, share=0.4)
    return Requests(source, True, 0.1, (Request(probe=probe, episodes=episodes, **told),))


@pytest.fixture
def recorded(tmp_path):
    splits = {name: data.SplitConfig(3, 4) for name in ("train", "validation", "test")}
    return data.collect(PENDULUM.env_id, splits=splits, num_envs=3, out=tmp_path / "data").path


def test_a_file_gives_back_what_was_written(tmp_path):
    kept = data.Source("CartPole-v1", {"a": [1, 2]}, data.Wrapping(pixels=True, resize=16))
    before = asking(wanted({"state": STATE}), wanted(None, 3, seed=2**32 - 1), source=kept)
    after = Requests.read(before.write(tmp_path / "requests.json"))
    assert after.source == kept and after.frames == before.frames == 10
    ours, theirs = before.requests[0], after.requests[0]
    for mine, other in zip(ours.episodes, theirs.episodes, strict=True):
        assert (other.options, other.seed) == (mine.options, mine.seed)
        np.testing.assert_array_equal(other.actions, mine.actions)
    assert (theirs.latent, theirs.bound, theirs.near) == (ours.latent, None, 2)


def spoilt(plain, *keys, value):
    place = plain
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value


FIRST = ("requests", 0, "episodes", 0)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("format",), "other", "expected the format 'worldmodel-requests'"),
        (("version",), 7, "is of version 7; expected 1"),
        (("source",), {}, "corrupt"),
        (("requests",), 5, "corrupt"),
        (("nonsense",), 5, "nonsense"),
        ((*FIRST, "actions"), [[1.0], [2.0, 3.0]], "corrupt"),
        ((*FIRST, "actions"), [], "actions must be finite"),
        ((*FIRST, "actions"), [1.0], "actions must be finite"),
        ((*FIRST, "actions"), [[1e60]], "actions must be finite"),
        ((*FIRST, "options"), [1], "options must be an object or null, got [1]"),
        ((*FIRST, "seed"), -1, "a seed must be an integer"),
        ((*FIRST, "seed"), 1.5, "a seed must be an integer"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_spoilt_file_is_refused(tmp_path, keys, value, message):
    path = asking(wanted({"state": STATE})).write(tmp_path / "requests.json")
    plain = json.loads(path.read_text())
    spoilt(plain, *keys, value=value)
    path.write_text(json.dumps(plain))
    with pytest.raises(FileFormatError) as caught:
        Requests.read(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_no_file_and_half_a_file_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="worldmodel evaluate"):
        Requests.read(tmp_path / "none.json")
    path = asking(wanted(None)).write(tmp_path / "requests.json")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileFormatError, match="truncated or corrupt"):
        Requests.read(path)


def test_requested_episodes_are_what_physics_makes_of_state_and_actions(recorded):
    before = data.load(recorded)
    episode = wanted({"state": STATE})
    after = fulfil(asking(episode, episode), recorded)
    assert [len(after.split(name)) for name in ("train", "validation", "test")] == [5, 3, 3]
    angle, velocity = np.array(STATE)
    for t in range(5):
        angle, velocity = rk4_step(angle, velocity, float(episode.actions[t, 0]))
        found = after.train[-1].states[t + 1]
        np.testing.assert_allclose(np.cos(found[0]), np.cos(angle), atol=1e-5)
        np.testing.assert_allclose(found[1], velocity, rtol=1e-5)
    assert after.train[-1].told == {"actor": "square", "origin": "request 0"}
    # What was there stays as it was.
    for i in range(3):
        np.testing.assert_array_equal(after.train[i].observations, before.train[i].observations)


def test_what_cannot_be_reset_to_a_state_is_replayed_from_its_seed(tmp_path):
    source = data.Source("Pendulum-v1")
    splits = {name: data.SplitConfig(1, 3) for name in ("train", "validation", "test")}
    path = data.collect(source.env_id, splits=splits, out=tmp_path / "data").path
    env = source.make_vec(4)
    probe = data.record(env, 4, 6, data.Uniform(), seed=11)
    env.close()
    seed, actions = reset_seeds(11, 4)[2], probe.actions[2].numpy()
    after = fulfil(asking(Wanted(None, seed, actions), source=source), path)
    np.testing.assert_array_equal(after.train[-1].observations, probe.observations[2].numpy())


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        (asking(wanted(None), source=data.Source("CartPole-v1")), "CartPole-v1"),
        (asking(wanted(None, size=2)), "actions of request 0 have 2 components"),
    ],
)
def test_requests_of_another_system_are_refused_before_anything_is_recorded(
    recorded, requests, message
):
    before = data.load(recorded).provenance.fingerprint
    with pytest.raises(SpecError, match=message):
        fulfil(requests, recorded)
    assert data.load(recorded).provenance.fingerprint == before


def test_a_state_that_there_is_not_ends_recording_and_keeps_what_was_before(recorded):
    good, bad = wanted({"state": STATE}), wanted({"state": [0.0, 1e6]})
    with pytest.raises(SourceError, match="1 requested episodes are kept"):
        fulfil(asking(good, bad, good), recorded)
    assert len(data.load(recorded).train) == 4


def test_without_a_dataset_nothing_is_made(tmp_path):
    with pytest.raises(FileNotFoundError, match="no dataset at"):
        fulfil(asking(wanted(None)), tmp_path / "none")
    assert not (tmp_path / "none").exists()


class Deaf(gym.Env):
    """Takes the options of a reset, and begins where it likes."""

    observation_space = action_space = gym.spaces.Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {"state": np.zeros(2)}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {"state": np.zeros(2)}


def test_who_can_be_reset_to_a_state_is_found_by_trying():
    gym.register("Deaf-v0", Deaf)
    try:
        assert resets_to(PENDULUM, np.array(STATE))
        assert not resets_to(PENDULUM, np.array([0.0, 1e6]))
        assert not resets_to(data.Source("Pendulum-v1"), np.array(STATE))
        assert not resets_to(data.Source("Deaf-v0"), np.ones(2))
    finally:
        gym.registry.pop("Deaf-v0")
