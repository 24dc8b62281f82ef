"""Every kind of space goes through recorder, dataset and disk."""

import gymnasium as gym
import numpy as np
import pytest
import torch
import zoo
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from small import random_dataset

from worldmodel import data
from worldmodel.data import Held, OrnsteinUhlenbeck, SplitConfig, Uniform, collect, record
from worldmodel.spaces import ActionSpace, ObservationSpace, map_arrays
from worldmodel.types import to_numpy

SPLITS = {"train": SplitConfig(7, 12), "test": SplitConfig(3, 25)}
SEED = 3


@pytest.fixture(params=zoo.NAMES)
def name(request) -> str:
    return request.param


def by_stream(batch, space) -> dict[str, np.ndarray]:
    arrays = to_numpy(batch.observations)
    return arrays if isinstance(arrays, dict) else {space.names[0]: arrays}


def assert_same_arrays(a, b) -> None:
    left, right = (dict(data.storage.named_arrays(batch)) for batch in (a, b))
    assert left.keys() == right.keys()
    for field in left:
        assert left[field].dtype == right[field].dtype
        np.testing.assert_array_equal(left[field], right[field])


def test_every_kind_is_recorded_saved_and_loaded(name, tmp_path):
    recorded = collect(zoo.env_id(name), process=Held(3), splits=SPLITS, seed=SEED, num_envs=4)
    env = gym.make(zoo.env_id(name))
    assert recorded.observation_spec.space() == env.observation_space
    assert recorded.action_spec.space() == env.action_space
    loaded = data.load(data.save(recorded, tmp_path / "d"))
    assert loaded.provenance == recorded.provenance
    assert loaded.observation_spec == recorded.observation_spec
    assert loaded.action_spec == recorded.action_spec
    for split in SPLITS:
        assert_same_arrays(loaded.split(split).padded(), recorded.split(split).padded())
    streams = recorded.observation_spec.streams
    assert isinstance(recorded.train.observations, torch.Tensor) == (len(streams) == 1)
    assert recorded.train.states.shape == (7, 13, 4)
    assert recorded.train.actions.shape == (7, 12, recorded.action_spec.size)


def test_what_is_recorded_is_what_playing_by_hand_shows(name):
    """Independent of the recorder: the drawn actions are given to a bare environment."""
    env = gym.make(zoo.env_id(name))
    batch = record(env, 4, 25, Uniform(), seed=SEED)
    space = ObservationSpace.from_space(env.observation_space)
    acted = ActionSpace.from_space(env.action_space)
    recorded, lengths = by_stream(batch, space), batch.mask.sum(1)
    assert 1 <= lengths.min() and lengths.max() <= zoo.LENGTH
    action_seeds, env_seeds = np.random.SeedSequence(SEED).spawn(2)
    actions = Uniform().sample(acted, 4, 25, np.random.default_rng(action_seeds))
    for i, seed in enumerate(env_seeds.generate_state(4).tolist()):
        seen, info = env.reset(seed=seed)
        for t in range(lengths[i] + 1):
            shown = space.write({stream: array[i, t] for stream, array in recorded.items()})
            assert gym.spaces.utils.flatten(env.observation_space, shown) == pytest.approx(
                gym.spaces.utils.flatten(env.observation_space, seen), rel=1e-6, abs=0
            )
            np.testing.assert_array_equal(batch.states[i, t], np.float32(info["state"]))
            if t < lengths[i]:
                action = map_arrays(lambda array, at=(i, t): array[at], actions)
                np.testing.assert_array_equal(batch.actions[i, t], acted.encode(action))
                seen, reward, terminated, _, info = env.step(action)
                assert batch.rewards[i, t] == np.float32(reward)
                assert batch.terminated[i, t] == terminated


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("kind", ["everything", "see-tuple", "see-discrete", "act-dict"])
def test_the_autoreset_mode_changes_nothing(kind, mode):
    def make() -> gym.Env:
        return gym.make(zoo.env_id(kind))

    alone = record(make(), 6, 25, Uniform(), seed=SEED)
    vector = SyncVectorEnv([make] * 4, autoreset_mode=mode)
    assert_same_arrays(record(vector, 6, 25, Uniform(), seed=SEED), alone)
    assert alone.terminated.any() and not alone.mask.all()


@pytest.mark.parametrize("kind", zoo.ACTIONS)
def test_every_process_stays_in_the_space(kind):
    space = zoo.ACTIONS[kind]
    acted = ActionSpace.from_space(space)
    smooth = [OrnsteinUhlenbeck()] if any(acted.continuous) else []
    for process in (Uniform(), Held(3), *smooth):
        drawn = process.sample(acted, 5, 9, np.random.default_rng(0))
        again = process.sample(acted, 5, 9, np.random.default_rng(0))
        controls = acted.encode(drawn, (5, 9))
        np.testing.assert_array_equal(controls, acted.encode(again, (5, 9)))
        for i, t in np.ndindex(5, 9):
            assert map_arrays(lambda array, at=(i, t): array[at], drawn) in space
        assert (np.ptp(controls, (0, 1)) > 0).all()


def test_large_offsets_and_small_scales_keep_their_digits():
    far = collect(zoo.env_id("see-offset"), splits=SPLITS, seed=SEED, num_envs=4).train
    assert far.observations.dtype == torch.float64
    np.testing.assert_allclose(far.observations - 5e6, far.states[..., :2], atol=1e-7)
    tiny = collect(zoo.env_id("see-tiny"), splits=SPLITS, seed=SEED, num_envs=4).train
    np.testing.assert_allclose(tiny.observations * 1e9, tiny.states, rtol=1e-5)


def test_random_batches_are_in_every_space(name):
    """What other tests are given in place of recordings."""
    env = gym.make(zoo.env_id(name))
    seen = ObservationSpace.from_space(env.observation_space)
    acted = ActionSpace.from_space(env.action_space)
    batch = random_dataset(seen, acted, size=3, steps=4).train
    streams = by_stream(batch, seen)
    for i, t in np.ndindex(3, 4):
        values = {stream: array[i, t] for stream, array in streams.items()}
        shown = seen.write(values)
        assert shown in env.observation_space
        for stream, array in seen.read(shown).items():
            np.testing.assert_array_equal(array, values[stream])
        controls = batch.actions[i, t].numpy()
        action = acted.decode(controls)
        assert action in env.action_space
        np.testing.assert_array_equal(acted.encode(action), controls)
