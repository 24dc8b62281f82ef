"""Values of a stream as small pictures for people; whoever shows them enlarges them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8

BACKGROUND, TEXT, FAINT = (24, 27, 34), (232, 235, 240), (120, 128, 142)
MOST_BARS = 128
_BAR, _LENGTH = 3, 41  # pixels


def pixels(
    values: Shaped[np.ndarray, "*lead height width channel"], channels: int, white: float
) -> UInt8[np.ndarray, "*lead height width 3"]:
    """Grey or RGB as they are; of a stack its last frame; of other channels the last.

    Args:
        values: From 0 for black.
        channels: Of one frame of a stack, else all there are.
        white: The value of white.
    """
    shown = values[..., -channels:] if channels in (1, 3) else values[..., -1:]
    if white != 255:
        shown = np.rint(np.clip(shown, 0, white) * (255 / white))
    return shown.astype(np.uint8).repeat(3 // shown.shape[-1], -1)


def bars(
    values: Shaped[np.ndarray, "*lead n"],
    least: Sequence[float],
    most: Sequence[float],
    low: Any = None,
    high: Any = None,
) -> UInt8[np.ndarray, "*lead height width 3"]:
    """One bar per component, of 128 at most, from the middle of its range to its value.

    Args:
        values: To show.
        least: (n,), left ends unless others are given; -1 where they are infinite.
        most: (n,), right ends, likewise; 1 where they are infinite.
        low: (n,), given left ends.
        high: (n,), given right ends.
    """
    low = _finite(least, -1.0) if low is None else np.asarray(low, float)
    high = _finite(most, 1.0) if high is None else np.asarray(high, float)
    values, low, high = (array[..., :MOST_BARS] for array in (values, low, high))
    middle, half = low / 2 + high / 2, np.maximum(high / 2 - low / 2, 1e-6)
    # Clipped first: what is far outside may be too far to subtract from.
    place = np.nan_to_num((np.clip(values, middle - half, middle + half) - middle) / half)
    centre = _LENGTH // 2
    ends = np.rint((place + 1) / 2 * (_LENGTH - 1))[..., None]
    column = np.arange(_LENGTH)
    filled = (column >= np.minimum(ends, centre)) & (column <= np.maximum(ends, centre))
    rows = np.where(filled[..., None], *(np.array(c, np.uint8) for c in (TEXT, BACKGROUND)))
    rows[..., centre, :] = FAINT
    lead, n = values.shape[:-1], values.shape[-1]
    page = np.full((*lead, n, 1 + _BAR, _LENGTH, 3), BACKGROUND, np.uint8)
    page[..., 1:, :, :] = rows[..., None, :, :]
    page = page.reshape(*lead, n * (1 + _BAR), _LENGTH, 3)
    edge = np.full((*lead, 1, _LENGTH, 3), BACKGROUND, np.uint8)
    return np.concatenate([page, edge], -3)


def beside(
    pictures: Sequence[UInt8[np.ndarray, "*lead _ _ 3"]], gap: int
) -> UInt8[np.ndarray, "*lead height width 3"]:
    """Pictures of different sizes side by side: all enlarged to about the height of the tallest.

    Args:
        pictures: With the same leading axes.
        gap: Pixels between them.
    """
    if len(pictures) == 1:
        return pictures[0]
    tallest = max(shown.shape[-3] for shown in pictures)
    columns = []
    for shown in pictures:
        factor = max(1, tallest // shown.shape[-3])
        large = shown.repeat(factor, -3).repeat(factor, -2)
        high, wide = large.shape[-3:-1]
        column = np.full((*large.shape[:-3], tallest, wide + gap, 3), BACKGROUND, np.uint8)
        column[..., :high, :wide, :] = large
        columns.append(column)
    return np.concatenate(columns, -2)[..., :-gap, :]


def _finite(ends: Sequence[float], otherwise: float) -> Float[np.ndarray, " n"]:
    return np.where(np.isfinite(ends), ends, otherwise)
