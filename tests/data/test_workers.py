"""Recording in several processes, and under policies."""

import importlib
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from worldmodel.data import Behaviour, Dataset, SplitConfig, Sticky, collect, load
from worldmodel.data.behaviour import explored
from worldmodel.errors import ConfigError, SourceError, SpecError, WorkerError
from worldmodel.spaces import ActionSpace

SMALL = {"train": SplitConfig(5, 4), "test": SplitConfig(3, 7)}
# Classes that only this process knows reach the others by value.
MODULE = """
import os
import gymnasium as gym
import numpy as np

class Odd(gym.Env):
    observation_space = gym.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if "ODD_COUNT" in os.environ:
            with open(os.environ["ODD_COUNT"], "a") as file:
                file.write(".")
        print("said by the environment")
        self.time, self.last = 0, self.np_random.random()
        self.fails = (options or {}).get("fails")
        if seed == int(os.environ.get("ODD_SEED", -1)):
            raise RuntimeError("out of  breath")
        return self.seen()

    def step(self, action):
        self.time, self.last = self.time + 1, float(action[0])
        if self.fails == "raise" and self.time == 3:
            raise ZeroDivisionError("the cart is gone")
        if self.fails == "die":
            os._exit(3)
        return (*self.seen()[:1], self.last, self.time == 6, False, {"state": [self.time]})

    def seen(self):
        return np.float32([self.last, self.time]), {"state": [self.time]}

def half(observation):
    return np.float32([observation[1] / 10])

gym.register("test/Odd-v0", Odd)
"""


@pytest.fixture
def odd(tmp_path, monkeypatch):
    (tmp_path / "odd_envs.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "odd_envs:test/Odd-v0"
    gym.registry.pop("test/Odd-v0", None)
    sys.modules.pop("odd_envs", None)


def marks(dataset: Dataset) -> tuple[str, list[str]]:
    return dataset.provenance.fingerprint, dataset.provenance.notes


def test_the_data_do_not_depend_on_the_number_of_workers(odd, tmp_path):
    alone = collect(odd, splits=SMALL, seed=3)
    assert alone.test.lengths.tolist() == [6, 6, 6] and alone.test.states is not None
    two = collect(odd, splits=SMALL, seed=3, workers=2, num_envs=2, out=tmp_path / "data")
    assert marks(two) == marks(alone)


def test_an_environment_registered_here_is_known_there():
    exec(MODULE, {"__name__": "__main__"})
    try:
        alone = collect("test/Odd-v0", splits=SMALL)
        assert marks(collect("test/Odd-v0", splits=SMALL, workers=2)) == marks(alone)
    finally:
        gym.registry.pop("test/Odd-v0", None)


def test_what_goes_wrong_in_a_worker_is_told(odd):
    told = (
        rf"^{odd} raised ZeroDivisionError in step 3 of an episode \(seed \d+\), in odd_envs.py, "
        r"line \d+: the cart is gone$"
    )
    for workers in (1, 2):
        with pytest.raises(SourceError, match=told):
            collect(odd, splits=SMALL, workers=workers, options={"fails": "raise"})
    with pytest.raises(WorkerError, match="has ended with status"):
        collect(odd, splits=SMALL, workers=2, options={"fails": "die"})
    with pytest.raises(ConfigError, match="workers must be at least 1, got 0"):
        collect(odd, splits=SMALL, workers=0)


def test_a_module_registers_its_environment_in_a_worker_once(odd, capfd):
    collect(odd, splits=SMALL, workers=2)
    assert "WARN" not in capfd.readouterr().err


def test_an_environment_of_ours_is_registered_in_a_worker_once(capfd):
    """A policy that is made in a worker may import the package that registers it."""

    def make(env):
        importlib.import_module("envs")
        return lambda seen, taken: np.float32([0.0])

    splits = {"train": SplitConfig(2, 3)}
    ours = "worldmodel/Pendulum-v0"
    collect(ours, splits=splits, workers=2, behaviour=Behaviour("still", make))
    assert "already in registry" not in capfd.readouterr().err


@pytest.mark.parametrize("workers", [1, 2])
def test_episodes_before_an_environments_error_are_kept(odd, tmp_path, monkeypatch, workers):
    # The resets' seeds are drawn of the split's, whatever is recorded.
    split = np.random.SeedSequence(0, spawn_key=(zlib.crc32(b"train"),))
    of_envs = np.random.SeedSequence(int(split.generate_state(1, np.uint64)[0])).spawn(2)[1]
    monkeypatch.setenv("ODD_SEED", str(of_envs.generate_state(5)[3]))
    with pytest.raises(SourceError, match=r"out of breath; .*data keeps the 3 episodes before$"):
        collect(odd, splits=SMALL, workers=workers, out=tmp_path / "data")
    assert len(load(tmp_path / "data").train) == 3
    before = (tmp_path / "data" / "dataset.json").read_bytes()
    with pytest.raises(SourceError, match=r"breath$"):
        collect(odd, splits=SMALL, out=tmp_path / "data")
    assert (tmp_path / "data" / "dataset.json").read_bytes() == before


def test_of_a_recording_without_any_episode_nothing_stays(odd, tmp_path):
    with pytest.raises(SourceError, match=r"is gone$"):
        collect(odd, splits=SMALL, out=tmp_path / "new", options={"fails": "raise"})
    assert not (tmp_path / "new").exists()


def test_nothing_is_stepped_that_is_not_kept(clock, clock_id, monkeypatch):
    steps, step = [], clock.step
    monkeypatch.setattr(clock, "step", lambda self, a: steps.append(1) or step(self, a))
    dataset = collect(clock_id, splits=SMALL, num_envs=100)
    assert len(steps) == sum(int(e.lengths.sum()) for e in dataset.splits.values())


class Counting:
    """Does a tenth of what it sees of the time, and keeps whatever it is told."""

    def __init__(self) -> None:
        self.told: list = []

    def __call__(self, observation, taken):
        self.told.append((observation, taken))
        return np.float32([observation[1] / 10])


def test_a_policy_acts_on_what_it_sees(clock_id):
    actor = Counting()
    behaviour = Behaviour("counting", lambda env: actor)
    dataset = collect(clock_id, splits=SMALL, behaviour=behaviour)
    for episode in dataset.train:
        np.testing.assert_array_equal(episode.actions, episode.observations[:-1, 1:2] / 10)
    assert [taken is None for seen, taken in actor.told] == [seen[1] == 0 for seen, _ in actor.told]
    assert all(taken[0] == seen[0] for seen, taken in actor.told if taken is not None)
    assert dataset.provenance.process["policy"] == "counting"


def test_shares_and_exploration(odd, tmp_path):
    name = {"train": SplitConfig(40, 6)}
    policy = Behaviour("half", lambda env: lambda seen, taken: np.float32([0.5]), share=0.25)
    mixed = collect(odd, splits=name, behaviour=policy, out=tmp_path / "mixed")
    acts = [(episode.actions == 0.5).all() for episode in mixed.train]
    assert sum(acts) == 10
    assert [e.told["actor"] == "half" for e in load(tmp_path / "mixed").train] == acts
    # In the others actions are drawn as if there were no policy.
    drawn = collect(odd, splits=name)
    others = zip(mixed.train, drawn.train, acts, strict=True)
    assert all((a.actions == b.actions).all() != acting for a, b, acting in others)
    noisy = Behaviour("half", policy.make, exploration=0.1)
    found = collect(odd, splits=name, behaviour=noisy)
    actions = found.train.actions.numpy()
    assert abs(actions.mean() - 0.5) < 0.03 and 0.08 < actions.std() < 0.12
    assert marks(found) == marks(collect(odd, splits=name, behaviour=noisy, workers=2))
    for wrong in ({"share": 1.5}, {"exploration": -0.1}):
        with pytest.raises(ConfigError, match="must be between 0 and 1"):
            Behaviour("x", policy.make, **wrong)


def test_exploration_of_choices_takes_what_is_drawn():
    space, rng = ActionSpace.from_space(gym.spaces.Discrete(3, start=1)), np.random.default_rng(0)
    taken = [explored(space, 1, 3, 0.3, rng) for _ in range(2000)]
    assert set(taken) == {1, 3} and abs(np.mean(np.array(taken) == 3) - 0.3) < 0.04
    assert explored(space, 2, 3, 0.0, rng) == 2


def test_sticky_actions_last_as_long_as_they_should():
    space = ActionSpace.from_space(gym.spaces.Box(-1, 1, (1,)))
    actions = Sticky(4).sample(space, 200, 400, np.random.default_rng(0))[..., 0]
    changes = (np.diff(actions) != 0).mean()
    assert abs(changes - 0.25) < 0.01
    with pytest.raises(ConfigError, match=r"Sticky.steps must be at least 1, got 0"):
        Sticky(0)


def test_a_policy_that_breaks_its_space_is_named(clock_id):
    wrong = Behaviour("wrong", lambda env: lambda seen, taken: np.float32([np.nan]))
    with pytest.raises(gym.error.InvalidAction, match=r"^wrong, in step 1 .*seed .*action"):
        collect(clock_id, splits=SMALL, behaviour=wrong)
    lost = Behaviour("lost", lambda env: lambda seen, taken: {}["way"])
    with pytest.raises(SourceError, match=r"^lost raised KeyError in step 1 of .*test_workers.py"):
        collect(clock_id, splits=SMALL, behaviour=lost)


def test_a_native_environment_that_refuses_its_options_is_named():
    with pytest.raises(SourceError, match=r"^CartPole-v1 raised ValueError at its reset.*float"):
        collect("CartPole-v1", splits=SMALL, options={"low": 5, "high": "x"})


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_keeps_complete_episodes(tmp_path, odd, workers):
    words = ["collect", odd, "--out", "data", "--workers", workers, "--episodes", "200000"]
    count = tmp_path / "count"
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "ODD_COUNT": str(count)}
    process = subprocess.Popen(
        [sys.executable, "-m", "worldmodel.cli", *words, "--num-envs", "7"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        begun = time.monotonic()
        while not count.is_file() or count.stat().st_size < 100:
            assert process.poll() is None and time.monotonic() - begun < 60
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
        assert process.returncode == 130
    finally:
        process.kill()
    kept = load(tmp_path / "data")
    assert f"data keeps what was complete: train {len(kept.train)} episodes" in said
    assert len(kept.train) > 7 and set(kept.train.lengths) == {6}
    kept.verify()
    assert not _children_of(tmp_path)


def _children_of(folder: Path) -> list[str]:
    """Processes that still work in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found += [str(path)] if path.resolve() == folder.resolve() else []
        except OSError:
            continue
    return found


def test_a_space_that_no_policy_fits(tmp_path, odd, monkeypatch):
    from agents.behaviour import behaviour_of

    monkeypatch.chdir(tmp_path)
    assert behaviour_of("odd_envs:half", None).name == "odd_envs:half"
    for name in ("odd_envs:nothing", "no_such_module:x", "nothing"):
        with pytest.raises(SpecError, match=r"no policy .*expected a run .*'module:function'"):
            behaviour_of(name, None)
    with pytest.raises(FileNotFoundError, match=r"no file at 'sac.zip'"):
        behaviour_of("sac.zip", None)
