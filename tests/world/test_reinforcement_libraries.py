"""TorchRL, skrl, RLlib and CleanRL's wrappers step dreams and filtered environments.

None of these libraries is an extra of ours: what they were seen to do is in docs/results.md.
"""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import envs  # noqa: F401 (registers the real ones)
import worldmodel

KINDS = ["dream", "filtered"]


def single(kind, **kwargs):
    if kind == "dream":
        return gym.make("worldmodel/LatentPendulum-v0", **kwargs)
    return worldmodel.FilterObservation(gym.make("worldmodel/Pendulum-v0", **kwargs), "pendulum")


def vector(kind, mode, episode=4):
    kwargs = {"autoreset_mode": mode, "max_episode_steps": episode}
    if kind == "dream":
        return worldmodel.load("pendulum").vector_env(3, truncate_outside=False, **kwargs)
    real = gym.make_vec("worldmodel/Pendulum-v0", 3, **kwargs)
    return worldmodel.VectorFilterObservation(real, "pendulum")


# What the libraries warn of, such as each other's versions, is theirs.
@pytest.mark.filterwarnings("default")
class TestTorchRL:
    @pytest.fixture
    def wrapper(self):
        pytest.importorskip("torchrl", reason="needs TorchRL")
        from torchrl.envs import GymWrapper

        return GymWrapper

    @pytest.mark.parametrize("kind", KINDS)
    def test_of_a_single_environment_all_specs_hold(self, kind, wrapper):
        from torchrl.envs.utils import check_env_specs

        env = wrapper(single(kind))
        check_env_specs(env)
        assert env.rollout(6)["next", "reward"].shape == (6, 1)

    @pytest.mark.parametrize("mode", [AutoresetMode.DISABLED, AutoresetMode.SAME_STEP])
    @pytest.mark.parametrize("kind", KINDS)
    def test_vectors_are_rolled_out_through_ends(self, kind, mode, wrapper):
        env = wrapper(vector(kind, mode))
        env.set_seed(0)
        rolled = env.rollout(10, break_when_any_done=False)
        ended = rolled["next", "done"][..., 0]
        assert ended.shape == (3, 10) and ended[:, 3::4].all() and ended.sum() == 6
        assert rolled["next", "observation"].isfinite().all()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", KINDS)
def test_skrl_steps_vectors(kind):
    torch_envs = pytest.importorskip("skrl.envs.wrappers.torch", reason="needs skrl")
    env = torch_envs.wrap_env(vector(kind, AutoresetMode.NEXT_STEP), wrapper="gymnasium")
    observations, _ = env.reset()
    for _ in range(6):
        observations, rewards, ended, truncated, _ = env.step(torch.zeros(3, 1))
        assert rewards.shape == ended.shape == truncated.shape == (3, 1)
        assert observations.shape[0] == 3 and observations.isfinite().all()


@pytest.mark.filterwarnings("default")
def test_an_env_runner_of_rllib_samples():
    pytest.importorskip("ray.rllib", reason="needs RLlib", exc_type=ImportError)
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    config = PPOConfig().environment("worldmodel/LatentPendulum-v0")
    runner = SingleAgentEnvRunner(config=config.env_runners(num_envs_per_env_runner=2))
    try:
        episodes = runner.sample(num_timesteps=20, random_actions=True)
        assert sum(len(episode) for episode in episodes) >= 20
    finally:
        runner.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_the_wrappers_of_cleanrl_go_around(kind):
    """As in its ``ppo_continuous_action.py``."""

    def make():
        env = gym.wrappers.FlattenObservation(single(kind, max_episode_steps=4))
        env = gym.wrappers.ClipAction(gym.wrappers.RecordEpisodeStatistics(env))
        env = gym.wrappers.NormalizeObservation(env)
        env = gym.wrappers.TransformObservation(env, lambda o: np.clip(o, -10, 10), None)
        env = gym.wrappers.NormalizeReward(env, gamma=0.99)
        return gym.wrappers.TransformReward(env, lambda reward: np.clip(reward, -10, 10))

    both = gym.vector.SyncVectorEnv([make, make])
    both.reset(seed=1)
    returns = []
    for _ in range(9):
        observations, rewards, *_, infos = both.step(both.action_space.sample())
        assert np.isfinite(observations).all() and np.isfinite(rewards).all()
        returns += list(infos["episode"]["r"][infos["_episode"]]) if "episode" in infos else []
    assert len(returns) == 4 and all(value < 0 for value in returns)
