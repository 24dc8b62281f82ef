"""What a real system owes the two shells that make environments of it.

A system is physics, pictures and starts, all as functions of arrays with one row per environment;
it keeps no state and draws no random numbers of its own. ``envs/single.py`` and ``envs/vector.py``
hold the state and follow Gymnasium's rules, so that a vector environment equals single ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final, get_args

import gymnasium as gym
import numpy as np
from gymnasium.error import InvalidAction
from jaxtyping import Float32, Float64, UInt8

RENDER_SIZE = 256  # pixels

Observation = Literal["pixels", "state"]
State = Float64[np.ndarray, "n state"]
Start = Callable[[np.random.Generator], Float64[np.ndarray, " state"]]
Camera = Callable[[State], UInt8[np.ndarray, "n size size 1"]]


@dataclass(frozen=True)
class System(ABC):
    """A controlled system and how it is observed; shared by both shells.

    A subclass implements the abstract members and overrides nothing else. All its arithmetic is
    elementwise over environments, so that a row does not depend on those beside it.

    Attributes:
        observation: "pixels" or "state".
        size: Width and height of the pixels.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    observation: Observation = "pixels"
    size: int = 16

    def __post_init__(self) -> None:
        if self.observation not in get_args(Observation):
            raise ValueError(f"observation must be 'pixels' or 'state', got {self.observation!r}")
        if not isinstance(self.size, int) or not 8 <= self.size <= 1024:
            raise ValueError(f"size must be an integer from 8 to 1024, got {self.size!r}")

    @property
    @abstractmethod
    def action_size(self) -> int:
        """Components of one action."""

    @property
    @abstractmethod
    def action_limit(self) -> float:
        """Greatest magnitude of a component of an action; those beyond are clipped."""

    @property
    @abstractmethod
    def state_space(self) -> gym.spaces.Box:
        """Bounds of ``truth``, float32 (state,)."""

    @property
    @abstractmethod
    def starts(self) -> Mapping[str, Start]:
        """Named draws of a start state; "babbling" is the default and follows every autoreset."""

    @abstractmethod
    def settle(self, state: State) -> State:
        """Start states that reset options give, as fresh ones in canonical form.

        Raises:
            ValueError: A state that the system cannot be in; the message names it.
        """

    @abstractmethod
    def advance(
        self, state: State, action: Float64[np.ndarray, "n action"]
    ) -> tuple[State, Float64[np.ndarray, " n"]]:
        """Fresh states after one control interval under actions within limits, and rewards."""

    @abstractmethod
    def truth(self, state: State) -> Float32[np.ndarray, "n state"]:
        """What ``info["state"]`` tells: the state in single precision, within ``state_space``."""

    @abstractmethod
    def camera(self, batch: int) -> Camera:
        """Draws fresh grey pictures, usually ``batch`` at a time; one camera serves one thread."""

    @abstractmethod
    def scene(
        self, state: State, action: Float64[np.ndarray, "n action"], size: int
    ) -> UInt8[np.ndarray, "n size size 3"]:
        """Colour pictures for human eyes, with the actions that led to the states."""

    @final
    @property
    def action_space(self) -> gym.spaces.Box:
        """Box of the actions that are not clipped."""
        limit = self.action_limit
        return gym.spaces.Box(-limit, limit, (self.action_size,), np.float32)

    @final
    @property
    def observation_space(self) -> gym.spaces.Box:
        """Pixels (size, size, 1) in [0, 255], or ``state_space``."""
        if self.observation == "pixels":
            return gym.spaces.Box(0, 255, (self.size, self.size, 1), np.uint8)
        return self.state_space

    @final
    def observer(self, batch: int) -> Callable[[State], np.ndarray]:
        """Gives fresh observations (n, *obs) of states, usually ``batch`` at a time."""
        return self.camera(batch) if self.observation == "pixels" else self.truth

    @final
    def read_action(self, action: Any, shape: tuple[int, ...]) -> Float64[np.ndarray, "n action"]:
        """Actions clipped to the action space, as Gymnasium's Pendulum-v1 does.

        Raises:
            InvalidAction: Not real numbers, not of ``shape``, or not finite.
        """
        try:
            values = np.asarray(action)
        # The last two are a tensor's own, of another device or with a gradient.
        except (ValueError, TypeError, RuntimeError) as error:
            raise InvalidAction(f"action must be an array of shape {shape}: {error}") from error
        if values.dtype.kind not in "fiu":
            raise InvalidAction(f"action must be real numbers, got dtype {values.dtype}: {action}")
        if values.shape != shape:
            raise InvalidAction(f"action must have shape {shape}, got {values.shape}")
        if not np.isfinite(values).all():
            raise InvalidAction(f"action must be finite, got {values}")
        limit = self.action_limit
        return np.clip(values.reshape(-1, self.action_size).astype(np.float64), -limit, limit)

    @final
    def read_start(self, options: Mapping[str, Any] | None, count: int) -> Start | State:
        """What reset options ask for: a draw by name, or ``count`` start states.

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
        name, starts = options.get("start", "babbling"), self.starts
        if not isinstance(name, str) or name not in starts:
            raise ValueError(f"option 'start' must be one of {list(starts)}, got {name!r}")
        return starts[name]

    @final
    def draw(self, start: Start, generators: Sequence[np.random.Generator]) -> State:
        """One start state from each generator."""
        return np.array([start(generator) for generator in generators])

    def _read_state(self, value: Any, count: int) -> State:
        length = self.state_space.shape[0]
        try:
            state = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"option 'state' must be {length} numbers, got {value!r}") from error
        if state.shape not in ((length,), (count, length)):
            raise ValueError(
                f"option 'state' must be ({length},) or ({count}, {length}), got {state.shape}"
            )
        if not np.isfinite(state).all():
            raise ValueError(f"option 'state' must be finite, got {value!r}")
        return self.settle(np.broadcast_to(state, (count, length)))
