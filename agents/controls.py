"""Distributions of actions, of numbers and choices alike.

Coordinates are the model's controls, but for numbers, which go from -1 to 1 between their bounds.
All is driven by standard normal draws, so that what correlates them in time correlates choices too.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from worldmodel.models.ssm import StateSpaceModel
from worldmodel.spaces import Stream


class Controls:
    """The controls of a model: how they are drawn, and what they are in the environment's units.

    Args:
        model: Whose.

    Attributes:
        size: How many.
        neutral: (size,), nothing preferred: the middle of a range, all choices alike.
        numbers: (size,) bool: which are numbers, not choices.
    """

    def __init__(self, model: StateSpaceModel) -> None:
        spec = model.action_spec
        low, high = (bound.cpu().double().numpy() for bound in model.control_range)
        self._low, self._high = low, high
        self._groups = tuple(group for part in spec.parts for group in groups(part))
        self.size = spec.size
        kinds = [kind for kind, size in self._groups for _ in range(size)]
        self.numbers = np.array([kind == "number" for kind in kinds], np.bool_)
        middles = {"number": 0.0, "switch": 0.5}
        self.neutral = np.array(
            [middles.get(kind, 1 / size) for kind, size in self._groups for _ in range(size)],
            np.float32,
        )
        self._plain = bool(self.numbers.all())

    def draw(
        self,
        mean: Float[np.ndarray, "*#lead act"],
        std: Float[np.ndarray, "*#lead act"],
        noise: Float[np.ndarray, "*lead act"],
    ) -> Float[np.ndarray, "*lead act"]:
        """Sequences from a distribution; ``std`` is that of numbers alone, in half ranges."""
        drawn = np.clip(mean + std * noise, -1, 1)
        if self._plain:
            return drawn
        chance = torch.special.ndtr(torch.from_numpy(noise)).clamp(1e-6, 1 - 1e-6).numpy()
        at = 0
        for kind, size in self._groups:
            here = slice(at, at + size)
            if kind == "switch":
                drawn[..., here] = chance[..., here] < mean[..., here]
            elif kind == "index":
                # Gumbel's trick: the largest is drawn by its probability.
                gumbel = -np.log(-np.log(chance[..., here]))
                best = (np.log(mean[..., here].clip(1e-6)) + gumbel).argmax(-1)
                drawn[..., here] = np.eye(size, dtype=np.float32)[best]
            at += size
        return drawn

    def widened(
        self, mean: Float[np.ndarray, "*n act"], share: Float[np.ndarray, "k 1"] | float
    ) -> Float[np.ndarray, "*n act"]:
        """Numbers as they are; choices in part drawn from all alike."""
        mixed = mean + share * (self.neutral - mean)
        return np.where(self.numbers, mean, mixed).astype(np.float32)

    def likeliest(self, mean: Float[np.ndarray, "*lead act"]) -> Float[np.ndarray, "*lead act"]:
        """The likeliest sequences of distributions."""
        nothing = np.zeros_like(mean)
        return self.draw(mean, nothing, nothing)

    def to_environment(self, drawn: Float[np.ndarray, "*n act"]) -> Float[np.ndarray, "*n act"]:
        """Model controls, as a step takes them."""
        ranged = (self._low / 2 * (1 - drawn) + self._high / 2 * (1 + drawn)).astype(np.float32)
        return ranged if self._plain else np.where(self.numbers, ranged, drawn)

    def from_environment(self, controls: Float[np.ndarray, "*n act"]) -> np.ndarray:
        """The inverse."""
        width = np.where(self._high > self._low, self._high / 2 - self._low / 2, 1.0)
        place = (controls / 2 - self._low / 4 - self._high / 4) / (width / 2)
        return np.where(self.numbers, np.clip(place, -1, 1), controls).astype(np.float32)


def groups(part: Stream) -> list[tuple[str, int]]:
    """What is chosen together: one-hot "index"es; and runs of "switch"es and of "number"s."""
    if part.sizes:
        return [("index", size) for size in part.sizes]
    if part.binary:
        return [("switch", part.size)]
    return [("number", part.size)]
