"""Environments that fail: what was gathered is kept, and it goes on or stops with one error."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from online_worlds import CONFIG, Bad, Cart, build

from worldmodel import data
from worldmodel.data import Source
from worldmodel.errors import SourceError, SpecError
from worldmodel.online.learn import learn
from worldmodel.online.reality import Rig
from worldmodel.online.watching import Watcher

SHORT = replace(CONFIG, evaluate_every=0, evaluate_episodes=1, timeout=0.5)


class Listening(Watcher):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.rows: list[dict] = []

    def row(self, row):
        self.rows.append(row)

    def note(self, sentence):
        self.notes.append(sentence)


def learned(run, how, first, last=10**9, config=SHORT):
    Bad.episodes = 0
    listening = Listening()
    kwargs = {"how": how, "first": first, "last": last}
    learn(Source("test/Bad-v0", kwargs), run, 60, config, build, watcher=listening)
    return listening.notes


@pytest.mark.parametrize(
    ("how", "said", "kept"),
    [
        ("dies", "RuntimeError: the motor is gone", 3),
        ("hangs", "TimeoutError: no answer within 0.5 s", 3),
        ("pays nan", "not finite after 3 steps", 3),
        ("shows nan", "nan", 3),
    ],
)
def test_a_bad_episode_is_cut_and_said_and_the_loop_goes_on(how, said, kept, tmp_path):
    notes = learned(tmp_path, how, 2, 2)
    assert len(notes) == 1 and said in notes[0]
    dataset = data.load(tmp_path / "data")
    lengths = np.concatenate([dataset.split(name).lengths for name in dataset.splits])
    assert kept in lengths, "its good steps are kept"
    assert lengths.sum() >= 60
    assert notes[0] in dataset.provenance.notes
    dataset.verify()
    assert all(dataset.split(name).rewards.isfinite().all() for name in dataset.splits)


@pytest.mark.parametrize("how", ["dies", "shows nan"])
def test_what_never_works_again_stops_with_one_error_and_keeps_what_there_was(how, tmp_path):
    with pytest.raises(SourceError, match="in 3 groups in a row"):
        learned(tmp_path, how, 4)
    dataset = data.load(tmp_path / "data")
    lengths = [n for name in dataset.splits for n in dataset.split(name).lengths]
    assert len(lengths) == 6, "three whole ones, and three of three steps"
    assert lengths.count(3) == 3


def test_after_the_repair_the_same_command_goes_on(tmp_path):
    with pytest.raises(SourceError):
        learned(tmp_path, "dies", 3)
    learned(tmp_path, "dies", 10**6)
    dataset = data.load(tmp_path / "data")
    assert sum(int(dataset.split(n).lengths.sum()) for n in ("train", "validation")) >= 60


def test_spaces_that_change_stop_it(tmp_path):
    with pytest.raises(SourceError, match="declared observation space"):
        learned(tmp_path, "changes", 3)
    other = gym.make_vec("CartPole-v1", 1)
    with pytest.raises(SpecError, match="of the dataset are"):
        learn(other, tmp_path, 60, SHORT, build)
    other.close()


def test_an_environment_that_resets_in_the_same_step_is_refused(tmp_path):
    kwargs = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
    env = gym.make_vec("test/Cart-v0", 2, vectorization_mode="sync", vector_kwargs=kwargs)
    with pytest.raises(SpecError, match="NEXT_STEP or DISABLED"):
        learn(env, tmp_path, 60, SHORT, build)
    env.close()


def test_a_vector_environment_plays_groups_and_stays_open(tmp_path):
    env = gym.make_vec("test/Cart-v0", 3, vectorization_mode="sync")
    world = learn(env, tmp_path, 60, SHORT, build)
    assert world.source is None
    env.reset(seed=0)
    dataset = data.load(tmp_path / "data")
    assert len(dataset.validation) == 3, "a group at a time"
    env.close()


# Gymnasium warns of what a process raised before it raises it, too.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_processes_of_their_own_die_alone(tmp_path):
    config = replace(SHORT, parallel=True, num_envs=2, timeout=20.0)
    notes = learned(tmp_path, "dies", 2, 2, config)
    assert notes and "RuntimeError: the motor is gone" in notes[0]
    assert data.load(tmp_path / "data").train.frames


class Motor:
    """A rig: the same cart behind two functions, of which one may be slow or fail."""

    def __init__(self) -> None:
        self.cart, self.taken, self.broken = Cart(), 0, False

    def reset(self):
        return self.cart.reset(seed=self.taken)[0]

    def step(self, action):
        self.taken += 1
        if self.broken and self.taken > 50:
            raise KeyboardInterrupt
        return self.cart.step(action)[0]

    def rig(self, **options) -> Rig:
        spaces = self.cart.observation_space, self.cart.action_space
        paid = lambda before, action, after: -abs(float(after[0]))  # noqa: E731
        return Rig(self.step, self.reset, *spaces, steps=12, reward=paid, **options)


def test_a_rig_tells_how_late_its_actions_were(tmp_path):
    watcher, motor = Listening(), Motor()
    learn(motor.rig(deadline=1e-9), tmp_path, 60, SHORT, build, watcher=watcher)
    assert sum(row["late"] for row in watcher.rows) == motor.taken, "nobody is so fast"
    assert all(row["slowest_action"] > 1e-9 for row in watcher.rows)
    dataset = data.load(tmp_path / "data")
    rewards = dataset.train.padded().rewards
    seen = dataset.train.padded().observations[:, 1:, 0]
    mask = dataset.train.mask
    np.testing.assert_allclose(rewards[mask], -seen[mask].abs(), rtol=1e-6)


def test_of_a_rig_the_cut_episode_is_kept_on_ctrl_c(tmp_path):
    motor = Motor()
    motor.broken = True
    with pytest.raises(KeyboardInterrupt):
        learn(motor.rig(), tmp_path, 60, SHORT, build)
    dataset = data.load(tmp_path / "data")
    kept = sum(int(dataset.split(name).lengths.sum()) for name in dataset.splits)
    assert kept == 50
    motor.broken = False
    learn(motor.rig(), tmp_path, 60, SHORT, build)
    assert motor.taken >= 60
