"""Balls that bounce off each other and off walls: physics as pure functions, one or many boxes.

The system of Sutskever and Hinton 2007 that Karl et al. 2017 learn in section 4.3, with its crude
physics: collisions are found once per substep, when balls overlap already, and nobody moves them
apart. Balls therefore overlap a little, and a wall is entered a little, which the pictures show
too. Total kinetic energy is conserved all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float32, Float64, UInt8

from envs.ball_rendering import BALL_RADIUS, BOX, draw_balls, draw_balls_scene
from envs.single import SystemEnv
from envs.system import Camera, Observation, Start, State, System
from envs.vector import SystemVectorEnv

SUBSTEP = 0.5
SUBSTEPS = 2  # per frame
SPEED = 0.5  # norm of all balls' velocities together
MAX_BALLS = 6  # of 1,000 random placements of six balls nine do not overlap; of seven, one

_Balls = Float64[np.ndarray, "n balls 2"]
_CANDIDATES = 64  # placements drawn at a time


def overlapping(position: _Balls) -> Bool[np.ndarray, " n"]:
    """Whether any two balls of a box overlap."""
    i, j = np.triu_indices(position.shape[1], 1)
    distance = np.hypot(*(position[:, i] - position[:, j]).transpose(2, 0, 1))
    return (distance < 2 * BALL_RADIUS).any(-1)


def bounce(position: _Balls, velocity: _Balls) -> _Balls:
    """Velocities after all bounces at the present positions.

    A ball that reaches into a wall gets the velocity that leads away from it. Then overlapping
    pairs exchange the parts of their velocities that lie along the line of their centres, as equal
    masses do, one pair after the other.
    """
    away = np.where(position < BALL_RADIUS, np.abs(velocity), velocity)
    velocity = np.where(position > BOX - BALL_RADIUS, -np.abs(velocity), away)
    for i in range(position.shape[1]):
        for j in range(i):
            apart = position[:, i] - position[:, j]
            distance = np.hypot(apart[:, 0], apart[:, 1])[:, None]
            # Balls in one place have no line of centres: they exchange nothing.
            line = apart / np.maximum(distance, np.finfo(float).tiny)
            along = ((velocity[:, i] - velocity[:, j]) * line).sum(-1, keepdims=True)
            exchanged = np.where(distance < 2 * BALL_RADIUS, along, 0.0) * line
            velocity[:, i] -= exchanged
            velocity[:, j] += exchanged
    return velocity


def roll(position: _Balls, velocity: _Balls) -> tuple[_Balls, _Balls]:
    """Fresh positions and velocities one frame, two substeps of 0.5, later."""
    for _ in range(SUBSTEPS):
        position = position + SUBSTEP * velocity
        velocity = bounce(position, velocity)
    return position, velocity


def babbling_start(generator: np.random.Generator, balls: int) -> Float64[np.ndarray, " state"]:
    """Uniform positions inside the walls and without overlap; velocities N(0, 1), scaled."""
    free = np.empty((0, balls, 2))
    while not len(free):
        position = generator.uniform(BALL_RADIUS, BOX - BALL_RADIUS, (_CANDIDATES, balls, 2))
        free = position[~overlapping(position)]
    velocity = generator.standard_normal((balls, 2))
    velocity *= SPEED / np.linalg.norm(velocity)
    return np.concatenate([free[0], velocity], -1).ravel()


@dataclass(frozen=True)
class BouncingBallsSystem(System):
    """States (x, y, vx, vy) of one ball after the other, without control.

    Attributes:
        observation: "pixels" or "state".
        size: Width and height of the pixels.
        balls: How many.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    size: int = 20
    balls: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.balls, int) or not 1 <= self.balls <= MAX_BALLS:
            raise ValueError(f"balls must be an integer from 1 to {MAX_BALLS}, got {self.balls!r}")

    @property
    def action_size(self) -> int:
        """One number, which does nothing."""
        return 1

    @property
    def action_limit(self) -> float:
        """1."""
        return 1.0

    @property
    def state_space(self) -> gym.spaces.Box:
        """Positions in the box and velocities, which the conserved energy bounds."""
        low, high = (
            np.tile(np.array(bounds, np.float32), self.balls)
            for bounds in ((0, 0, -SPEED, -SPEED), (BOX, BOX, SPEED, SPEED))
        )
        return gym.spaces.Box(low, high, dtype=np.float32)

    @property
    def starts(self) -> Mapping[str, Start]:
        """Babbling."""
        return {"babbling": partial(babbling_start, balls=self.balls)}

    def settle(self, state: State) -> State:
        """A copy; balls outside the box or faster than 0.5 together are refused.

        Overlaps are accepted, since the physics makes them. Velocities whose norm rounding to
        single precision has carried above 0.5 are scaled back.
        """
        position, velocity = self._split(state)
        speed = np.sqrt((velocity**2).sum((1, 2), keepdims=True))
        outside = (np.abs(position - BOX / 2) > BOX / 2).any()
        if outside or (speed > SPEED * (1 + 1e-6)).any():
            raise ValueError(
                f"option 'state' must have x and y from 0 to {BOX} and a norm of all velocities "
                f"of at most {SPEED}: {state}"
            )
        scale = SPEED / np.maximum(speed, SPEED)
        return np.concatenate([position, velocity * scale], -1).reshape(state.shape)

    def advance(
        self, state: State, action: Float64[np.ndarray, "n 1"]
    ) -> tuple[State, Float64[np.ndarray, " n"]]:
        """Roll for one frame, whatever the action; the reward is 0."""
        rolled = np.concatenate(roll(*self._split(state)), -1)
        return rolled.reshape(state.shape), np.zeros(len(state))

    def truth(self, state: State) -> Float32[np.ndarray, "n state"]:
        """The state, rounded to single precision."""
        return state.astype(np.float32)

    def camera(self, batch: int) -> Camera:
        """White balls on black."""
        return self._draw

    def _draw(self, state: State) -> UInt8[np.ndarray, "n size size 1"]:
        return draw_balls(self._split(state)[0], self.size)

    def scene(
        self, state: State, action: Float64[np.ndarray, "n 1"], size: int
    ) -> UInt8[np.ndarray, "n size size 3"]:
        """Balls and walls in colour."""
        return draw_balls_scene(self._split(state)[0], size)

    def _split(self, state: State) -> tuple[_Balls, _Balls]:
        rows = state.reshape(-1, self.balls, 4)
        return rows[..., :2], rows[..., 2:]


class BouncingBalls(SystemEnv):
    """Balls in a box, seen from above: ``worldmodel/TwoBouncingBalls-v0``, with two of them.

    The box is 10 x 10 units, a ball's radius 1.2, and a frame lasts one unit of time. All
    velocities together have norm 0.5: two balls at 20 pixels move at 0.67 pixels per frame on
    average.
    Action: Box (1,), +-1, which does nothing. The system has no control, but an action space
    without components is more than most recorders, models and agents can take.
    Observation: grey pixels (size, size, 1) that show the whole box, or (x, y, vx, vy) of one ball
    after the other, x to the right and y up; ``info["state"]`` always has the latter as float32.
    Reward: 0.
    Episode: never terminates; ``gym.make`` truncates it after 200 steps.
    Reset: positions uniform inside the walls and without overlap, velocities N(0, 1), scaled
    ("babbling"), unless ``options`` say ``{"state": (x, y, vx, vy, ...)}``, where the norm of all
    velocities is at most 0.5.

    Args:
        observation: "pixels" or "state".
        size: Width and height of the pixels, 8 to 1024.
        balls: How many, 1 to 6: more hardly ever fit in without overlap.
        render_mode: "rgb_array", "human" (a pygame window at ten frames a second) or None.

    It raises what ``SystemEnv`` does.

    Source: Sutskever and Hinton 2007. Differs: y points up in the pictures; grey levels are rounded
    to bytes.
    """

    def __init__(
        self,
        observation: Observation = "pixels",
        size: int = 20,
        balls: int = 2,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(BouncingBallsSystem(observation, size, balls), render_mode)


class BouncingBallsVector(SystemVectorEnv):
    """N boxes of balls, ``worldmodel/TwoBouncingBalls-v0`` by ``gym.make_vec``.

    The arguments are those of ``BouncingBalls`` and ``SystemVectorEnv``, whose errors it raises.
    """

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        observation: Observation = "pixels",
        size: int = 20,
        balls: int = 2,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        system = BouncingBallsSystem(observation, size, balls)
        super().__init__(system, num_envs, max_episode_steps, render_mode, autoreset_mode)
