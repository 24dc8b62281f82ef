"""Real environments. Importing this package registers their ids with Gymnasium."""

import gymnasium as gym

gym.register(
    id="worldmodel/Pendulum-v0",
    entry_point="envs.pendulum:Pendulum",
    vector_entry_point="envs.pendulum:PendulumVector",
    max_episode_steps=200,
)
gym.register(
    id="worldmodel/BouncingBall-v0",
    entry_point="envs.bouncing_ball:BouncingBall",
    vector_entry_point="envs.bouncing_ball:BouncingBallVector",
    max_episode_steps=200,
)
gym.register(
    id="worldmodel/TwoBouncingBalls-v0",
    entry_point="envs.bouncing_balls:BouncingBalls",
    vector_entry_point="envs.bouncing_balls:BouncingBallsVector",
    max_episode_steps=200,
)
