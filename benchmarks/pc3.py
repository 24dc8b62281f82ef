"""Planar, pendulum and cart-pole, as Shu et al. 2020 (PC3) pose them, rebuilt from descriptions.

    worldmodel collect pc3:PC3Planar-v0 --out DATA --pixels     (with benchmarks/ on PYTHONPATH)

An environment observes its state, and draws itself in grey; the reward is 1 in the goal region and
0 elsewhere, so that a mean over an episode is the share of time that the papers report. Differs:
the papers learn from pairs of pictures drawn anywhere, here a filter sees one picture at a time; a
collision in the plane is that of the square's middle with a disc half a square larger.

Sources: Levine et al. 2020, "Prediction, Consistency, Curvature"; Shu et al. 2020, "Predictive
Coding for Locally-Linear Control", and the sizes in its published code; Barto et al. 1983 for the
cart-pole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from jaxtyping import Float, UInt8

_RATE = 50  # steps per second of pendulum and cart-pole


class Task(gym.Env, ABC):
    """One of them.

    Attributes:
        side: Of the square picture in pixels.
        most: Greatest absolute action, in every component.
        state: Two or four numbers; see the classes.

    Args:
        render_mode: None or "rgb_array".
        anywhere: Whether episodes begin anywhere, as recordings should, instead of where the task
            does.
    """

    side: int
    most: np.ndarray
    highest: np.ndarray
    state: np.ndarray
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": _RATE}

    def __init__(self, render_mode: str | None = None, anywhere: bool = False) -> None:
        self.render_mode, self._anywhere = render_mode, anywhere
        bound, shown = self.most.astype(np.float32), self.highest.astype(np.float32)
        self.action_space = gym.spaces.Box(-bound, bound)
        self.observation_space = gym.spaces.Box(-shown, shown)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        low, high = self._begins(self._anywhere)
        self.state = self.np_random.uniform(low, high)
        return self._shown(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Act for one step."""
        self._move(np.clip(np.asarray(action, np.float64), -self.most, self.most))
        return self._shown(), float(self._reached()), False, False, {}

    def render(self) -> UInt8[np.ndarray, "side side 3"]:
        """White on black."""
        bright = np.round(255 * self._drawn().clip(0, 1)).astype(np.uint8)
        return np.repeat(bright[..., np.newaxis], 3, 2)

    def _shown(self) -> np.ndarray:
        space = self.observation_space
        assert isinstance(space, gym.spaces.Box)
        return self.state.astype(np.float32).clip(space.low, space.high)

    @abstractmethod
    def _begins(self, anywhere: bool) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest first state."""

    @abstractmethod
    def _move(self, action: Float[np.ndarray, " act"]) -> None: ...

    @abstractmethod
    def _reached(self) -> bool: ...

    @abstractmethod
    def _drawn(self) -> Float[np.ndarray, "side side"]:
        """Brightness, beyond [0, 1] too."""


class Planar(Task):
    """A square that moves among six discs; state: row and column of its middle, in pixels."""

    side, most, highest = 40, np.array([3.0, 3.0]), np.array([40.0, 40.0])
    _discs = np.array(
        [[20.5, 5.5], [20.5, 13.5], [20.5, 27.5], [20.5, 35.5], [10.5, 20.5], [30.5, 20.5]]
    )
    _radius, _half = 2.5, 1.5
    _goal, _near = np.array([37.0, 37.0]), 2.0

    def _begins(self, anywhere: bool) -> tuple[np.ndarray, np.ndarray]:
        low, high = (self._half, self.side - self._half) if anywhere else (3.0, 7.0)
        return np.full(2, low), np.full(2, high)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode, not in a disc."""
        super().reset(seed=seed, options=options)
        while self._blocked(self.state):
            self.state = self.np_random.uniform(*self._begins(self._anywhere))
        return self._shown(), {}

    def _blocked(self, place: np.ndarray) -> bool:
        return bool((np.linalg.norm(self._discs - place, axis=1) < self._radius + self._half).any())

    def _move(self, action: Float[np.ndarray, " act"]) -> None:
        place = (self.state + action).clip(self._half, self.side - self._half)
        self.state = self.state if self._blocked(place) else place

    def _reached(self) -> bool:
        return bool(np.linalg.norm(self.state - self._goal) <= self._near)

    def _drawn(self) -> Float[np.ndarray, "side side"]:
        middles = np.indices((self.side, self.side)).transpose(1, 2, 0) + 0.5
        discs = np.linalg.norm(middles[:, :, None] - self._discs, axis=-1).min(-1)
        square = np.abs(middles - self.state).max(-1)
        return np.maximum(self._radius + 0.5 - discs, self._half + 0.5 - square)


class Pendulum(Task):
    """A rod on a hinge; state: cosine and sine of its angle from upright, velocity in rad/s."""

    side, most, highest = 48, np.array([0.65]), np.array([1.0, 1.0, 3 * np.pi])
    _mass, _length, _gravity = 0.1, 0.5, 9.81
    _fastest, _goal = 3 * np.pi, np.pi / 6

    def __init__(
        self, render_mode: str | None = None, anywhere: bool = False, start: str = "hanging"
    ) -> None:
        super().__init__(render_mode, anywhere)
        if start not in ("hanging", "upright"):
            raise ValueError(f"start must be 'hanging' or 'upright', got {start!r}")
        self._start = start

    def _begins(self, anywhere: bool) -> tuple[np.ndarray, np.ndarray]:
        if anywhere:
            end = np.array([np.pi, self._fastest])
            return -end, end
        low, high = (0.9, 0.95) if self._start == "hanging" else (-1 / 6, 1 / 6)
        return np.array([low * np.pi, 0.0]), np.array([high * np.pi, 0.0])

    def _move(self, action: Float[np.ndarray, " act"]) -> None:
        angle, velocity = self.state
        inertia = self._mass * self._length**2 / 3
        weight = self._mass * self._gravity * self._length / 2 * np.sin(angle)
        velocity += (weight + action[0]) / inertia / _RATE
        velocity = np.clip(velocity, -self._fastest, self._fastest)
        self.state = np.array([(angle + velocity / _RATE + np.pi) % (2 * np.pi) - np.pi, velocity])

    def _shown(self) -> np.ndarray:
        angle, velocity = self.state
        return np.array([np.cos(angle), np.sin(angle), velocity], np.float32)

    def _reached(self) -> bool:
        return bool(abs(self.state[0]) <= self._goal)

    def _drawn(self) -> Float[np.ndarray, "side side"]:
        middle, angle = np.full(2, self.side / 2), self.state[0]
        end = middle + 0.45 * self.side * np.array([-np.cos(angle), np.sin(angle)])
        return _rod(self.side, middle, end, 4.0)


class CartPole(Task):
    """A cart with a pole; state: position in m, velocity, angle from upright in rad, its velocity.

    Its track ends at 2.4 m, where the cart stops.
    """

    side, most = 80, np.array([10.0])
    highest = np.array([2.4, 20.0, np.pi, 40.0])
    _cart, _pole, _half, _gravity = 1.0, 0.1, 0.5, 9.8
    _track, _goal = 2.4, np.pi / 10

    def _begins(self, anywhere: bool) -> tuple[np.ndarray, np.ndarray]:
        end = np.array([0.0, 0.0, np.pi / 8, 0.0])
        end = np.array([self._track / 2, 1.0, np.pi / 3, 2.0]) if anywhere else end
        return -end, end

    def _move(self, action: Float[np.ndarray, " act"]) -> None:
        position, velocity, angle, turning = self.state
        total, moment = self._cart + self._pole, self._pole * self._half
        pushed = (action[0] + moment * turning**2 * np.sin(angle)) / total
        turned = (self._gravity * np.sin(angle) - np.cos(angle) * pushed) / (
            self._half * (4 / 3 - self._pole * np.cos(angle) ** 2 / total)
        )
        driven = pushed - moment * turned * np.cos(angle) / total
        position, angle = position + velocity / _RATE, angle + turning / _RATE
        velocity, turning = velocity + driven / _RATE, turning + turned / _RATE
        if abs(position) > self._track:
            position, velocity = np.sign(position) * self._track, 0.0
        angle = (angle + np.pi) % (2 * np.pi) - np.pi
        self.state = np.array([position, velocity, angle, turning])

    def _reached(self) -> bool:
        return bool(abs(self.state[2]) <= self._goal)

    def _drawn(self) -> Float[np.ndarray, "side side"]:
        position, _, angle, _ = self.state
        metre = 0.4 * self.side / self._track
        cart = np.array([0.65 * self.side, self.side / 2 + metre * position])
        end = cart + 2 * self._half * 2 * metre * np.array([-np.cos(angle), np.sin(angle)])
        wide = np.array([0.0, 0.06 * self.side])
        body = _rod(self.side, cart - wide, cart + wide, 5.0)
        return np.maximum(body, _rod(self.side, cart, end, 3.0))


def _rod(side: int, start: np.ndarray, end: np.ndarray, width: float) -> np.ndarray:
    """Brightness of a rod with round ends and soft edges; places in rows and columns of pixels."""
    middles = np.indices((side, side)).transpose(1, 2, 0) + 0.5
    along = end - start
    share = ((middles - start) @ along / (along @ along)).clip(0, 1)
    away = np.linalg.norm(middles - start - share[..., np.newaxis] * along, axis=-1)
    return width / 2 + 0.5 - away


for name, steps, kind in (
    ("Planar", 40, Planar),
    ("Pendulum", 100, Pendulum),
    ("CartPole", 50, CartPole),
):
    gym.register(f"PC3{name}-v0", entry_point=kind, max_episode_steps=steps)
