"""Real environments. Importing this package registers their ids with Gymnasium."""

import gymnasium as gym

gym.register(
    id="worldmodel/Pendulum-v0",
    entry_point="envs.pendulum:Pendulum",
    vector_entry_point="envs.pendulum:PendulumVector",
    max_episode_steps=200,
)
