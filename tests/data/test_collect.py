import json
from dataclasses import asdict, replace
from datetime import datetime

import gymnasium as gym
import numpy as np
import pytest
import torch
from small import box, discrete, pixels, vector

from worldmodel.data import (
    Dataset,
    Held,
    OrnsteinUhlenbeck,
    SplitConfig,
    Uniform,
    collect,
    default_splits,
    fingerprint,
    load,
)
from worldmodel.errors import ConfigError, SourceError, SpecError
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.types import Batch

SMALL = {"train": SplitConfig(3, 4), "test": SplitConfig(2, 6)}


def test_default_splits_are_the_papers():
    splits = default_splits()
    assert {name: (s.episodes, s.steps) for name, s in splits.items()} == {
        "train": (500, 14),
        "validation": (500, 14),
        "test": (500, 114),
    }


def test_splits_and_provenance(dataset):
    assert [len(dataset.split(name)) for name in dataset.splits] == [5, 2, 3]
    assert (dataset.train.steps, dataset.validation.steps, dataset.test.steps) == (6, 6, 5)
    origin = dataset.provenance
    assert origin.env_id == "test/Clock-v0" and origin.env_kwargs == {"longest": 8}
    assert origin.process == {"name": "held", "steps": 2}
    assert (origin.seed, origin.options, origin.num_envs) == (4, None, 2)
    assert {"python", "worldmodel", "gymnasium", "numpy", "torch"} == origin.versions.keys()
    # That of a build, such as "+cu132", may be missing where it is installed.
    assert origin.versions["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert datetime.fromisoformat(origin.created).utcoffset().total_seconds() == 0
    assert json.loads(json.dumps(asdict(origin))) == asdict(origin)


def test_same_seed_same_fingerprint(clock_id):
    first, again, other = (collect(clock_id, splits=SMALL, seed=s) for s in (1, 1, 2))
    assert first.provenance.fingerprint == again.provenance.fingerprint
    assert first.provenance.fingerprint != other.provenance.fingerprint


def test_splits_are_independent_of_each_other(clock_id):
    size = SplitConfig(3, 4)
    both = collect(clock_id, splits={"train": size, "test": size}, num_envs=2)
    alone = collect(clock_id, splits={"test": size}, num_envs=2)
    assert torch.equal(both.test.observations, alone.test.observations)
    assert not torch.equal(both.test.actions, both.train.actions)
    assert not torch.equal(both.test.observations[:, 0], both.train.observations[:, 0])


def test_a_native_vector_entry_point_is_used(monkeypatch):
    made = []
    monkeypatch.setattr(
        gym, "make_vec", lambda *a, f=gym.make_vec, **k: made.append(f(*a, **k)) or made[-1]
    )
    dataset = collect("CartPole-v1", splits={"train": SplitConfig(5, 30)}, num_envs=3)
    assert type(made[0]).__name__ == "CartPoleVectorEnv"
    lengths = dataset.train.mask.sum(1)
    assert (lengths >= 8).all() and (lengths < 30).any()
    assert dataset.frames("train") == int(lengths.sum()) + 5
    # The pole has fallen in the last observation before the padding, not in any earlier one.
    fallen = (dataset.train.observations[:, :, 2].abs() > 12 * np.pi / 180).float()
    ended = dataset.train.terminated.any(1)
    assert torch.equal(fallen.argmax(1)[ended], lengths[ended])


def test_the_environments_are_closed_whatever_happens(clock, clock_id, monkeypatch):
    closed = []
    monkeypatch.setattr(clock, "close", lambda self: closed.append(self))
    collect(clock_id, splits=SMALL, num_envs=4)
    assert len(closed) == 1
    with pytest.raises(SourceError, match="no number"):  # the environment's own error
        collect(clock_id, splits=SMALL, options={"length": "no number"}, num_envs=4)
    assert len(closed) == 2


def test_options_are_kept_as_json(clock_id):
    dataset = collect(clock_id, splits=SMALL, options={"length": np.int64(3), "x": np.zeros(2)})
    assert dataset.provenance.options == {"length": 3, "x": [0.0, 0.0]}
    assert (dataset.test.mask.sum(1) == 3).all()
    with pytest.raises(SpecError, match="options must be expressible as JSON"):
        collect(clock_id, splits=SMALL, options={"length": object()})


def test_a_module_prefix_imports_the_module(tmp_path, monkeypatch):
    source = "import gymnasium as gym\ngym.register('test/Late-v0', 'test_late_envs:make')\n"
    source += "def make():\n    return gym.make('Pendulum-v1').unwrapped\n"
    (tmp_path / "test_late_envs.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        dataset = collect("test_late_envs:test/Late-v0", splits=SMALL, num_envs=2)
    finally:
        gym.registry.pop("test/Late-v0", None)
    assert dataset.provenance.env_id == "test_late_envs:test/Late-v0"
    env = gym.make("Pendulum-v1")
    assert dataset.observation_spec == ObservationSpace.from_space(env.observation_space)
    assert dataset.action_spec == ActionSpace.from_space(env.action_space) == box(-2.0, 2.0)


@pytest.mark.parametrize(
    ("env_id", "named"),
    [
        ("Pendulun-v1", "'Pendulun-v1'.*Pendulum-v1"),
        ("Pendulum-v7", "'Pendulum-v7'.*Pendulum-v1"),
        ("Pendulum", "'Pendulum'.*Pendulum-v1"),
        ("not an id!", "'not an id!'"),
        ("nowhere_at_all:Pendulum-v1", "no module 'nowhere_at_all'"),
    ],
)
def test_unknown_environments_are_named_with_close_ids(env_id, named):
    with pytest.raises(SpecError, match=named) as caught:
        collect(env_id, splits=SMALL)
    assert isinstance(caught.value.__cause__, gym.error.Error | ModuleNotFoundError)


def test_a_modules_own_missing_import_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "test_broken_envs.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        collect("test_broken_envs:X-v0", splits=SMALL)


def test_bad_sizes_are_named(clock_id):
    with pytest.raises(ConfigError, match="episodes must be at least 1, got 0"):
        SplitConfig(0, 3)
    with pytest.raises(ConfigError, match="num_envs must be at least 1, got 0"):
        collect(clock_id, splits=SMALL, num_envs=0)
    with pytest.raises(ConfigError, match="seed must be at least 0, got -1"):
        collect(clock_id, splits=SMALL, seed=-1)
    with pytest.raises(SpecError, match="at least one split"):
        collect(clock_id, splits={})


def test_frames_do_not_count_padding(clock_id):
    dataset = collect(clock_id, splits={"train": SplitConfig(4, 9)}, options={"length": 3})
    assert dataset.frames("train") == 4 * (3 + 1)
    with pytest.raises(SpecError, match=r"no split 'test'.*train"):
        _ = dataset.test


def test_splits_must_fit_the_specs(dataset):
    observation, action, origin = (
        dataset.observation_spec,
        dataset.action_spec,
        dataset.provenance,
    )
    wide = box((-1.0, -1.0), (1.0, 1.0))
    with pytest.raises(SpecError, match=r"actions of split 'train'.*\(\d+, 1\).*\(2,\)"):
        Dataset(dataset.splits, observation, wide, origin)
    with pytest.raises(SpecError, match=r"observations.* of split 'train'.*float32.*uint8"):
        Dataset(dataset.splits, pixels(3, 3), action, origin)
    two = gym.spaces.Dict({"a": gym.spaces.Discrete(2), "b": gym.spaces.Discrete(2)})
    with pytest.raises(
        SpecError, match=r"split 'train'.*\.observation, .*expected observations\.a"
    ):
        Dataset(dataset.splits, ObservationSpace.from_space(two), action, origin)
    test = dataset.test.padded()
    double = replace(test, rewards=test.rewards.double())
    with pytest.raises(SpecError, match=r"rewards of split 'test'.*float64"):
        Dataset({"test": double}, observation, action, origin)
    for name in ("observations", "actions", "rewards", "states"):
        broken = getattr(test, name).clone()
        broken[1, 2] = np.inf
        told = f"{name}.* of split 'test' must be finite, got .*inf.* in episode 1 at time 2"
        with pytest.raises(SpecError, match=told):
            Dataset({"test": replace(test, **{name: broken})}, observation, action, origin)


def test_a_model_must_fit_the_data(dataset):
    dataset.check_fits(dataset.observation_spec, dataset.action_spec)
    dataset.check_fits(vector(3), box(-2.0, 2.0))  # whose bounds are others
    with pytest.raises(SpecError, match=r"observations.*\(3,\).*\(16, 16, 1\)"):
        dataset.check_fits(pixels(16, 16), dataset.action_spec)
    with pytest.raises(SpecError, match=r"actions.*-2\.0.*Discrete"):
        dataset.check_fits(dataset.observation_spec, discrete(1))


def change(batch: Batch, name: str, make) -> Batch:
    return replace(batch, **{name: make(getattr(batch, name).clone())})


def test_the_fingerprint_sees_every_change_but_the_order_of_splits(dataset):
    specs = dataset.observation_spec, dataset.action_spec
    original = dataset.provenance.fingerprint
    assert fingerprint(dict(reversed(dataset.splits.items())), *specs) == original

    def bump(tensor):
        tensor.view(-1)[-1] = not tensor.view(-1)[-1]
        return tensor

    test = dataset.test.padded()
    changed = [{**dataset.splits, "test": change(test, name, bump)} for name, _ in test.items()]
    changed.append({**dataset.splits, "test": replace(test, states=None)})
    changed.append({**dataset.splits, "train": dataset.validation, "validation": dataset.train})
    changed.append({**dataset.splits, "more": dataset.test})
    prints = [fingerprint(splits, *specs) for splits in changed]
    prints.append(fingerprint(dataset.splits, specs[0], box(-3.0, 2.0)))
    assert len({original, *prints}) == len(prints) + 1


@pytest.mark.parametrize("process", [Uniform(), Held(), OrnsteinUhlenbeck()])
def test_the_real_pendulum(process):
    splits = default_splits(episodes=7, test_steps=114)
    dataset = collect(
        "envs:worldmodel/Pendulum-v0",
        process=process,
        splits=splits,
        options={"start": "babbling"},
        num_envs=4,
    )
    assert dataset.observation_spec == pixels(16, 16)
    assert dataset.action_spec == box(-5.0, 5.0)
    assert dataset.frames("train") == 7 * 15 and dataset.frames("test") == 7 * 115
    angle, velocity = dataset.test.states.unbind(-1)
    assert angle.abs().max() <= np.pi + 1e-6 and angle.std() > 0.5
    assert velocity[:, 0].abs().max() <= 6
    # The angle moves with the velocity that is stated beside it (trapezium, 0.1 s).
    turned = torch.remainder(angle.diff(dim=1) + np.pi, 2 * np.pi) - np.pi
    assert (turned - 0.05 * (velocity[:, 1:] + velocity[:, :-1])).abs().max() < 0.05


@pytest.mark.parametrize("num_envs", [2, 7])
def test_what_is_written_as_it_comes_is_what_is_held(clock_id, tmp_path, num_envs):
    splits = {"train": SplitConfig(5, 6), "test": SplitConfig(3, 9)}
    held = collect(clock_id, splits=splits, seed=2, num_envs=num_envs)
    for path in (tmp_path / "new", tmp_path / "new"):  # the second time in place of the first
        written = collect(clock_id, splits=splits, seed=2, num_envs=num_envs, out=path)
        origin = replace(written.provenance, created=held.provenance.created)
        assert origin == held.provenance and written.path == path
        written.verify()


def test_an_interrupted_recording_keeps_complete_episodes(clock, clock_id, tmp_path, monkeypatch):
    steps, step = [], clock.step

    def interrupted(self, action):
        steps.append(1)
        if len(steps) > 60:
            raise KeyboardInterrupt
        return step(self, action)

    monkeypatch.setattr(clock, "step", interrupted)
    whole = {"train": SplitConfig(500, 6)}
    with pytest.raises(KeyboardInterrupt):
        collect(clock_id, splits=whole, num_envs=2, out=tmp_path / "data")
    kept = load(tmp_path / "data").train
    # All of them: no episode has more than six steps.
    assert 60 - 6 < kept.lengths.sum() <= 60


def test_an_episode_is_on_disk_before_the_next_begins(clock, clock_id, tmp_path, monkeypatch):
    """A machine that loses its power says nothing first."""
    found, reset = [], clock.reset

    def look(self, **told):
        found.append(len(load(tmp_path / "data").train) if found else 0)
        return reset(self, **told)

    monkeypatch.setattr(clock, "reset", look)
    monkeypatch.setattr("worldmodel.data.writer._SECONDS", 0.0)
    collect(clock_id, splits={"train": SplitConfig(5, 6)}, out=tmp_path / "data")
    assert found == [0, 1, 2, 3, 4]
