"""Pictures of one ball or more in a box, seen from above; x points right and y up.

A single ball is a Gaussian: bright where its centre is and fading without an edge. A small sharp
ball that is not where it should be shares no pixel with its target, and then a learner has no
gradient towards it; a wide soft one shines far into the box, and its centroid tells the position
at sub-pixel precision. Several balls are drawn as Sutskever and Hinton 2007 did, with flat tops.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from envs.canvas import (
    BRIGHT,
    CONTROL,
    DIM,
    GOAL,
    HEAD_LENGTH,
    MIDDLE,
    SHAFT_RADIUS,
    Layer,
    arrow_head,
    compose,
    grid,
)

VIEW = 1.5  # half the width of the picture; the ball's centre stays within 1
DISC = 0.25  # radius of the ball in the scene, where the wall stands that much beyond 1
WALL = 0.04
ARROW_REACH = 0.45  # beyond the disc, under the greatest push along one axis
RING = 0.05

BOX = 10.0  # width of the box of several balls
BALL_RADIUS = 1.2
MARGIN = 1.04  # the scene shows so much more than the box, for the walls


def draw_ball(
    position: Float[np.ndarray, "n 2"], size: int, radius: float
) -> UInt8[np.ndarray, "n size size 1"]:
    """Fresh pictures of ``255 exp(-d^2 / (2 radius^2))``, d from a pixel's centre to the ball's.

    All operations are elementwise, so a picture does not depend on those it is drawn with.

    Args:
        position: x and y in half-widths of the range of the ball's centre.
        size: Width and height in pixels, which show [-1.5, 1.5] of both.
        radius: Standard deviation of the brightness, in the units of ``position``.
    """
    axis = ((np.arange(size) + 0.5) * 2 / size - 1) * VIEW
    offset = (axis - position[..., None]) / radius
    across, up = np.exp(-(offset**2) / 2).astype(np.float32).swapaxes(0, 1)
    rows = 255 * up[:, ::-1]  # the axis is symmetric, and row 0 is the top
    grey = rows[:, :, None] * across[:, None, :]
    grey += 0.5
    return grey.astype(np.uint8)[..., None]


def draw_ball_scene(
    position: Float[np.ndarray, "n 2"],
    push: Float[np.ndarray, "n 2"],
    target: tuple[float, float],
    size: int,
) -> UInt8[np.ndarray, "n size size 3"]:
    """The same box for human eyes: a ball that touches walls, its target, an arrow for the push.

    Args:
        position: x and y in half-widths of the range of the ball's centre.
        push: In units of the greatest push along one axis, [-1, 1].
        target: Where the ring that the ball fits into is.
        size: Width and height in pixels.

    Returns:
        RGB, 0 to 255.
    """
    x, y = (VIEW * axis for axis in grid(size))
    right, up = (values[:, None, None] for values in position.astype(np.float32).T)
    centre = np.hypot(x - right, y - up)
    wall = np.abs(np.maximum(np.abs(x), np.abs(y)) - (1 + DISC + WALL / 2)) - WALL / 2
    ring = np.abs(np.hypot(x - target[0], y - target[1]) - (DISC + RING)) - RING / 2
    strength = np.hypot(*push.T).astype(np.float32)[:, None, None]
    layers = (
        (wall, 1, DIM),
        (ring, 1, GOAL),
        (_arrow(x - right, y - up, push), np.minimum(1, 4 * strength), CONTROL),
        (centre - DISC, 1, BRIGHT),
    )
    scaled = ((distance / VIEW, opacity, colour) for distance, opacity, colour in layers)
    return compose(len(position), size, scaled)


def _arrow(x: np.ndarray, y: np.ndarray, push: Float[np.ndarray, "n 2"]) -> np.ndarray:
    """Signed distance to an arrow from the origin along each push; to the right if it is zero."""
    strength = np.hypot(*push.T)
    angle = np.arctan2(push[:, 1], push[:, 0])
    cosine, sine, strength = (
        values.astype(np.float32)[:, None, None]
        for values in (np.cos(angle), np.sin(angle), strength)
    )
    along, across = x * cosine + y * sine, y * cosine - x * sine
    length = DISC + ARROW_REACH * strength - HEAD_LENGTH
    shaft = np.hypot(along - np.clip(along, 0, length), across) - VIEW * SHAFT_RADIUS
    return np.minimum(shaft, arrow_head(along - length, across))


def draw_balls(
    position: Float[np.ndarray, "n balls 2"], size: int
) -> UInt8[np.ndarray, "n size size 1"]:
    """Fresh pictures of ``255 min(1, sum over balls of exp(-(d^2 / r^2)^4))``, r = 1.2.

    All operations are elementwise, so a picture does not depend on those it is drawn with.

    Args:
        position: x and y from 0 to 10, of which all is shown.
        size: Width and height in pixels.

    Source: Sutskever and Hinton 2007.
    """
    axis = ((np.arange(size) + 0.5) / size - 0.5) * BOX
    x, y = ((position - BOX / 2)[..., None] / BALL_RADIUS).transpose(2, 1, 0, 3)
    columns = ((axis / BALL_RADIUS - x) ** 2).astype(np.float32)  # (balls, n, size)
    rows = ((axis[::-1] / BALL_RADIUS - y) ** 2).astype(np.float32)
    grey = np.full((len(position), size, size), 0.5 / 255, np.float32)  # rounds to nearest
    # In place: fresh memory costs more than the arithmetic.
    power = np.empty_like(grey)
    for across, up in zip(columns, rows, strict=True):
        np.add(up[:, :, None], across[:, None, :], out=power)
        power *= power
        power *= power
        np.exp(np.negative(power, out=power), out=power)
        grey += power
    np.minimum(grey, 1, out=grey)
    grey *= 255
    return grey.astype(np.uint8)[..., None]


def draw_balls_scene(
    position: Float[np.ndarray, "n balls 2"], size: int
) -> UInt8[np.ndarray, "n size size 3"]:
    """The same box for human eyes, RGB from 0 to 255, with walls and two shades of balls."""
    x, y = (MARGIN * axis for axis in grid(size))
    centres = (position / (BOX / 2) - 1).astype(np.float32)
    edge = np.maximum(np.abs(x), np.abs(y))
    layers: list[Layer] = [(np.maximum(1 - edge, edge - MARGIN), 1, DIM)]
    for i, centre in enumerate(centres.swapaxes(0, 1)):
        right, up = (values[:, None, None] for values in centre.T)
        disc = np.hypot(x - right, y - up) - BALL_RADIUS / (BOX / 2)
        layers.append((disc, 1, (BRIGHT, MIDDLE)[i % 2]))
    scaled = ((distance / MARGIN, opacity, colour) for distance, opacity, colour in layers)
    return compose(len(position), size, scaled)
