import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from linear_model import LinearModel, fit_support

from agents.empowerment import EmpowermentReward, VectorEmpowermentReward, fit_landscape
from worldmodel.world.env import LatentEnv
from worldmodel.world.vector_env import LatentVectorEnv


def nats(states):
    return states[:, 0].square() + 1


@pytest.fixture
def world():
    return fit_support(LinearModel(), 0.7)


def test_the_single_wrapper_pays_for_the_state_arrived_in(world):
    env = EmpowermentReward(LatentEnv(world), nats, weight=2.0, task_weight=0.5)
    env.reset(seed=0)
    state, reward, _, _, info = env.step(np.zeros(1, np.float32))
    assert info["empowerment"] == pytest.approx(float(state[0]) ** 2 + 1, rel=1e-5)
    assert reward == pytest.approx(2 * info["empowerment"] + 0.5 * info["task_reward"])
    assert isinstance(env, gym.Wrapper)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_vector_wrapper_pays_where_an_episode_ends_and_not_where_one_begins(world, mode):
    plain = LatentVectorEnv(world, 8, max_episode_steps=5, autoreset_mode=mode)
    env = VectorEmpowermentReward(plain, nats)
    env.reset(seed=0)
    ended = np.zeros(8, bool)
    for _ in range(23):
        states, rewards, terminated, truncated, infos = env.step(np.zeros((8, 1), np.float32))
        arrived = np.array(states)
        if "final_obs" in infos:
            arrived[infos["_final_obs"]] = np.stack(list(infos["final_obs"][infos["_final_obs"]]))
        expected = nats(torch.from_numpy(arrived)).numpy()
        if mode is AutoresetMode.NEXT_STEP:
            expected[ended] = 0
        np.testing.assert_allclose(rewards, expected, rtol=1e-5)
        ended = terminated | truncated
    assert ended.dtype == bool


def test_a_landscape_learns_an_estimator_and_its_gradient():
    states = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    landscape = fit_landscape(nats, states, updates=800, progress=False)
    assert landscape.r2 > 0.98
    probe = torch.tensor([[0.5, 0.0], [-1.0, 0.5]], requires_grad=True)
    (slope,) = torch.autograd.grad(landscape(probe).sum(), probe)
    torch.testing.assert_close(slope, torch.tensor([[1.0, 0.0], [-2.0, 0.0]]), atol=0.35, rtol=0)
    assert landscape.minimum == pytest.approx(1.0, abs=0.01) and landscape.maximum > 5
