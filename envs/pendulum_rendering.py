"""Pictures of a pendulum, drawn by signed distances.

A shape is a signed distance (negative inside) to every pixel centre; a pixel's brightness is
``0.5 - distance / blur``, clipped to [0, 1]: an edge that is ``blur`` pixels wide, as a lens makes
it. One pixel is anti-aliasing and no more. A camera with few pixels wants a wider edge: it carries
the angle at sub-pixel precision, and pictures of a fast pendulum still overlap from one to the
next, without which a learner gets no gradient towards where the rod should be.

Lengths are in half-widths of the picture, so 16 and 256 pixels show the same drawing. The pivot is
the centre; angle 0 points up and grows counterclockwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8

from envs.canvas import BRIGHT, CONTROL, DIM, MIDDLE, SHAFT_RADIUS, arrow_head, compose, grid

LENGTH = 0.55
ROD_RADIUS = 0.10
BOB_RADIUS = 0.25  # with LENGTH and half an edge of 3 pixels it stays inside from 16 pixels on
BLUR = 4.0  # pixels

ARC_DISTANCE = 0.89
ARC_SWEEP = 2.0  # radians at full torque

_SCRATCH_PIXELS = 1 << 17  # drawn per pass: bounds the scratch memory to 1.4 MB


@dataclass(frozen=True)
class _HalfPlane:
    """Constants of one picture size, for the first half of the pixels in reading order.

    Distances are in 1/255 of the blur, so that a coverage comes out as a grey level.
    """

    x: np.ndarray
    y: np.ndarray
    square: np.ndarray  # squared distance to the pivot
    bob_square: np.ndarray  # the part of the squared distance to the tip that no angle changes
    pivot: np.ndarray  # grey level of the pivot's disc, which no angle changes
    length: np.float32
    rod: np.float32  # radius plus half the soft edge plus 0.5 to round to nearest
    bob: np.float32


@lru_cache(maxsize=16)
def _half_plane(size: int, blur: float) -> _HalfPlane:
    axis = 255 / blur * (np.arange(size) + 0.5 - size / 2)
    half = (size * size + 1) // 2
    x, y = np.tile(axis, size)[:half], np.repeat(-axis, size)[:half]
    unit = 255 / blur * size / 2
    length = LENGTH * unit
    # The small term keeps r^2 - along^2 from rounding below zero: it moves no edge by 1e-5.
    square = x**2 + y**2 + 5e-7 * unit**2
    rod, bob = (radius * unit + 255 / 2 + 0.5 for radius in (ROD_RADIUS, BOB_RADIUS))
    pivot = np.clip(np.float32(rod) - np.sqrt(square.astype(np.float32)), 0, 255)
    return _HalfPlane(
        x=x.astype(np.float32),
        y=y.astype(np.float32),
        square=square.astype(np.float32),
        bob_square=(square + length**2).astype(np.float32),
        pivot=pivot.astype(np.uint8),
        length=np.float32(length),
        rod=np.float32(rod),
        bob=np.float32(bob),
    )


class Painter:
    """Draws rod and bob, white on black, many pictures at a time.

    Every distance depends on a pixel only through its radius, which is constant, and its length
    along the rod. Opposite pixels differ in the sign of the latter, and on the far side of the
    pivot only the pivot's disc is visible: half of the pixels give both halves of the picture.
    All operations are elementwise, so a picture does not depend on those it is drawn with.

    Scratch memory is kept between calls, since fresh pages cost as much as the arithmetic: one
    painter serves one thread.

    Args:
        size: Width and height in pixels.
        batch: How many pictures are usually drawn at a time; any number can be.
        blur: Width of an edge in pixels; 1 is sharp.
    """

    def __init__(self, size: int, batch: int = 1, blur: float = BLUR) -> None:
        self.size = size
        self._plane = _half_plane(size, blur)
        half = len(self._plane.x)
        shape = (max(1, min(batch, _SCRATCH_PIXELS // half)), half)
        self._rod, self._bob = np.empty(shape, np.float32), np.empty(shape, np.float32)
        self._grey, self._here = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
        self._near = np.empty(shape, np.bool_)

    def draw(self, angle: Float[np.ndarray, " n"]) -> UInt8[np.ndarray, "n size size 1"]:
        """Fresh pictures, grey levels 0 to 255.

        Args:
            angle: Radians; 0 is up, counterclockwise positive.
        """
        count, step = len(angle), len(self._rod)
        frames = np.empty((count, self.size * self.size), np.uint8)
        right = -np.sin(angle).astype(np.float32)[:, None]
        up = np.cos(angle).astype(np.float32)[:, None]
        for start in range(0, count, step):
            chosen = slice(start, start + step)
            self._draw_pass(right[chosen], up[chosen], frames[chosen])
        return frames.reshape(count, self.size, self.size, 1)

    def _draw_pass(self, right: np.ndarray, up: np.ndarray, frames: np.ndarray) -> None:
        """Write pictures of the rod directions (n, 1) into ``frames`` (n, pixels)."""
        plane, n = self._plane, len(right)
        rod, along, near = self._rod[:n], self._bob[:n], self._near[:n]
        np.multiply(right, plane.x, out=along)
        np.multiply(up, plane.y, out=rod)
        along += rod
        np.greater(along, 0, out=near)
        np.abs(along, out=along)
        # Beyond the tip this exceeds the distance to the rod's end, but there the bob hides it.
        np.clip(along, 0, plane.length, out=rod)
        rod *= rod
        np.subtract(plane.square, rod, out=rod)
        np.sqrt(rod, out=rod)
        np.subtract(plane.rod, rod, out=rod)
        bob = along
        bob *= -2 * plane.length
        bob += plane.bob_square
        np.sqrt(bob, out=bob)
        np.subtract(plane.bob, bob, out=bob)
        np.maximum(rod, bob, out=rod)
        np.clip(rod, 0, 255, out=rod)
        grey, here, half = self._grey[:n], self._here[:n], len(plane.x)
        grey[...] = rod
        np.multiply(grey, near.view(np.uint8), out=here)
        grey -= here
        np.maximum(here, plane.pivot, out=frames[:, :half])
        np.maximum(grey, plane.pivot, out=frames[:, ::-1][:, :half])


def draw_scene(
    angle: Float[np.ndarray, " n"], torque: Float[np.ndarray, " n"], size: int
) -> UInt8[np.ndarray, "n size size 3"]:
    """The same pendulum for human eyes: in colour, with an arrow for the torque.

    Args:
        angle: Radians; 0 is up, counterclockwise positive.
        torque: In units of the greatest torque, [-1, 1]. The arrow starts at the rod and turns
            the way the torque does; its sweep is proportional.
        size: Width and height in pixels.

    Returns:
        RGB, 0 to 255.
    """
    x, y = grid(size)
    sine, cosine, torque = (
        values.astype(np.float32)[:, None, None]
        for values in (np.sin(angle), np.cos(angle), torque)
    )
    along, across = y * cosine - x * sine, -x * cosine - y * sine
    radius = np.hypot(x, y)
    arrow = _arrow(along, across * np.sign(torque), ARC_SWEEP * np.abs(torque))
    fade = np.minimum(1, 4 * np.abs(torque))  # no arrow without torque, and none that pops up
    layers = (
        (arrow, fade, CONTROL),
        (np.hypot(along - np.clip(along, 0, LENGTH), across) - ROD_RADIUS, 1, MIDDLE),
        (np.hypot(along - LENGTH, across) - BOB_RADIUS, 1, BRIGHT),
        (radius - 0.45 * ROD_RADIUS, 1, DIM),
    )
    return compose(len(angle), size, layers)


def _arrow(along: np.ndarray, across: np.ndarray, sweep: np.ndarray) -> np.ndarray:
    """Signed distance to an arc from the rod through ``sweep`` >= 0 radians, and its head.

    The arc is folded onto its bisector: one side and one end then stand for both.
    """
    half = sweep / 2
    bisector = along * np.cos(half) + across * np.sin(half)
    beside = np.abs(across * np.cos(half) - along * np.sin(half))
    end_x, end_y = np.cos(half), np.sin(half)
    within = beside * end_x <= bisector * end_y
    to_arc = np.abs(np.hypot(along, across) - ARC_DISTANCE)
    to_end = np.hypot(bisector - ARC_DISTANCE * end_x, beside - ARC_DISTANCE * end_y)
    arc = np.where(within, to_arc, to_end) - SHAFT_RADIUS
    forward = across * np.cos(sweep) - along * np.sin(sweep)
    outward = along * np.cos(sweep) + across * np.sin(sweep) - ARC_DISTANCE
    return np.minimum(arc, arrow_head(forward, outward))
