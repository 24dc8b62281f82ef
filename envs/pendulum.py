"""A torque-controlled pendulum: its physics as pure functions, and one of it as an environment.

``m l^2 phi'' = -mu phi' + m g l sin(phi) + u`` with m = l = 1: the system of Karl et al. 2017,
section 4.1. phi = 0 is upright and unstable, phi grows counterclockwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from gymnasium.error import InvalidAction, ResetNeeded
from jaxtyping import Float32, Float64, Shaped

from envs.rendering import BLUR, Painter, Window, check_render_mode, draw_scene

GRAVITY = 9.81  # m/s^2
FRICTION = 0.5  # N m s
INTERVAL = 0.1  # s between two actions
SUBSTEPS = 4  # without friction, energy then drifts by less than 1e-4 of m g l in an episode
BABBLING_SPEED = 6.0  # rad/s
RENDER_SIZE = 256  # pixels

Observation = Literal["pixels", "state"]
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


@dataclass(frozen=True)
class PendulumConfig:
    """What a pendulum shows and how hard it can be turned; shared by both shells.

    Attributes:
        observation: "pixels" or "state".
        size: Width and height of the pixels.
        max_torque: N m.
        blur: Width of an edge in the pixels; see ``envs/rendering.py``.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    observation: Observation = "pixels"
    size: int = 16
    max_torque: float = 5.0
    blur: float = BLUR

    def __post_init__(self) -> None:
        if self.observation not in get_args(Observation):
            raise ValueError(f"observation must be 'pixels' or 'state', got {self.observation!r}")
        if not isinstance(self.size, int) or not 8 <= self.size <= 1024:
            raise ValueError(f"size must be an integer from 8 to 1024, got {self.size!r}")
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
    def action_space(self) -> gym.spaces.Box:
        """Torque in N m."""
        return gym.spaces.Box(-self.max_torque, self.max_torque, (1,), np.float32)

    @property
    def observation_space(self) -> gym.spaces.Box:
        """Pixels (size, size, 1) in [0, 255], or (phi, phi')."""
        if self.observation == "pixels":
            return gym.spaces.Box(0, 255, (self.size, self.size, 1), np.uint8)
        high = np.array([np.pi, self.max_speed], np.float32)
        return gym.spaces.Box(-high, high, dtype=np.float32)

    def observe(self, painter: Painter, angle: _Batch, velocity: _Batch) -> np.ndarray:
        """Fresh observations of n pendulums, (n, *obs)."""
        if self.observation == "pixels":
            return painter.draw(angle)
        return pack_state(angle, velocity)

    def read_torque(self, action: Any, shape: tuple[int, ...]) -> Float64[np.ndarray, " n"]:
        """Torques in N m, clipped to the action space as Pendulum-v1 does.

        Raises:
            InvalidAction: Not real numbers, not of ``shape``, or not finite.
        """
        try:
            values = np.asarray(action)
        except ValueError as error:
            raise InvalidAction(f"action must be an array of shape {shape}: {error}") from error
        if values.dtype.kind not in "fiu":
            raise InvalidAction(f"action must be real numbers, got dtype {values.dtype}: {action}")
        if values.shape != shape:
            raise InvalidAction(f"action must have shape {shape}, got {values.shape}")
        if not np.isfinite(values).all():
            raise InvalidAction(f"action must be finite, got {values}")
        return np.clip(values.reshape(-1).astype(np.float64), -self.max_torque, self.max_torque)

    def read_start(
        self, options: Mapping[str, Any] | None, count: int
    ) -> Float64[np.ndarray, "n 2"] | None:
        """Start states (phi, phi') that reset options ask for; None for babbling.

        Raises:
            ValueError: An unknown key or value; the message names it.
        """
        options = options or {}
        if unknown := set(options) - {"start", "state"}:
            raise ValueError(f"unknown reset options {sorted(map(str, unknown))}")
        if len(options) > 1:
            raise ValueError("reset options 'start' and 'state' exclude each other")
        if "state" in options:
            return self._read_state(options["state"], count)
        start = options.get("start", "babbling")
        if not isinstance(start, str) or start not in ("babbling", "hanging"):
            raise ValueError(f"option 'start' must be 'babbling' or 'hanging', got {start!r}")
        return np.tile([np.pi, 0.0], (count, 1)) if start == "hanging" else None

    def _read_state(self, value: Any, count: int) -> Float64[np.ndarray, "n 2"]:
        try:
            state = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"option 'state' must be (phi, phi'), got {value!r}") from error
        if state.shape not in ((2,), (count, 2)):
            raise ValueError(f"option 'state' must be (2,) or ({count}, 2), got {state.shape}")
        if not np.isfinite(state).all():
            raise ValueError(f"option 'state' must be finite, got {value!r}")
        if (np.abs(state[..., 1]) > self.max_speed).any():
            raise ValueError(f"option 'state' exceeds {self.max_speed} rad/s: {value!r}")
        return np.broadcast_to(state, (count, 2))


def babbling_start(generator: np.random.Generator) -> Float64[np.ndarray, " 2"]:
    """State with phi ~ U(-pi, pi) and phi' ~ U(-6, 6)."""
    return (2 * generator.random(2) - 1) * (np.pi, BABBLING_SPEED)


class Pendulum(gym.Env[Shaped[np.ndarray, "..."], Float32[np.ndarray, " 1"]]):
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

    Raises:
        ValueError: A bad argument, or bad reset options.
        gymnasium.error.InvalidAction: An action of wrong shape, of wrong dtype or not finite.
        gymnasium.error.ResetNeeded: Stepped or rendered before reset.
        gymnasium.error.DependencyNotInstalled: "human" without pygame.
    """

    # Gymnasium's base class declares it as an instance's; ClassVar would contradict that.
    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 10}  # noqa: RUF012 (see above)

    def __init__(
        self,
        observation: Observation = "pixels",
        size: int = 16,
        max_torque: float = 5.0,
        blur: float = BLUR,
        render_mode: str | None = None,
    ) -> None:
        self.config = PendulumConfig(observation, size, max_torque, blur)
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self.observation_space = self.config.observation_space
        self.action_space = self.config.action_space
        self._painter = Painter(size, blur=blur)
        self._state: tuple[np.ndarray, np.ndarray] | None = None
        self._torque = np.zeros(1)
        human = render_mode == "human"
        self._window = Window("Pendulum", self.metadata["render_fps"]) if human else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; see the class for ``options``."""
        start = self.config.read_start(options, 1)
        super().reset(seed=seed)
        if start is None:
            start = babbling_start(self.np_random)[None]
        self._state = wrap_angle(start[:, 0]), start[:, 1].copy()
        self._torque = np.zeros(1)
        return self._outcome()

    def step(
        self, action: Float32[np.ndarray, " 1"]
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply a torque for 0.1 s."""
        if self._state is None:
            raise ResetNeeded("call reset before step")
        self._torque = self.config.read_torque(action, (1,))
        paid = float(reward(*self._state, self._torque)[0])
        angle, velocity = rk4_step(*self._state, self._torque)
        self._state = wrap_angle(angle), velocity
        observation, info = self._outcome()
        return observation, paid, False, False, info

    def render(self) -> np.ndarray | None:
        """An RGB frame (256, 256, 3) in mode "rgb_array"; None otherwise."""
        if self._state is None:
            raise ResetNeeded("call reset before render")
        if self.render_mode is None:
            gym.logger.warn("render needs a render_mode: pass 'rgb_array' or 'human' to gym.make")
            return None
        frame = draw_scene(self._state[0], self._torque / self.config.max_torque, RENDER_SIZE)[0]
        if self._window is None:
            return frame
        self._window.show(frame)
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()

    def _outcome(self) -> tuple[np.ndarray, dict[str, Any]]:
        assert self._state is not None
        if self.render_mode == "human":
            self.render()
        observation = self.config.observe(self._painter, *self._state)[0]
        return observation, {"state": pack_state(*self._state)[0]}
