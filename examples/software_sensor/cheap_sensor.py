"""A cheap sensor on a shaky pendulum, as a Gymnasium environment.

Two voltages stand in for the angle phi. Both are bent, noisy and drift; none shows the velocity.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from envs.pendulum import INTERVAL, Pendulum

MAX_TORQUE = 5.0  # N m, of the commands
TORQUE_NOISE = 0.5  # N m, standard deviation of what the motor adds to every command
NOISE = 0.2  # V, standard deviation of the white noise on each channel
DRIFT = 0.3  # V, standard deviation of each channel's drift
DRIFT_SECONDS = 10.0  # s, in which a drift forgets itself (Ornstein-Uhlenbeck)
DECAY = float(np.exp(-INTERVAL / DRIFT_SECONDS))  # of a drift, per step
WANDER = DRIFT * float(np.sqrt(1 - DECAY**2))  # V, what a drift gains per step
RANGE = 5.0  # V; a reading would have to be off by eleven standard deviations to be clipped

ENV_ID = "CheapPendulum-v0"


def response(angle: np.ndarray) -> np.ndarray:
    """Voltages (*n, 2) without noise and drift, of angles (*n,) in rad.

    The first follows sin phi and saturates to either side; the second follows cos phi and goes flat
    where the pendulum hangs.
    """
    return np.stack([np.tanh(2 * np.sin(angle)), 2 * np.exp(np.cos(angle) - 1) - 1], -1)


class CheapSensor(gym.Wrapper):
    """Two voltages in place of the pendulum's state, and a motor that is not quite obedient.

    Action: torque in N m, Box (1,), +-``MAX_TORQUE``, to which the motor adds white noise.
    Observation: ``response`` plus drift plus white noise, in V, Box (2,). ``info["state"]`` still
    has the truth. Drifts begin in their stationary law at every reset. Time, reward and the end of
    episodes are the pendulum's.

    Args:
        env: A pendulum whose torque limit leaves room for the noise.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.action_space = gym.spaces.Box(-MAX_TORQUE, MAX_TORQUE, (1,), np.float32)
        self.observation_space = gym.spaces.Box(-RANGE, RANGE, (2,), np.float32)
        self._drift = np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset the pendulum and draw new drifts."""
        _, info = self.env.reset(seed=seed, options=options)
        self._drift = DRIFT * self.np_random.standard_normal(2)
        return self._read(info["state"]), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Step the pendulum under a torque that is not quite the one asked for."""
        wanted = np.clip(action, -MAX_TORQUE, MAX_TORQUE)
        torque = wanted + TORQUE_NOISE * self.np_random.standard_normal(1)
        _, reward, terminated, truncated, info = self.env.step(torque.astype(np.float32))
        self._drift = DECAY * self._drift + WANDER * self.np_random.standard_normal(2)
        return self._read(info["state"]), reward, terminated, truncated, info

    def _read(self, state: np.ndarray) -> np.ndarray:
        noise = NOISE * self.np_random.standard_normal(2)
        reading = response(state[0].astype(np.float64)) + self._drift + noise
        return np.clip(reading, -RANGE, RANGE).astype(np.float32)


def cheap_pendulum() -> gym.Env:
    """The pendulum behind its sensor; its limit leaves room for six deviations of torque noise."""
    return CheapSensor(Pendulum("state", max_torque=MAX_TORQUE + 6 * TORQUE_NOISE))


gym.register(ENV_ID, f"{__name__}:cheap_pendulum", max_episode_steps=200)
