"""Action processes: how an environment is babbled with, behind one interface.

A process draws whole episodes at once and sees nothing of the environment but its action space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import numpy as np

from worldmodel.errors import ConfigError, SpecError
from worldmodel.spaces import ActionSpace, map_arrays


class ActionProcess(ABC):
    """A distribution over action sequences.

    A subclass owes ``sample``; as a frozen dataclass its settings also enter the provenance of a
    dataset. It draws only from the generator it is given.
    """

    @abstractmethod
    def sample(
        self, space: ActionSpace, episodes: int, steps: int, rng: np.random.Generator
    ) -> Any:
        """Draw the actions of many episodes.

        Args:
            space: The action space of one environment.
            episodes: Number of independent sequences.
            steps: Length of each.
            rng: Source of all random numbers.

        Returns:
            (episodes, steps, *action shape), in the dtype and units of the environment; of Dict
            and Tuple spaces a dictionary or tuple of such arrays.

        Raises:
            SpecError: The process has no meaning on ``space``.
        """


@dataclass(frozen=True)
class Uniform(ActionProcess):
    """Every action drawn afresh, uniformly over the space.

    Numbers without bounds are standard normal; those with one bound lie beyond it by an
    exponential of mean 1.
    """

    def sample(
        self, space: ActionSpace, episodes: int, steps: int, rng: np.random.Generator
    ) -> Any:
        """See ``ActionProcess.sample``."""
        return space.sample(rng, (episodes, steps))


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
        self, space: ActionSpace, episodes: int, steps: int, rng: np.random.Generator
    ) -> Any:
        """See ``ActionProcess.sample``."""
        blocks = Uniform().sample(space, episodes, -(-steps // self.steps) + 1, rng)
        phase = rng.integers(self.steps, size=(episodes, 1))
        index = np.arange(episodes)[:, None], (np.arange(steps) + phase) // self.steps
        return map_arrays(lambda array: array[index], blocks)


@dataclass(frozen=True)
class Sticky(ActionProcess):
    """A uniform action that lasts for a random while: at every step it may be drawn afresh.

    As of the Arcade Learning Environment's sticky actions, whose probability of repeating is
    1 - 1 / ``steps``.

    Attributes:
        steps: How long an action lasts on average.
    """

    steps: int = 5

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"Sticky.steps must be at least 1, got {self.steps}")

    def sample(
        self, space: ActionSpace, episodes: int, steps: int, rng: np.random.Generator
    ) -> Any:
        """See ``ActionProcess.sample``."""
        fresh = Uniform().sample(space, episodes, steps, rng)
        changes = rng.random((episodes, steps)) < 1 / self.steps
        last = np.maximum.accumulate(np.where(changes, np.arange(steps), 0), axis=1)
        index = np.arange(episodes)[:, None], last
        return map_arrays(lambda array: array[index], fresh)


@dataclass(frozen=True)
class OrnsteinUhlenbeck(ActionProcess):
    """Smooth noise around the centre of a Box, clipped to it; begins in its stationary law.

    The unit of the action is half the Box's range, that of time one control step. In these units
    dx = -theta x dt + sigma dW, sampled exactly, so any ``theta`` > 0 is stable. Before clipping,
    the standard deviation is sigma / sqrt(2 theta) and the correlation at lag k exp(-theta k).

    A number without bounds moves around 0 and one with a single bound around 1 beyond it, both in
    units of 1. What is no float (Discrete, MultiDiscrete, MultiBinary, a Box of integers) has no
    smooth noise: where such parts stand beside a Box of floats, they are drawn as by ``Uniform``.

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
        self, space: ActionSpace, episodes: int, steps: int, rng: np.random.Generator
    ) -> Any:
        """See ``ActionProcess.sample``."""
        smooth = np.array(space.continuous)
        if not smooth.any():
            raise SpecError(
                f"OrnsteinUhlenbeck cannot draw actions from {space.space()}; expected a Box of "
                "floats, or one beside other parts. Uniform and Held draw from any space"
            )
        low, high = np.array(space.low)[smooth], np.array(space.high)[smooth]
        unit = self._unit(rng.standard_normal((episodes, steps, len(low))))
        deviation = self.sigma / np.sqrt(2 * self.theta)
        centre, scale = _centre(low, high)
        controls = np.empty((episodes, steps, space.size))
        if not smooth.all():
            controls[:] = space.encode(space.sample(rng, (episodes, steps)), (episodes, steps))
        controls[..., smooth] = np.clip(centre + scale * deviation * unit, low, high)
        return space.decode(controls)

    def _unit(self, noise: np.ndarray) -> np.ndarray:
        """The process of unit variance, driven by standard normal noise (episodes, steps, n)."""
        decay = np.exp(-self.theta)
        innovation = np.sqrt(1 - decay**2)
        unit = np.empty_like(noise)
        unit[:, 0] = noise[:, 0]
        for t in range(1, noise.shape[1]):
            unit[:, t] = decay * unit[:, t - 1] + innovation * noise[:, t]
        return unit


@dataclass(frozen=True)
class Zero(ActionProcess):
    """No control: zero throughout, or the Box's nearest value to it, and every switch off."""

    def sample(
        self, space: ActionSpace, episodes: int, steps: int, rng: np.random.Generator
    ) -> Any:
        """See ``ActionProcess.sample``."""
        if named := [part.name for part in space.parts if not part.linear]:
            raise SpecError(
                f"Zero cannot draw actions from {space.space()}: none of the choices that "
                f"{named[0]!r} has means no control; expected Box or MultiBinary"
            )
        return space.decode(np.zeros((episodes, steps, space.size)))


PROCESSES: dict[str, type[ActionProcess]] = {
    "uniform": Uniform,
    "held": Held,
    "sticky": Sticky,
    "ornstein-uhlenbeck": OrnsteinUhlenbeck,
}


def describe(process: ActionProcess) -> dict[str, Any]:
    """Name and settings of a process: its registered name, else that of its class."""
    names = {kind: name for name, kind in PROCESSES.items()}
    name = names.get(type(process), type(process).__qualname__)
    settings = asdict(process) if is_dataclass(process) else {}
    return {"name": name, **settings}


def _centre(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where noise is centred, and what its unit is; see ``OrnsteinUhlenbeck``."""
    below, above = np.isfinite(low), np.isfinite(high)
    low, high = np.where(below, low, 0), np.where(above, high, 0)
    bounded = below & above
    beyond = np.where(below, low + 1.0, np.where(above, high - 1.0, 0.0))
    return np.where(bounded, (low + high) / 2, beyond), np.where(bounded, (high - low) / 2, 1.0)
