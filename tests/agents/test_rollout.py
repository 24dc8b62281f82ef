import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from linear_model import RealEnv

from agents.evaluation import at_target_share, compare, in_middle_share, upright_share
from agents.rollout import rollout
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


def swing(angles):
    return np.stack([angles, np.zeros_like(angles)], -1)


def test_upright_means_upright_in_every_one_of_the_last_frames():
    up, down, turns = 0.0, np.pi, 4 * np.pi
    angles = np.full((5, 30), down)
    angles[0] = up
    angles[1, 10:] = up  # swung up in time
    angles[2] = up
    angles[2, -3] = 0.4  # cos 0.4 = 0.92: fell once
    angles[3, :-20] = up  # fell at the end
    angles[4] = turns + 0.3  # cos 0.3 = 0.955, after two turns
    assert upright_share(swing(angles)) == pytest.approx(3 / 5)
    assert upright_share(swing(angles), last=2) == pytest.approx(4 / 5)
    assert upright_share(swing(angles), cosine=0.9) == pytest.approx(4 / 5)
    assert upright_share(swing(angles), cosine=0.96) == pytest.approx(2 / 5)


def test_at_the_target_means_there_after_every_one_of_the_last_steps():
    rewards = np.full((4, 30), -1.5)
    rewards[0] = -0.1
    rewards[1, 10:] = -0.1  # there in time
    rewards[2] = -0.1
    rewards[2, -3] = -0.25  # left once
    rewards[3, :-20] = -0.1  # left for good
    assert at_target_share(rewards) == pytest.approx(2 / 4)
    assert at_target_share(rewards, last=2) == pytest.approx(3 / 4)
    assert at_target_share(rewards, within=0.3) == pytest.approx(3 / 4)
    assert at_target_share(rewards, within=0.05) == 0


def test_in_the_middle_means_along_both_axes_in_every_last_frame():
    states = np.zeros((4, 30, 4))
    states[1, -1, 0] = 0.6
    states[2, :5, 1] = 0.9
    states[3, -10, 1] = -0.55
    states[:, :, 2] = 7.0
    assert in_middle_share(states) == pytest.approx(2 / 4)
    assert in_middle_share(states, last=5) == pytest.approx(3 / 4)
    assert in_middle_share(states, within=0.7) == 1
