"""Standard ways to act that a model is asked about: what babbling seldom does, agents often do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from worldmodel.data.babble import ActionProcess, Held, Uniform
from worldmodel.errors import SpecError
from worldmodel.spaces import ActionSpace, map_arrays

# Steps of the shortest and the longest period of a smooth probe, and sines that it is a sum of.
_PERIODS, _SINES = (8.0, 40.0), 3
# How far beyond the bounds a smooth probe would swing, so that it reaches them.
_SWING = 1.5
# Fewest and most steps between two switches of a square one.
_HALF = (4, 20)


@dataclass(frozen=True)
class Smooth(ActionProcess):
    """Sums of slow sines of random periods and phases, which fill the range."""

    def sample(
        self, space: ActionSpace, episodes: int, steps: int, rng: np.random.Generator
    ) -> Any:
        """See ``ActionProcess.sample``; of bounded floats alone."""
        low, high = np.array(space.low), np.array(space.high)
        if not np.array(space.continuous).all() or not np.isfinite([low, high]).all():
            raise SpecError(
                f"smooth actions need bounded numbers, got {space.space()}: what is chosen has "
                "nothing between its choices, and what has no bounds no range"
            )
        shape, time = (episodes, 1, space.size, _SINES), np.arange(steps)[:, None, None]
        weights = rng.uniform(0.3, 1, shape)
        weights /= weights.sum(-1, keepdims=True)
        phase = rng.uniform(0, 2 * np.pi, shape) + 2 * np.pi * time / rng.uniform(*_PERIODS, shape)
        unit = np.clip(_SWING * (weights * np.sin(phase)).sum(-1), -1, 1)
        return space.decode((low + high) / 2 + (high - low) / 2 * unit)


@dataclass(frozen=True)
class Square(ActionProcess):
    """Back and forth between both bounds, or between two choices, every component on its own."""

    def sample(
        self, space: ActionSpace, episodes: int, steps: int, rng: np.random.Generator
    ) -> Any:
        """See ``ActionProcess.sample``; of unbounded numbers there is none."""
        low, high = np.array(space.low), np.array(space.high)
        numbers = np.array(space.continuous).all()
        if numbers and not np.isfinite([low, high]).all():
            raise SpecError(f"square actions need bounds, got {space.space()}")
        size = space.size if numbers else 1
        half = rng.integers(*_HALF, (episodes, 1, size))
        begun = rng.integers(2 * _HALF[1], size=(episodes, 1, size))
        on = (np.arange(steps)[:, None] + begun) // half % 2 == 0
        if numbers:
            return space.decode(np.where(on, low, high))
        choices = Uniform().sample(space, episodes, 2, rng)
        index = np.arange(episodes)[:, None], on[..., 0].astype(np.intp)
        return map_arrays(lambda array: array[index], choices)


PROBES: dict[str, ActionProcess] = {
    "smooth": Smooth(),
    "square": Square(),
    "held": Held(5),
    "random": Uniform(),
}


def probes_for(space: ActionSpace) -> tuple[dict[str, ActionProcess], dict[str, str]]:
    """The standard probes that an action space can express, and why it cannot the others."""
    able, unable = {}, {}
    for name, process in PROBES.items():
        try:
            process.sample(space, 1, 2, np.random.default_rng(0))
        except SpecError as error:
            unable[name] = str(error)
        else:
            able[name] = process
    return able, unable
