"""Empowerment as an intrinsic reward of any latent environment, single or vector."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv

from agents.empowerment.landscape import Estimator


class EmpowermentReward(gym.Wrapper):
    """``weight * empowerment(z') + task_weight * reward`` on arrival in z'.

    ``info["task_reward"]`` keeps what the environment paid, ``info["empowerment"]`` the nats.

    Args:
        env: Its observation is the latent state, as in ``worldmodel/Latent-v0`` or a real one seen
            through ``FilterObservation``.
        empowerment: Latent states (n, latent) in, nats (n,) out.
        weight: Reward per nat.
        task_weight: Of the environment's own reward; 0 ignores it.
    """

    def __init__(
        self, env: gym.Env, empowerment: Estimator, weight: float = 1.0, task_weight: float = 0.0
    ) -> None:
        super().__init__(env)
        self._empowerment, self._weights = empowerment, (weight, task_weight)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As the environment's, with the other reward."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        nats = float(_nats(self._empowerment, observation[None])[0])
        mixed = self._weights[0] * nats + self._weights[1] * float(reward)
        info = {**info, "task_reward": float(reward), "empowerment": nats}
        return observation, mixed, terminated, truncated, info


class VectorEmpowermentReward(gym.vector.VectorWrapper):
    """The same for vector environments, in any autoreset mode.

    Rewards of an episode's last step belong to the state it ended in: in SAME_STEP mode that is
    ``info["final_obs"]``. The step that begins an episode (NEXT_STEP) pays nothing.

    Args:
        env: As for ``EmpowermentReward``.
        empowerment: As for ``EmpowermentReward``.
        weight: Reward per nat.
        task_weight: Of the environment's own reward.
    """

    def __init__(
        self, env: VectorEnv, empowerment: Estimator, weight: float = 1.0, task_weight: float = 0.0
    ) -> None:
        super().__init__(env)
        self._empowerment, self._weights = empowerment, (weight, task_weight)
        self._ended = np.zeros(env.num_envs, np.bool_)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Reset; episodes that are begun anew have not ended."""
        mask = (options or {}).get("reset_mask")
        self._ended = self._ended & (False if mask is None else ~np.asarray(mask))
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As the environment's, with the other reward."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        arrived = np.array(observations)
        if "final_obs" in infos:
            done = infos["_final_obs"]
            arrived[done] = np.stack(list(infos["final_obs"][done]))
        nats = _nats(self._empowerment, arrived)
        mixed = self._weights[0] * nats + self._weights[1] * rewards
        if self.env.metadata["autoreset_mode"] is gym.vector.AutoresetMode.NEXT_STEP:
            mixed, nats = (np.where(self._ended, 0, values) for values in (mixed, nats))
            self._ended = terminated | truncated
        everyone = np.ones(self.num_envs, np.bool_)
        infos = {
            **infos,
            "task_reward": rewards,
            "_task_reward": everyone,
            "empowerment": nats,
            "_empowerment": everyone.copy(),
        }
        return observations, mixed.astype(rewards.dtype), terminated, truncated, infos


def _nats(empowerment: Estimator, states: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return empowerment(torch.from_numpy(np.asarray(states, np.float32))).cpu().numpy()
