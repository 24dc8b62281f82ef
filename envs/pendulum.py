"""A torque-controlled pendulum: physics as pure functions, and one or many as environments.

``m l^2 phi'' = -mu phi' + m g l sin(phi) + u`` with m = l = 1: the system of Karl et al. 2017,
section 4.1. phi = 0 is upright and unstable, phi grows counterclockwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from jaxtyping import Float32, Float64, UInt8

from envs.pendulum_rendering import BLUR, Painter, draw_scene
from envs.single import SystemEnv
from envs.system import Camera, Observation, Start, State, System
from envs.vector import SystemVectorEnv

GRAVITY = 9.81  # m/s^2
FRICTION = 0.5  # N m s
INTERVAL = 0.1  # s between two actions
SUBSTEPS = 4  # without friction, energy then drifts by less than 1e-4 of m g l in an episode
BABBLING_SPEED = 6.0  # rad/s

_Batch = Float64[np.ndarray, "*batch"]


def wrap_angle(angle: _Batch) -> _Batch:
    """The same angle in (-pi, pi]; angles that lie there are returned bit for bit."""
    wrapped = angle - 2 * np.pi * np.ceil((angle - np.pi) / (2 * np.pi))
    wrapped = np.where(np.abs(wrapped) < np.pi, wrapped, np.pi)
    return np.where(np.abs(angle) < np.pi, angle, wrapped)


def derivative(
    angle: _Batch, velocity: _Batch, torque: _Batch, friction: float = FRICTION
) -> tuple[_Batch, _Batch]:
    """Rates of change of angle (rad/s) and velocity (rad/s^2) under a torque in N m."""
    return velocity, GRAVITY * np.sin(angle) - friction * velocity + torque


def rk4_step(
    angle: _Batch,
    velocity: _Batch,
    torque: _Batch,
    *,
    seconds: float = INTERVAL,
    substeps: int = SUBSTEPS,
    friction: float = FRICTION,
) -> tuple[_Batch, _Batch]:
    """Integrate under constant torque with the classical fourth-order Runge-Kutta method.

    Args:
        angle: Radians.
        velocity: rad/s.
        torque: N m.
        seconds: Time to advance.
        substeps: Equal steps to take; the global error falls with their fourth power.
        friction: mu in N m s; zero conserves energy.

    Returns:
        Angle, not wrapped, and velocity after ``seconds``.
    """
    step = seconds / substeps
    for _ in range(substeps):
        v1, a1 = derivative(angle, velocity, torque, friction)
        v2, a2 = derivative(angle + step / 2 * v1, velocity + step / 2 * a1, torque, friction)
        v3, a3 = derivative(angle + step / 2 * v2, velocity + step / 2 * a2, torque, friction)
        v4, a4 = derivative(angle + step * v3, velocity + step * a3, torque, friction)
        angle = angle + step / 6 * (v1 + 2 * (v2 + v3) + v4)
        velocity = velocity + step / 6 * (a1 + 2 * (a2 + a3) + a4)
    return angle, velocity


def reward(angle: _Batch, velocity: _Batch, torque: _Batch) -> _Batch:
    """-(phi^2 + 0.1 phi'^2 + 0.001 u^2), phi wrapped: at most 0, which only upright rest earns.

    Source: Gymnasium's Pendulum-v1.
    """
    return -(wrap_angle(angle) ** 2 + 0.1 * velocity**2 + 0.001 * torque**2)


def pack_state(angle: _Batch, velocity: _Batch) -> Float32[np.ndarray, "*batch 2"]:
    """Ground truth (phi, phi') in single precision; -pi, which rounding can reach, becomes pi."""
    state = np.stack([angle, velocity], -1).astype(np.float32)
    limit = np.float32(np.pi)
    state[..., 0] = np.where(state[..., 0] <= -limit, limit, state[..., 0])
    return state


def babbling_start(generator: np.random.Generator) -> Float64[np.ndarray, " 2"]:
    """State with phi ~ U(-pi, pi) and phi' ~ U(-6, 6)."""
    return (2 * generator.random(2) - 1) * (np.pi, BABBLING_SPEED)


def hanging_start(generator: np.random.Generator) -> Float64[np.ndarray, " 2"]:
    """Exactly (pi, 0); draws nothing."""
    return np.array([np.pi, 0.0])


@dataclass(frozen=True)
class PendulumSystem(System):
    """States (phi, phi') under a torque.

    Attributes:
        observation: "pixels" or "state".
        size: Width and height of the pixels.
        max_torque: N m.
        blur: Width of an edge in the pixels; see ``envs/pendulum_rendering.py``.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    max_torque: float = 5.0
    blur: float = BLUR

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.max_torque, int | float) or not 0 < self.max_torque < np.inf:
            raise ValueError(f"max_torque must be finite and positive, got {self.max_torque!r}")
        if not isinstance(self.blur, int | float) or not 1 <= self.blur <= self.size:
            raise ValueError(f"blur must be from 1 to size pixels, got {self.blur!r}")

    @property
    def max_speed(self) -> float:
        """Speed in rad/s that no trajectory from a slower start exceeds, as a float32.

        At this speed friction balances the greatest torque and gravity together, so |phi'| cannot
        grow any more; nothing is clipped.
        """
        speed = (self.max_torque + GRAVITY) / FRICTION
        return float(np.nextafter(np.float32(speed), np.float32(np.inf)))

    @property
    def action_size(self) -> int:
        """One torque."""
        return 1

    @property
    def action_limit(self) -> float:
        """Greatest torque in N m."""
        return self.max_torque

    @property
    def state_space(self) -> gym.spaces.Box:
        """(phi, phi') in rad and rad/s."""
        high = np.array([np.pi, self.max_speed], np.float32)
        return gym.spaces.Box(-high, high, dtype=np.float32)

    @property
    def starts(self) -> Mapping[str, Start]:
        """Babbling and hanging."""
        return {"babbling": babbling_start, "hanging": hanging_start}

    def settle(self, state: State) -> State:
        """Wrap the angles; a speed above ``max_speed`` is refused."""
        angle, velocity = state.T
        if (np.abs(velocity) > self.max_speed).any():
            raise ValueError(f"option 'state' exceeds {self.max_speed} rad/s: {state}")
        return np.array([wrap_angle(angle), velocity]).T

    def advance(
        self, state: State, action: Float64[np.ndarray, "n 1"]
    ) -> tuple[State, Float64[np.ndarray, " n"]]:
        """Apply torques for 0.1 s; the reward is that of the state before."""
        angle, velocity = np.ascontiguousarray(state.T)
        torque = action[:, 0]
        paid = reward(angle, velocity, torque)
        angle, velocity = rk4_step(angle, velocity, torque)
        return np.array([wrap_angle(angle), velocity]).T, paid

    def truth(self, state: State) -> Float32[np.ndarray, "n 2"]:
        """See ``pack_state``."""
        return pack_state(*state.T)

    def camera(self, batch: int) -> Camera:
        """Rod and bob, white on black."""
        return partial(_draw, Painter(self.size, batch, self.blur))

    def scene(
        self, state: State, action: Float64[np.ndarray, "n 1"], size: int
    ) -> UInt8[np.ndarray, "n size size 3"]:
        """The same in colour, with an arrow for the torque."""
        return draw_scene(state[:, 0], action[:, 0] / self.max_torque, size)


def _draw(painter: Painter, state: State) -> UInt8[np.ndarray, "n size size 1"]:
    return painter.draw(state[:, 0].copy())


class Pendulum(SystemEnv):
    """One pendulum, ``worldmodel/Pendulum-v0``.

    Action: torque in N m, Box (1,), +-``max_torque``; finite values outside are clipped. With 5 it
    cannot be lifted directly, which takes 9.81, but it can be swung up; with 2 it cannot.
    Observation: grey pixels (size, size, 1), or (phi, phi'); ``info["state"]`` always has the
    latter as float32, phi in (-pi, pi], rad/s. Control interval: 0.1 s.
    Reward: see ``reward``, of the state before the step and the clipped torque.
    Episode: never terminates; ``gym.make`` truncates it after 200 steps.
    Reset: phi ~ U(-pi, pi), phi' ~ U(-6, 6) ("babbling"), unless ``options`` say
    ``{"start": "hanging"}``, exactly (pi, 0), or ``{"state": (phi, phi')}``.

    Args:
        observation: "pixels" or "state".
        size: Width and height of the pixels, 8 to 1024.
        max_torque: N m.
        blur: Width in pixels of an edge in the pixels, 1 (sharp) to ``size``.
        render_mode: "rgb_array", "human" (a pygame window in real time) or None.

    It raises what ``SystemEnv`` does.
    """

    def __init__(
        self,
        observation: Observation = "pixels",
        size: int = 16,
        max_torque: float = 5.0,
        blur: float = BLUR,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(PendulumSystem(observation, size, max_torque, blur), render_mode)


class PendulumVector(SystemVectorEnv):
    """N pendulums, ``worldmodel/Pendulum-v0`` by ``gym.make_vec``.

    The arguments are those of ``Pendulum`` and ``SystemVectorEnv``, whose errors it raises.
    """

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        observation: Observation = "pixels",
        size: int = 16,
        max_torque: float = 5.0,
        blur: float = BLUR,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        system = PendulumSystem(observation, size, max_torque, blur)
        super().__init__(system, num_envs, max_episode_steps, render_mode, autoreset_mode)
