"""``InvertedPendulum-v5`` that a feedback keeps up, pushed about by the action.

Under random forces alone the pole falls and the episode ends within six steps: nothing could be
filtered or predicted for long, and a pole that has fallen lies still. The physics, the picture and
the rule that ends an episode are Gymnasium's; what the model sees as the action is added to the
feedback.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv

_ID = "InvertedPendulum-v5"
# Of position, angle, velocity and angular velocity, in units of the action. Found by trying: the
# pole stands for 200 steps, and sways as widely as it may.
_GAINS = np.array([0.3, 4.0, 0.4, 0.8])
_SHARE = 0.15  # of the action


class Steadied(InvertedPendulumEnv):
    """Its force is the feedback's and a share of the action, within the action's bounds."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step under both."""
        force = self._get_obs() @ _GAINS + _SHARE * np.asarray(action)
        bounds = self.action_space
        assert isinstance(bounds, gym.spaces.Box)
        within = np.clip(force, bounds.low, bounds.high).astype(np.float32)
        observation, reward, terminated, truncated, info = super().step(within)
        return observation, float(reward), terminated, truncated, info


# In place of Gymnasium's, so that the numbers keep their names.
gym.registry.pop(_ID)
gym.register(_ID, entry_point=Steadied, max_episode_steps=1000)
