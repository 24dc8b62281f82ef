"""A sample of a split's frames: short stretches of its episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Shaped

from worldmodel.spaces import Stream
from worldmodel.types import Batch

_STEPS = 12  # of a window; the shipped systems' episodes have 14
_COUNT = 300  # windows at most: 3,900 frames are looked at in a second
_WAVES = 4  # along a side
_SIDE = 32  # pixels; of larger pictures blocks are averaged


@dataclass(frozen=True)
class Windows:
    """Stretches of one length without padding or gaps, spread evenly over the episodes.

    Attributes:
        episode: (W,), index of each window's episode.
        start: (W,), index of its first frame.
        steps: Of each; it has one more frame.
    """

    episode: Int[np.ndarray, " w"]
    start: Int[np.ndarray, " w"]
    steps: int

    @classmethod
    def of(cls, batch: Batch) -> Windows:
        """Side by side in each episode, of twelve steps, or fewer where episodes are shorter."""
        lengths = batch.mask.cpu().numpy().sum(1)
        steps = int(min(_STEPS, np.median(lengths))) if len(lengths) else 0
        counts = lengths // steps if steps else np.zeros_like(lengths)
        episode = np.repeat(np.arange(len(lengths)), counts)
        first = np.cumsum(counts) - counts
        start = steps * (np.arange(len(episode)) - first[episode])
        if batch.seen is not None:
            frames = start[:, None] + np.arange(steps + 1)
            whole = batch.seen.cpu().numpy()[episode[:, None], frames].all(1)
            episode, start = episode[whole], start[whole]
        chosen = np.linspace(0, len(episode) - 1, min(_COUNT, len(episode))).astype(int)
        return cls(episode[chosen], start[chosen], steps)

    def __len__(self) -> int:
        return len(self.episode)

    def frames(self, values: Shaped[np.ndarray, "b f ..."]) -> Shaped[np.ndarray, "w g ..."]:
        """(W, steps + 1, ...) of what is given by frame."""
        return self._cut(values, self.steps + 1)

    def controls(self, values: Shaped[np.ndarray, "b t ..."]) -> Shaped[np.ndarray, "w s ..."]:
        """(W, steps, ...) of what is given by step."""
        return self._cut(values, self.steps)

    def _cut(self, values: np.ndarray, length: int) -> np.ndarray:
        return values[self.episode[:, None], self.start[:, None] + np.arange(length)]


def reduced(
    frames: Shaped[np.ndarray, "w f height width c"],
) -> Float32[np.ndarray, "w f rows columns c"]:
    """Pictures of at most 32 x 32 pixels, which are means over blocks; a remainder is cut off."""
    down, across = (-(-side // _SIDE) for side in frames.shape[2:4])
    rows, columns = frames.shape[2] // down, frames.shape[3] // across
    total = np.zeros((*frames.shape[:2], rows, columns, frames.shape[4]), np.float32)
    for i in range(down):
        for j in range(across):
            total += frames[:, :, i::down, j::across][:, :, :rows, :columns]
    return total / np.float32(down * across)


def coarse(
    pictures: Float32[np.ndarray, "w f height width c"],
) -> Float32[np.ndarray, "w f down across c"]:
    """Low frequencies (discrete cosine transform), which follow smoothly what moves however small.

    A thing far smaller than its way shows in other pixels at each place; in waves longer than the
    way it shows like the cosine of its place.
    """
    down, across = (_waves(side) for side in pictures.shape[2:4])
    return np.einsum("wfijc,ik,jl->wfklc", pictures, down, across, optimize=True)


def _waves(side: int) -> Float32[np.ndarray, "side k"]:
    """Half waves along a side of a picture."""
    count = np.arange(min(_WAVES, side))
    return np.cos(np.pi * (np.arange(side)[:, None] + 0.5) * count / side).astype(np.float32)


def described(
    stream: Stream, frames: Shaped[np.ndarray, "w f ..."]
) -> list[Float32[np.ndarray, "w f n"]]:
    """Recorded values of a stream as numbers to predict, in one way or several.

    Of pictures the long waves, which suit small things that move far, and the pixels; of all else
    numbers of like size.
    """
    if stream.filmed:
        pictures = reduced(frames)
        return [seen.reshape(*seen.shape[:2], -1) for seen in (coarse(pictures), pictures)]
    values = stream.encode(frames).astype(np.float64)
    spread = values.std((0, 1))
    values = (values - values.mean((0, 1))) / np.where(spread > 0, spread, 1)
    return [values.astype(np.float32)]
