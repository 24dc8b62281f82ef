"""Who acts while episodes are recorded, if actions are not merely drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np

from worldmodel.errors import ConfigError
from worldmodel.spaces import ActionSpace


@runtime_checkable
class Actor(Protocol):
    """Acts on what one environment shows, one episode after the other."""

    def __call__(self, observation: Any, taken: Any | None) -> Any:
        """An action of the environment's space.

        Args:
            observation: As the environment gives it.
            taken: The action that led to it, which may be another than was asked for; None where
                an episode begins.
        """
        ...


@dataclass(frozen=True)
class Behaviour:
    """A policy that acts in some of the episodes; in the others actions are drawn.

    Attributes:
        name: Of the policy, for whoever reads where data come from.
        make: Makes the actor of an environment, once in every process.
        share: Of the episodes that it acts in.
        exploration: Of a Box of floats the standard deviation of normal noise on its actions, in
            half ranges (in units of 1 where there are not both bounds); of other parts how often
            the drawn action is taken in place of its own.

    Raises:
        ConfigError: A number does not lie between 0 and 1.
    """

    name: str
    make: Callable[[gym.Env], Actor]
    share: float = 1.0
    exploration: float = 0.0

    def __post_init__(self) -> None:
        for name in ("share", "exploration"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must be between 0 and 1, got {value}")

    def acts(self, episodes: int, rng: np.random.Generator) -> np.ndarray:
        """In which of so many episodes it acts."""
        chosen = np.arange(episodes) < round(self.share * episodes)
        return rng.permutation(chosen)


def explored(
    space: ActionSpace, action: Any, drawn: Any, exploration: float, rng: np.random.Generator
) -> Any:
    """An action with exploration as of ``Behaviour``; ``drawn`` is what is taken at times."""
    if not exploration:
        return action
    controls, others = space.encode(action), space.encode(drawn)
    bounded = np.array(space.bounded)
    half = np.ones(space.size)
    low, high = np.array(space.low), np.array(space.high)
    half[bounded] = (high[bounded] - low[bounded]) / 2
    noisy = controls + exploration * half * rng.standard_normal(space.size)
    swapped = np.concatenate([np.full(p.size, rng.random() < exploration) for p in space.parts])
    found = np.where(space.continuous, noisy, np.where(swapped, others, controls))
    return space.decode(np.clip(found, low, high))
