"""Small environments, one for each kind of space that there is; importing registers them.

All are the same system, a point in a square that actions push, seen and steered in different ways.
``OBSERVATIONS`` and ``ACTIONS`` name the kinds; ``NAMES`` the environments "zoo/<name>-v0": "see-x"
shows kind x and takes a plain Box, "act-x" takes kind x and shows plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

SIDE = 16  # pixels of a picture
LENGTH = 20  # steps after which an episode is truncated

Shown = tuple[gym.Space, Callable[[np.ndarray], Any]]


def canvas(state: np.ndarray, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """The point as a bright blob on a grey ground, (height, width), from 0 to 1."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return 0.2 + 0.8 * np.exp(-8 * ((x - state[0]) ** 2 + (y - state[1]) ** 2))


def grey(state: np.ndarray, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return (255 * canvas(state, height, width)).astype(np.uint8)


def colour(state: np.ndarray, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """(height, width, 3): where the point is, where it would be mirrored, and its speed."""
    speed = np.full((height, width), np.uint8(120 + 100 * np.tanh(state[2])))
    return np.stack([grey(state, height, width), grey(-state, height, width), speed], -1)


def stack(state: np.ndarray) -> np.ndarray:
    """(4, side, side, 1): where the point was in the last steps, had nothing pushed it."""
    past = [np.concatenate([state[:2] - k * state[2:] / 10, state[2:]]) for k in range(4)]
    return np.stack([grey(s)[..., None] for s in reversed(past)])


def level(value: float, count: int) -> int:
    """A number in [-1, 1] as one of so many levels."""
    return int(np.clip((value + 1) / 2 * count, 0, count - 1))


def image(*shape: int) -> Box:
    return Box(0, 255, shape, np.uint8)


def numbers(*shape: int, dtype: Any = np.float32) -> Box:
    return Box(-np.inf, np.inf, shape, dtype)


OBSERVATIONS: dict[str, Shown] = {
    "vector": (numbers(4), np.float32),
    "bounded": (Box(-10, 10, (4,), np.float32), np.float32),
    "matrix": (numbers(2, 3), lambda s: np.float32([[*s[:2], 1 - s[0]], [*s[2:], s[0] * s[1]]])),
    "offset": (numbers(2, dtype=np.float64), lambda s: 5e6 + s[:2]),
    "tiny": (numbers(4), lambda s: np.float32(1e-9 * s)),
    "double": (numbers(4, dtype=np.float64), np.float64),
    "colour": (image(SIDE, SIDE, 3), colour),
    "grey": (image(SIDE, SIDE), grey),
    "channels-first": (
        image(3, SIDE, SIDE + 4),
        lambda s: colour(s, SIDE, SIDE + 4).transpose(2, 0, 1),
    ),
    "stack": (image(4, SIDE, SIDE, 1), stack),
    "bright": (Box(0, 1, (SIDE, SIDE, 3), np.float32), lambda s: np.float32(colour(s) / 255)),
    "discrete": (Discrete(6, start=-3), lambda s: np.int64(level(s[0], 6) - 3)),
    "multi-discrete": (
        MultiDiscrete([3, 5], start=[0, 2]),
        lambda s: np.array([level(s[0], 3), 2 + level(s[1], 5)]),
    ),
    "multi-binary": (MultiBinary(4), lambda s: (s > 0).astype(np.int8)),
    "integers": (
        Box(-100, 100, (4,), np.int16),
        lambda s: np.clip(np.rint(50 * s), -100, 100).astype(np.int16),
    ),
    "cameras": (
        Dict({"front": image(SIDE, SIDE, 3), "wrist": image(SIDE, SIDE), "joints": numbers(4)}),
        lambda s: {"front": colour(s), "wrist": grey(-s), "joints": np.float32(s)},
    ),
    "goal": (
        Dict(
            {
                "observation": numbers(4, dtype=np.float64),
                "achieved_goal": numbers(2, dtype=np.float64),
                "desired_goal": numbers(2, dtype=np.float64),
            }
        ),
        lambda s: {
            "observation": s.copy(),
            "achieved_goal": s[:2].copy(),
            "desired_goal": np.array([0.5, 0.0]),
        },
    ),
    "tuple": (
        Tuple((numbers(2), Discrete(4, start=1))),
        lambda s: (np.float32(s[:2]), np.int64(1 + level(s[1], 4))),
    ),
    "nested": (
        Dict(
            {
                "arm": Dict({"angles": numbers(2), "gripper": Discrete(2)}),
                "poses": Tuple((Box(-5, 5, (3,), np.float32), MultiBinary(2))),
                "picture": image(SIDE, SIDE, 1),
            }
        ),
        lambda s: {
            "arm": {"angles": np.float32(s[:2]), "gripper": np.int64(s[0] > 0)},
            "poses": (
                np.float32([*np.clip(s[:2], -5, 5), 0.5]),
                (s[2:] > 0).astype(np.int8),
            ),
            "picture": grey(s)[..., None],
        },
    ),
}

ACTIONS: dict[str, gym.Space] = {
    "box": Box(-1, 1, (2,), np.float32),
    "matrix": Box(-1, 1, (2, 2), np.float32),
    "double": Box(-0.1, 0.1, (2,), np.float64),
    "uneven": Box(np.float32([0, -5]), np.float32([0.5, 3])),
    "unbounded": numbers(2),
    "half-bounded": Box(np.float32([0, -np.inf]), np.float32([np.inf, 1])),
    "integers": Box(-3, 3, (2,), np.int32),
    "discrete": Discrete(5),
    "shifted": Discrete(3, start=2),
    "multi-discrete": MultiDiscrete([3, 4], start=[0, -1]),
    "multi-binary": MultiBinary(3),
    "dict": Dict({"throttle": Box(0, 1, (1,), np.float32), "gear": Discrete(3, start=-1)}),
    "tuple": Tuple((Discrete(2), Box(-1, 1, (2,), np.float32), MultiBinary(2))),
    "nested": Dict(
        {
            "arm": Tuple((Box(-1, 1, (2, 2), np.float32), MultiDiscrete([2, 3]))),
            "base": Dict({"drive": numbers(1), "brake": Discrete(2)}),
        }
    ),
}


class Point(gym.Env):
    """A point in the plane, pushed by actions and slowed by friction; the origin pays most.

    The truth ``info["state"]`` is position and velocity. Leaving the square of half side 1.2
    terminates. Only the start is random: anywhere in the square of half side 0.8, slow.

    Args:
        observation: Kind of ``OBSERVATIONS``.
        action: Kind of ``ACTIONS``.
        render_mode: "rgb_array" for pictures.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        observation: str = "vector",
        action: str = "box",
        render_mode: str | None = None,
    ) -> None:
        self.observation_space, self._show = OBSERVATIONS[observation]
        self.action_space = ACTIONS[action]
        self.render_mode = render_mode
        # Gymnasium's own flattening, so that nothing here relies on what is being tested.
        size = gym.spaces.flatdim(self.action_space)
        angle = 2 * np.pi * np.arange(size) / size + 0.3
        self._push = np.stack([np.cos(angle), np.sin(angle)])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        start = self.np_random.uniform(-0.8, 0.8, 4)
        self.state = start * np.array([1, 1, 0.3, 0.3])
        return self._show(self.state), {"state": self.state.copy()}

    def step(self, action: Any):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        flat = gym.spaces.flatten(self.action_space, action).astype(np.float64)
        self.state = advance(self.state, np.tanh(self._push @ flat))
        reward = 1 - float(np.square(self.state[:2]).sum())
        left = bool((np.abs(self.state[:2]) > 1.2).any())
        return self._show(self.state), reward, left, False, {"state": self.state.copy()}

    def render(self) -> np.ndarray:
        return colour(self.state, 40, 60)


def advance(state: np.ndarray, force: np.ndarray) -> np.ndarray:
    """One step of 0.1 s."""
    velocity = 0.9 * state[2:] + 0.3 * force
    return np.concatenate([state[:2] + 0.1 * velocity, velocity])


KINDS = {
    **{f"see-{kind}": {"observation": kind} for kind in OBSERVATIONS},
    **{f"act-{kind}": {"action": kind} for kind in ACTIONS},
    "everything": {"observation": "nested", "action": "nested"},
}
NAMES = tuple(KINDS)


def env_id(name: str) -> str:
    return f"zoo/{name}-v0"


for _name, _kinds in KINDS.items():
    if env_id(_name) not in gym.registry:
        gym.register(
            env_id(_name),
            entry_point=Point,
            kwargs=_kinds,
            max_episode_steps=LENGTH,
            # It warns of what is unusual, and everything here is.
            disable_env_checker=True,
        )
