"""``InvertedPendulum-v5`` whose episodes go on after the pole has fallen, for the foreign systems.

Under random actions the pole falls within six steps, and Gymnasium's episode ends: nothing could
be filtered or predicted for long. The physics goes on as it is: the pole lies down.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv

_ID = "InvertedPendulum-v5"


class Unending(InvertedPendulumEnv):
    """Never terminates."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, and go on."""
        observation, reward, _, truncated, info = super().step(action)
        return observation, float(reward), False, truncated, info


# In place of Gymnasium's, so that the numbers keep their names.
gym.registry.pop(_ID)
gym.register(_ID, entry_point=Unending, max_episode_steps=1000)
