import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from linear_model import RealEnv

from agents.recording import record_agent


class Push:
    """Pushes towards the origin, by what the filter believes; keeps what it saw."""

    def __init__(self):
        self.seen = []

    def predict(self, observation, deterministic=True):
        self.seen.append(observation)
        return np.clip(-observation[:, :1], -1, 1).astype(np.float32), None


@pytest.fixture
def make(world):
    return lambda: gym.wrappers.TimeLimit(RealEnv(world), 12)


def test_a_recording_is_what_the_environments_did(world, make):
    agent, steps = Push(), []
    batch = record_agent(
        agent, world, SyncVectorEnv([make] * 3), 9, 4, None, lambda: steps.append(1)
    )
    assert batch.observations.shape == (3, 10, 4, 4, 1) and len(steps) == 9
    for i in range(3):
        env = make()
        frame, _ = env.reset(seed=4 + i)
        np.testing.assert_array_equal(batch.observations[i, 0].numpy(), frame)
        for t in range(int(batch.mask[i].sum())):
            frame, reward, terminated, *_ = env.step(batch.actions[i, t].numpy())
            np.testing.assert_array_equal(batch.observations[i, t + 1].numpy(), frame)
            assert batch.rewards[i, t] == reward and batch.terminated[i, t] == terminated


def test_the_agent_acts_on_the_filters_belief(world, make):
    agent = Push()
    batch = record_agent(agent, world, SyncVectorEnv([make] * 2), 9, 0)
    latents = world.filter(batch.observations.numpy(), batch.actions.numpy())
    alive = batch.frame_mask.numpy()
    seen = np.stack(agent.seen, 1)
    np.testing.assert_allclose(seen[alive[:, :-1]], latents[:, :-1][alive[:, :-1]], atol=1e-5)


def test_what_ends_early_is_padded(world):
    def short(length):
        return lambda: gym.wrappers.TimeLimit(RealEnv(world), length)

    env = SyncVectorEnv([short(2), short(5)])
    batch = record_agent(Push(), world, env, 9, 0)
    assert batch.mask.sum(1).tolist() == [2, 5] and batch.steps == 5
    assert batch.truncated.nonzero().tolist() == [[0, 1], [1, 4]]
    assert (batch.observations[0, 2:] == batch.observations[0, 2]).all()
    assert (batch.actions[0, 2:] == 0).all() and (batch.rewards[0, 2:] == 0).all()
