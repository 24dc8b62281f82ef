"""What the colour pictures of all systems share: palette, layers and the head of an arrow."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, UInt8

BACKGROUND = (13, 16, 23)
DIM = (68, 78, 98)
MIDDLE = (201, 209, 222)
BRIGHT = (246, 248, 252)
CONTROL = (255, 153, 51)
GOAL = (63, 185, 140)

HEAD_LENGTH, HEAD_RADIUS = 0.16, 0.08  # half-widths of the picture
SHAFT_RADIUS = 0.028

Layer = tuple[np.ndarray, np.ndarray | float, tuple[int, int, int]]


def grid(size: int) -> tuple[Float[np.ndarray, "1 1 size"], Float[np.ndarray, "1 size 1"]]:
    """x (to the right) and y (up) of the pixels' centres, in half-widths of the picture."""
    axis = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    return axis[None, None, :], -axis[None, :, None]


def compose(count: int, size: int, layers: Iterable[Layer]) -> UInt8[np.ndarray, "n size size 3"]:
    """Paint layers over each other, the first lowest.

    Args:
        count: How many pictures.
        size: Their width and height in pixels.
        layers: Signed distances in half-widths, negative inside; opacity from 0 to 1; RGB colour.
            The first two are broadcast to (count, size, size).

    Returns:
        RGB, 0 to 255, with edges one pixel wide.
    """
    canvas = np.full((count, size, size, 3), BACKGROUND, np.float32)
    for distance, opacity, colour in layers:
        coverage = np.clip(0.5 - distance * (size / 2), 0, 1) * opacity
        canvas += coverage[..., None] * (np.array(colour, np.float32) - canvas)
    return np.rint(canvas).astype(np.uint8)


def arrow_head(forward: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """Signed distance to a head that points forward from the origin, as seen from its sides."""
    slope = HEAD_LENGTH / np.hypot(HEAD_LENGTH, HEAD_RADIUS)
    side = (np.abs(beside) - HEAD_RADIUS * (1 - forward / HEAD_LENGTH)) * slope
    return np.maximum(-forward, side)
