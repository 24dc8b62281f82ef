"""What moves in pictures: where, how far between frames, and whether at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from worldmodel.data.windows import reduced

# What is the same at both ends of all episodes, as a fraction of what these differ by, from which
# on it is what pictures differ by. LunarLander's ground: 0.98; the most of Pendulum, CartPole,
# InvertedPendulum and dm_control's cart-pole: 0.08.
STILL = 0.9
# Fewer do not tell; and in shorter ones a thing that is slow has not moved yet.
_EPISODES, _FRAMES = 10, 20

_EDGE = 0.01  # of the most restless pixel's change: less is the smear of scaling
# Height and width of a corner as fractions of the picture: for a dial, and for a line of text.
_CORNERS = ((1 / 4, 1 / 4), (1 / 6, 1 / 2))


@dataclass(frozen=True)
class Corner:
    """A patch of restless pixels in a corner, apart from all else that moves.

    Attributes:
        rows: First, and the one behind the last, of the recorded picture.
        columns: Likewise.
        fraction: Of all that changes between frames, as squares of pixels.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    fraction: float


@dataclass(frozen=True)
class Motion:
    """Measures of a sample of pictures.

    Attributes:
        repeated: Fraction of frames that equal the one before to the last bit.
        novelty: Mean squared change from frame to frame, as a fraction of that between frames drawn
            at random; 1 if a frame says nothing of the next. Outside ``corner``.
        corner: The most restless one, if any stands apart.
    """

    repeated: float
    novelty: float
    corner: Corner | None


def motion(frames: Shaped[np.ndarray, "w f height width c"]) -> Motion:
    """Measure pictures (windows of consecutive frames, as recorded)."""
    pictures = reduced(frames)
    change = np.square(np.diff(pictures, axis=1)).mean((0, 1)).sum(-1)
    variance = pictures.reshape(-1, *pictures.shape[2:]).var(0).sum(-1)
    corner = _restless(change)
    outside = np.ones(change.shape, np.bool_)
    block = tuple(a // b for a, b in zip(frames.shape[2:4], change.shape, strict=True))
    if corner:
        outside[slice(*corner.rows), slice(*corner.columns)] = False
        corner = Corner(
            (corner.rows[0] * block[0], corner.rows[1] * block[0]),
            (corner.columns[0] * block[1], corner.columns[1] * block[1]),
            corner.fraction,
        )
    most = 2 * float(variance[outside].sum())
    same = (frames[:, 1:] == frames[:, :-1]).all((2, 3, 4))
    return Motion(
        float(same.mean()), float(change[outside].sum()) / most if most > 0 else 0.0, corner
    )


def stillness(first: Any, last: Any, lengths: Sequence[int]) -> float:
    """How much of what episodes differ by stands still in them: is the same at both of their ends.

    Args:
        first: (n, numbers), floats: the first picture of every episode.
        last: (n, numbers): the last.
        lengths: Frames of each.

    Returns:
        A fraction of the variance at the ends; 0 if episodes are too few or too short to tell.
    """
    if len(lengths) < _EPISODES or float(np.median(lengths)) < _FRAMES:
        return 0.0
    first, last = first - first.mean(0), last - last.mean(0)
    both = float((first * first).sum() + (last * last).sum()) / 2
    return float((first * last).sum()) / both if both > 0 else 0.0


def _restless(change: Float[np.ndarray, "height width"]) -> Corner | None:
    """The corner with the largest fraction of the change, if a still frame surrounds its pixels."""
    # A camera's noise is everywhere.
    above = np.maximum(change - np.median(change), 0).astype(np.float64)
    if not above.any():
        return None
    restless = above > _EDGE * above.max()
    found = []
    for inside in _corners(change.shape):
        if not (restless & inside).any():
            continue
        rows, columns = (np.flatnonzero((restless & inside).any(axis)) for axis in (1, 0))
        box = (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)
        if not _ring(restless, *box).any():
            patch = above[slice(*box[0]), slice(*box[1])]
            found.append(Corner(*box, float(patch.sum() / above.sum())))
    return max(found, key=lambda corner: corner.fraction, default=None)


def _corners(shape: tuple[int, ...]) -> list[Bool[np.ndarray, "height width"]]:
    """Masks of both kinds of corners at all four places."""
    masks = []
    for high, wide in _CORNERS:
        rows, columns = (
            max(1, round(n * part)) for n, part in zip(shape, (high, wide), strict=True)
        )
        for down in (slice(rows), slice(shape[0] - rows, None)):
            for across in (slice(columns), slice(shape[1] - columns, None)):
                mask = np.zeros(shape, np.bool_)
                mask[down, across] = True
                masks.append(mask)
    return masks


def _ring(
    restless: Bool[np.ndarray, "height width"], rows: tuple[int, int], columns: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    """Which of the pixels next to a box are restless."""
    around = restless.copy()
    around[slice(*rows), slice(*columns)] = False
    near = np.zeros_like(around)
    near[max(rows[0] - 1, 0) : rows[1] + 1, max(columns[0] - 1, 0) : columns[1] + 1] = True
    return around & near
