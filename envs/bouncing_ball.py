"""A ball in a box, pushed in two directions: physics as pure functions, and one or many of it.

The system of Karl et al. 2017, section 4.2: a control that is added to the velocity, and walls that
reflect. The paper gives no units. Here the ball's centre moves in [-1, 1]^2, so that lengths are in
half-widths of that square and physics does not depend on how large the ball is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from jaxtyping import Float32, Float64, UInt8

from envs.ball_rendering import draw_ball, draw_ball_scene
from envs.single import SystemEnv
from envs.system import Camera, Observation, Start, State, System
from envs.vector import SystemVectorEnv

INTERVAL = 0.1  # s between two actions
MAX_SPEED = 1.25  # half-widths per second along each axis, beyond which a push does nothing
RADIUS = 0.5  # half-widths

_Batch = Float64[np.ndarray, "*batch"]


def roll(position: _Batch, velocity: _Batch, seconds: float) -> tuple[_Batch, _Batch]:
    """Roll freely along one axis between elastic walls at -1 and 1.

    Exact for any speed and number of bounces: unfolded into a mirrored world without walls the
    ball rolls straight on, and folding that world back is a triangle wave. It changes the sign of
    a velocity and nothing else, so energy is conserved bit for bit.

    Args:
        position: In [-1, 1].
        velocity: Per second.
        seconds: Time to advance.

    Returns:
        Position, in [-1, 1], and velocity; exactly at a wall it may be that before the bounce.
    """
    straight = position + velocity * seconds
    phase = np.mod(straight + 1, 4)
    inside = np.abs(straight) <= 1  # these positions are returned bit for bit
    position = np.where(inside, straight, 1 - np.abs(phase - 2))
    return position, np.where(inside | (phase <= 2), velocity, -velocity)


def reward(position: Float64[np.ndarray, "n 2"], target: tuple[float, float]) -> _Batch:
    """Minus the distance to the target, in half-widths: at most 0."""
    return -np.hypot(position[:, 0] - target[0], position[:, 1] - target[1])


def wall_start(generator: np.random.Generator) -> Float64[np.ndarray, " 4"]:
    """At rest at a wall: one of the four, and a point of it, uniformly."""
    axis, side = divmod(int(generator.integers(4)), 2)
    state = np.zeros(4)
    state[axis] = 2 * side - 1
    state[1 - axis] = 2 * generator.random() - 1
    return state


def _read_target(value: Any) -> tuple[float, float]:
    numbers = tuple(value) if isinstance(value, tuple | list) else ()
    if len(numbers) != 2 or not all(isinstance(x, int | float) and abs(x) <= 1 for x in numbers):
        raise ValueError(f"target must be two numbers from -1 to 1, got {value!r}")
    return float(numbers[0]), float(numbers[1])


@dataclass(frozen=True)
class BouncingBallSystem(System):
    """States (x, y, vx, vy) under pushes.

    Attributes:
        observation: "pixels" or "state".
        size: Width and height of the pixels.
        max_push: Greatest change of velocity by one action along each axis, half-widths/s.
        max_speed: Greatest velocity along each axis, half-widths/s.
        target: x and y of the place where the reward is 0.
        radius: Standard deviation of the ball's brightness; see ``envs/ball_rendering.py``.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    max_push: float = 0.25
    max_speed: float = MAX_SPEED
    target: tuple[float, float] = (0.0, 0.0)
    radius: float = RADIUS

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.max_speed, int | float) or not 0 < self.max_speed <= 100:
            raise ValueError(f"max_speed must be in (0, 100], got {self.max_speed!r}")
        most = 2 * self.max_speed
        if not isinstance(self.max_push, int | float) or not 0 < self.max_push <= most:
            raise ValueError(
                f"max_push must be in (0, {most}], twice max_speed, got {self.max_push!r}"
            )
        if not isinstance(self.radius, int | float) or not 0.1 <= self.radius <= 1:
            raise ValueError(f"radius must be from 0.1 to 1, got {self.radius!r}")
        # A spec that went through JSON brings a list.
        object.__setattr__(self, "target", _read_target(self.target))

    @property
    def action_size(self) -> int:
        """One push along each axis."""
        return 2

    @property
    def action_limit(self) -> float:
        """Greatest push along each axis in half-widths/s."""
        return self.max_push

    @property
    def state_space(self) -> gym.spaces.Box:
        """(x, y, vx, vy) in half-widths and half-widths/s."""
        high = np.array(self._limits, np.float32)
        return gym.spaces.Box(-high, high, dtype=np.float32)

    @property
    def starts(self) -> Mapping[str, Start]:
        """Babbling, and at rest at a wall."""
        return {
            "babbling": lambda generator: (2 * generator.random(4) - 1) * self._limits,
            "wall": wall_start,
        }

    @property
    def _limits(self) -> tuple[float, float, float, float]:
        return (1, 1, self.max_speed, self.max_speed)

    def settle(self, state: State) -> State:
        """A copy; states outside the box or too fast are refused."""
        if (np.abs(state) > self._limits).any():
            raise ValueError(
                "option 'state' must have |x|, |y| <= 1 and |vx|, |vy| <= "
                f"{self.max_speed}: {state}"
            )
        return state.copy()

    def advance(
        self, state: State, action: Float64[np.ndarray, "n 2"]
    ) -> tuple[State, Float64[np.ndarray, " n"]]:
        """Add pushes to velocities, roll for 0.1 s; the reward is that of the state arrived at."""
        velocity = np.clip(state[:, 2:] + action, -self.max_speed, self.max_speed)
        position, velocity = roll(state[:, :2], velocity, INTERVAL)
        return np.concatenate([position, velocity], -1), reward(position, self.target)

    def truth(self, state: State) -> Float32[np.ndarray, "n 4"]:
        """The state, rounded to single precision."""
        return state.astype(np.float32)

    def camera(self, batch: int) -> Camera:
        """A soft ball, white on black."""
        return self._draw

    def _draw(self, state: State) -> UInt8[np.ndarray, "n size size 1"]:
        return draw_ball(state[:, :2], self.size, self.radius)

    def scene(
        self, state: State, action: Float64[np.ndarray, "n 2"], size: int
    ) -> UInt8[np.ndarray, "n size size 3"]:
        """The box in colour, with target and an arrow for the push."""
        return draw_ball_scene(state[:, :2], action / self.max_push, self.target, size)


class BouncingBall(SystemEnv):
    """One ball in a box, seen from above: ``worldmodel/BouncingBall-v0``.

    Lengths are in half-widths of the square [-1, 1]^2 that the ball's centre moves in.
    Action: a change of velocity in half-widths/s, Box (2,), +-``max_push``, made at once at the
    start of the control interval of 0.1 s; finite values outside are clipped. There is no friction.
    Each component of the velocity is clipped to +-``max_speed``; below that, energy changes by
    pushes only.
    Observation: grey pixels (size, size, 1) that show [-1.5, 1.5]^2, or (x, y, vx, vy), x to the
    right and y up; ``info["state"]`` always has the latter as float32, half-widths and
    half-widths/s. At 16 pixels and under uniformly random pushes the ball moves 0.53 pixels per
    frame on average, over the first 15 frames as over 100.
    Reward: minus the distance to ``target`` in half-widths, of the state after the step.
    Episode: never terminates; ``gym.make`` truncates it after 200 steps.
    Reset: x, y ~ U(-1, 1) and vx, vy ~ U(-max_speed, max_speed) ("babbling"), which random pushes
    keep as fast as it is, unless ``options`` say ``{"start": "wall"}``, at rest at a uniformly
    random point of the four walls, or ``{"state": (x, y, vx, vy)}``.

    Args:
        observation: "pixels" or "state".
        size: Width and height of the pixels, 8 to 1024.
        max_push: Half-widths/s, at most 2 ``max_speed``, which turns the fastest ball round.
        max_speed: Half-widths/s, at most 100.
        target: x and y, each in [-1, 1].
        radius: Standard deviation in half-widths of the brightness of the ball, 0.1 to 1.
        render_mode: "rgb_array", "human" (a pygame window in real time) or None.

    It raises what ``SystemEnv`` does.
    """

    def __init__(
        self,
        observation: Observation = "pixels",
        size: int = 16,
        max_push: float = 0.25,
        max_speed: float = MAX_SPEED,
        target: tuple[float, float] = (0.0, 0.0),
        radius: float = RADIUS,
        render_mode: str | None = None,
    ) -> None:
        system = BouncingBallSystem(observation, size, max_push, max_speed, target, radius)
        super().__init__(system, render_mode)


class BouncingBallVector(SystemVectorEnv):
    """N boxes with a ball each, ``worldmodel/BouncingBall-v0`` by ``gym.make_vec``.

    The arguments are those of ``BouncingBall`` and ``SystemVectorEnv``, whose errors it raises.
    """

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        observation: Observation = "pixels",
        size: int = 16,
        max_push: float = 0.25,
        max_speed: float = MAX_SPEED,
        target: tuple[float, float] = (0.0, 0.0),
        radius: float = RADIUS,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        system = BouncingBallSystem(observation, size, max_push, max_speed, target, radius)
        super().__init__(system, num_envs, max_episode_steps, render_mode, autoreset_mode)
