import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from linear_model import LinearModel, RealEnv, fit_support

from agents.evaluation import compare
from agents.rollout import rollout
from worldmodel.types import Belief
from worldmodel.world.filter import VectorFilterObservation
from worldmodel.world.vector_env import LatentVectorEnv


class Counter(gym.Env):
    """Ends after ``length`` steps and pays one more each step; its state is the step."""

    observation_space = gym.spaces.Box(-10, 100, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, length, truth=True):
        self.length, self.truth = length, truth

    def _observe(self):
        info = {"state": np.array([self.time, self.length], np.float32)} if self.truth else {}
        return np.array([self.time], np.float32), info

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = (options or {}).get("time", 0)
        return self._observe()

    def step(self, action):
        self.time += 1
        observation, info = self._observe()
        return observation, float(self.time), self.time == self.length, False, info


class Still:
    def predict(self, observation, deterministic=True):
        assert deterministic
        return np.zeros((len(observation), 1), np.float32), None


def counters(lengths, mode=AutoresetMode.NEXT_STEP, truth=True):
    makers = [lambda n=n: Counter(n, truth) for n in lengths]
    return SyncVectorEnv(makers, autoreset_mode=mode)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_nothing_counts_past_an_episodes_end(mode):
    run = rollout(Still(), counters([2, 5, 99], mode), steps=6, seed=0)
    assert run.mask.sum(1).tolist() == [2, 5, 6]
    assert run.returns.tolist() == [3.0, 15.0, 21.0]
    assert (run.rewards[~run.mask] == 0).all()
    assert run.observations.shape == (3, 7, 1) and run.actions.shape == (3, 6, 1)
    assert run.observations[2, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert run.states.shape == (3, 7, 2)


def test_it_stops_once_all_have_ended():
    run = rollout(Still(), counters([2, 3]), steps=50, seed=0)
    assert run.rewards.shape == (2, 3) and run.observations.shape[1] == 4


def test_options_reach_the_reset_and_truth_may_be_missing():
    run = rollout(Still(), counters([99], truth=False), steps=2, seed=0, options={"time": 10})
    assert run.observations[0, :, 0].tolist() == [10, 11, 12]
    assert run.states is None


def real_vector(world, n):
    makers = [lambda: gym.wrappers.TimeLimit(RealEnv(world), 30)] * n
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)


def test_dream_and_reality_start_from_the_same_frames(world):
    outcome = compare(Still(), world, real_vector(world, 6), steps=5, seed=3)
    np.testing.assert_allclose(outcome.dream.observations[:, 0], outcome.real.observations[:, 0])
    assert outcome.dream.mask.shape[0] == outcome.real.mask.shape[0] == 6
    assert np.ptp(outcome.real.observations[:, 0, 0]) > 0.1
    again = compare(Still(), world, real_vector(world, 6), steps=5, seed=3)
    np.testing.assert_array_equal(outcome.dream.observations, again.dream.observations)
    np.testing.assert_array_equal(outcome.real.observations, again.real.observations)
    other = compare(Still(), world, real_vector(world, 6), steps=5, seed=4)
    assert not np.array_equal(outcome.real.observations[:, 0], other.real.observations[:, 0])


class Moving(LinearModel):
    """Of which one frame tells nothing."""

    def initial(self, observations, actions, seen=None):
        belief = super().initial(observations, actions, seen)
        assert observations.shape[1] == actions.shape[1] + 1 <= 5
        return belief if actions.shape[1] else Belief(0 * belief.mean, belief.scale)


class Lasting(RealEnv):
    """Ends after so many steps."""

    def __init__(self, world, steps):
        super().__init__(world)
        self.steps = steps

    def reset(self, *, seed=None, options=None):
        self.left = self.steps
        return super().reset(seed=seed, options=options)

    def step(self, action):
        frame, reward, _, _, info = super().step(action)
        self.left -= 1
        return frame, reward, self.left == 0, False, info


class Limited(Lasting):
    """Cuts off after so many steps, and does not tell before."""

    def step(self, action):
        frame, reward, ended, _, info = super().step(action)
        return frame, reward, False, ended, info


def test_dreams_are_as_long_as_what_reality_cuts_off(world):
    for made, steps in ((Limited, 3), (Lasting, 8)):
        real = SyncVectorEnv([lambda made=made: made(world, 3)] * 2)
        outcome = compare(Still(), world, real, steps=8, seed=3)
        assert outcome.real.mask.shape[1] == 3
        assert outcome.dream.mask.shape[1] == outcome.foretold[0].alive.shape[1] == steps


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("shortest", [1, 2, 9])
def test_the_dream_begins_where_the_first_frames_of_reality_say(shortest, mode):
    world = fit_support(Moving(), 0.7)
    made = [lambda k=k: Lasting(world, k) for k in (9, 9, shortest)]
    outcome = compare(Still(), world, SyncVectorEnv(made, autoreset_mode=mode), 8, seed=3)
    first = world.model.initial(outcome.shown[:, :2], torch.zeros(3, 1, 1)).mean
    assert np.ptp(first[:, 0].numpy()) > 0.1, "they begin apart"
    began = first if shortest > 1 else 0 * first
    np.testing.assert_allclose(outcome.dream.observations[:, 0], began, atol=1e-5)
    assert (outcome.real.observations[:, 0] == 0).all(), "the live filter has one frame only"


def test_the_filter_tracks_what_the_dream_predicts_here(world):
    outcome = compare(Still(), world, real_vector(world, 20), steps=8, seed=3)
    both = outcome.dream.mask & outcome.real.mask
    distance = outcome.dream.observations[:, 1:] - outcome.real.observations[:, 1:]
    assert np.abs(distance[both]).mean() < 0.35  # the dream has process noise, reality has none


def test_metrics_are_means_over_episodes(world):
    outcome = compare(Still(), world, real_vector(world, 4), steps=5, seed=3)
    metrics = outcome.metrics()
    assert metrics["episodes"] == 4
    assert metrics["return_real"] == pytest.approx(outcome.real.rewards.sum() / 4)
    assert metrics["return_dream"] == pytest.approx(outcome.dream.rewards.sum() / 4)
    spread = np.std([r.sum() for r in outcome.dream.rewards])
    assert metrics["return_dream_std"] == pytest.approx(spread)


def test_an_agent_acts_alike_on_dreams_and_filters(world):
    dream = LatentVectorEnv(world, num_envs=3, noise=False, truncate_outside=False)
    real = VectorFilterObservation(real_vector(world, 3), world)
    assert dream.single_observation_space == real.single_observation_space
    for env in (dream, real):
        assert rollout(Still(), env, steps=2, seed=0).observations.shape == (3, 3, 2)


def test_who_remembers_gets_it_back_with_the_next_observation(world):
    class Counting:
        def predict(self, observation, state=0, deterministic=True):
            return np.full((len(observation), 1), 0.01 * state, np.float32), state + 1

    env = LatentVectorEnv(world, num_envs=3, truncate_outside=False)
    acted = rollout(Counting(), env, 5, seed=0)
    np.testing.assert_allclose(acted.actions[:, :, 0], np.tile(0.01 * np.arange(5), (3, 1)))
    rows, ends = np.arange(3), acted.lengths
    np.testing.assert_array_equal(acted.last, acted.observations[rows, ends])
