"""Action processes: how an environment is babbled with, behind one interface.

A process draws whole episodes at once and sees nothing of the environment but its action space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from worldmodel.errors import ConfigError, SpecError


class ActionProcess(ABC):
    """A distribution over action sequences.

    A subclass owes ``sample``; as a frozen dataclass its settings also enter the provenance of a
    dataset. It draws only from the generator it is given.
    """

    @abstractmethod
    def sample(
        self, space: gym.Space, episodes: int, steps: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw the actions of many episodes.

        Args:
            space: The environment's action space (of one environment, not of a batch).
            episodes: Number of independent sequences.
            steps: Length of each.
            rng: Source of all random numbers.

        Returns:
            (episodes, steps, *action shape), in the dtype and units of ``space``.

        Raises:
            SpecError: The process has no meaning on ``space``.
        """


@dataclass(frozen=True)
class Uniform(ActionProcess):
    """Every action drawn afresh, uniformly over a bounded Box or a Discrete space."""

    def sample(
        self, space: gym.Space, episodes: int, steps: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See ``ActionProcess.sample``."""
        if isinstance(space, gym.spaces.Discrete):
            return space.start + rng.integers(space.n, size=(episodes, steps))
        low, high = _bounds(space, self)
        return rng.uniform(low, high, (episodes, steps, *low.shape)).astype(space.dtype)


@dataclass(frozen=True)
class Held(ActionProcess):
    """A uniform action held for a while, with a random phase in each episode.

    Attributes:
        steps: How long each action is held. The phase is uniform, so that a change is equally
            likely at every step of an episode.
    """

    steps: int = 5

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"Held.steps must be at least 1, got {self.steps}")

    def sample(
        self, space: gym.Space, episodes: int, steps: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See ``ActionProcess.sample``."""
        blocks = Uniform().sample(space, episodes, -(-steps // self.steps) + 1, rng)
        phase = rng.integers(self.steps, size=(episodes, 1))
        block = (np.arange(steps) + phase) // self.steps
        return blocks[np.arange(episodes)[:, None], block]


@dataclass(frozen=True)
class OrnsteinUhlenbeck(ActionProcess):
    """Smooth noise around the centre of a Box, clipped to it; begins in its stationary law.

    The unit of the action is half the Box's range, that of time one control step. In these units
    dx = -theta x dt + sigma dW, sampled exactly, so any ``theta`` > 0 is stable. Before clipping,
    the standard deviation is sigma / sqrt(2 theta) and the correlation at lag k exp(-theta k).

    Attributes:
        theta: Rate of return to the centre, per step.
        sigma: Strength of the noise, in half ranges per square root of a step.
    """

    theta: float = 0.15
    sigma: float = 0.3

    def __post_init__(self) -> None:
        for name in ("theta", "sigma"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ConfigError(
                    f"OrnsteinUhlenbeck.{name} must be finite and greater than 0, got {value}"
                )

    def sample(
        self, space: gym.Space, episodes: int, steps: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See ``ActionProcess.sample``."""
        low, high = _bounds(space, self)
        noise = rng.standard_normal((episodes, steps, *low.shape))
        decay = np.exp(-self.theta)
        innovation = np.sqrt(1 - decay**2)
        unit = np.empty_like(noise)
        unit[:, 0] = noise[:, 0]
        for t in range(1, steps):
            unit[:, t] = decay * unit[:, t - 1] + innovation * noise[:, t]
        deviation = self.sigma / np.sqrt(2 * self.theta)
        actions = (low + high) / 2 + (high - low) / 2 * deviation * unit
        return np.clip(actions, low, high).astype(space.dtype)


@dataclass(frozen=True)
class Zero(ActionProcess):
    """No control: zero throughout, or the Box's nearest value to it."""

    def sample(
        self, space: gym.Space, episodes: int, steps: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See ``ActionProcess.sample``."""
        low, high = _bounds(space, self)
        return np.zeros((episodes, steps, *low.shape), space.dtype).clip(low, high)


PROCESSES: dict[str, type[ActionProcess]] = {
    "uniform": Uniform,
    "held": Held,
    "ornstein-uhlenbeck": OrnsteinUhlenbeck,
}


def describe(process: ActionProcess) -> dict[str, Any]:
    """Name and settings of a process: its registered name, else that of its class."""
    names = {kind: name for name, kind in PROCESSES.items()}
    name = names.get(type(process), type(process).__qualname__)
    settings = asdict(process) if is_dataclass(process) else {}
    return {"name": name, **settings}


def _bounds(space: gym.Space, process: ActionProcess) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest actions of a bounded float Box, ``float64``."""
    if isinstance(space, gym.spaces.Box) and np.issubdtype(space.dtype, np.floating):
        if space.is_bounded():
            return space.low.astype(np.float64), space.high.astype(np.float64)
    raise SpecError(
        f"{type(process).__name__} cannot draw actions from {space}; expected a bounded float "
        "Box" + (" or Discrete" if isinstance(process, Uniform) else "")
    )
