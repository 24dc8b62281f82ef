"""Observations as pictures for people: pixels as they are, vectors as bars."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped, UInt8

from worldmodel.plots.film import BACKGROUND, FAINT, TEXT
from worldmodel.world.world import World

_BAR, _LENGTH = 3, 41  # pixels, before a picture is enlarged


class Artist:
    """Draws a model's observations, small; whoever shows them enlarges them.

    Args:
        world: Whose observations.
        latents: (n, latent), of data; they decide how long the bar of a vector's component is.
    """

    def __init__(self, world: World, latents: np.ndarray) -> None:
        self._spec = world.model.observation_spec
        if not self._spec.pixels:
            seen = world.decode(latents)
            self._low, self._high = seen.min(0), seen.max(0)

    def __call__(
        self, observation: Shaped[np.ndarray, "..."]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """A picture of one observation.

        Pixels of neither one nor three channels, such as stacked frames, show the last channel.
        """
        if not self._spec.pixels:
            return self._bars(observation)
        grey = observation if observation.shape[2] == 3 else observation[..., -1:]
        return grey.repeat(3 // grey.shape[2], 2)

    def _bars(self, observation: np.ndarray) -> np.ndarray:
        """One bar per component, from the middle of its range in the data to its value."""
        spread = np.maximum(self._high - self._low, 1e-6)
        share = np.clip((observation - self._low) / spread, 0, 1)
        size = (1 + _BAR) * len(share) + 1
        page = np.full((size, _LENGTH, 3), BACKGROUND, np.uint8)
        middle = _LENGTH // 2
        for i, end in enumerate(np.round(share * (_LENGTH - 1)).astype(int)):
            rows = slice(1 + i * (1 + _BAR), (i + 1) * (1 + _BAR))
            page[rows, min(middle, end) : max(middle, end) + 1] = TEXT
            page[rows, middle] = FAINT
        return page
