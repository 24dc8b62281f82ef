"""Observations as pictures for people: every stream as what it is, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from worldmodel.spaces import picture
from worldmodel.world.world import World

_GAP = 2  # pixels between streams, before a picture is enlarged


class Artist:
    """Draws observations, small; whoever shows them enlarges them.

    Pixels are shown as they are, in grey or RGB; numbers as bars, whose ends are those of the data;
    indices as bars too.

    Args:
        world: Whose observations.
        latents: (n, latent), of data; they decide how long the bar of a component is. By default
            those that the world's support keeps.

    Attributes:
        space: What is observed.
    """

    def __init__(self, world: World, latents: np.ndarray | None = None) -> None:
        self.space = world.model.observation_spec
        known = world.support.states.cpu().numpy() if latents is None else latents
        seen = self.named(world.decode(known))
        self._ranges = {
            stream.name: stream.ranges(seen[stream.name]) for stream in self.space.streams
        }

    def __call__(self, observations: Any) -> UInt8[np.ndarray, "*lead height width 3"]:
        """Pictures of observations (*lead, *obs), as ``World.decode`` gives them.

        Of all streams, or of those that a mapping has.
        """
        values = self.named(observations)
        return picture.beside(
            [
                stream.picture(np.asarray(values[stream.name]), *self._ranges[stream.name])
                for stream in self.space.streams
                if stream.name in values
            ],
            _GAP,
        )

    def named(self, observations: Any) -> Mapping[str, np.ndarray]:
        """The same by stream."""
        if isinstance(observations, Mapping):
            return observations
        return {self.space.streams[0].name: observations}
