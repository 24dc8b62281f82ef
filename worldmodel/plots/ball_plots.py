"""The latent space of a ball in a box, after Karl et al. 2017, figure 5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb

from worldmodel.errors import ShapeError
from worldmodel.evaluation.evaluate import Evaluation
from worldmodel.evaluation.identification import regress
from worldmodel.plots.style import (
    BLUE,
    INK,
    ORANGE,
    SEQUENTIAL,
    SMALL,
    VERMILION,
    colour_bar,
    dress,
    figure,
    label,
    save,
)

# Ground truth that a checkerboard is drawn of: position and velocity in a plane.
VARIABLES = ("x", "y", "vx", "vy")
FIELDS = 3  # of the checkerboard, along each side of the box
_SHOWN = 3500  # points; more only cover each other


def checkerboard(evaluation: Evaluation, path: str | Path) -> Path:
    """Position and velocity where the latent state holds them (figure 5).

    The left panel shows sampled latents in the plane from which x and y are read off, coloured by
    the field of a 3 x 3 checkerboard over the true box (as far as positions reach) that the ball is
    in. The other two show the same latents in the plane of the velocities, coloured by one velocity
    each. The planes come from the regressions. What is drawn in them are latents as they are, not
    fitted values, so that a box that is bent or torn in latent space is seen to be.

    Differs from the paper, whose two planes are axes of the latent space: a model is free to turn
    that space, and the regressions find the planes however it is turned.

    Args:
        evaluation: With ground truth ``x``, ``y``, ``vx`` and ``vy``.
        path: PNG to write.

    Raises:
        ShapeError: Another ground truth, whose variables the message names, or a latent state of
            fewer than two dimensions.
    """
    truth, latents = evaluation.truth, evaluation.latents
    if truth.keys() != set(VARIABLES) or latents.shape[1] < 2:
        raise ShapeError(
            f"a checkerboard needs the variables {VARIABLES} and two latent dimensions, "
            f"got {tuple(truth)} and {latents.shape}"
        )
    shown = slice(None, None, max(1, -(-len(latents) // _SHOWN)))
    x, y, vx, vy = (truth[name][shown] for name in VARIABLES)
    fig = figure(11.0, 3.5)
    left, key, middle, right = fig.subplots(1, 4, width_ratios=(1, 0.18, 1.12, 1.12))
    place = _plane(latents, truth["x"], truth["y"])[shown]
    motion = _plane(latents, truth["vx"], truth["vy"])[shown]
    _scatter(left, place, palette()[fields(x, *_ends(truth["x"])), fields(y, *_ends(truth["y"]))])
    dress(left, *_axis_names("xy"), _title(evaluation, "position $x$, $y$", "x", "y"), grid=False)
    _key(key)
    for axes, name, values in ((middle, "vx", vx), (right, "vy", vy)):
        reach = float(np.quantile(np.abs(values), 0.995)) or 1.0
        mapping = ScalarMappable(Normalize(-reach, reach), SEQUENTIAL)
        _scatter(axes, motion, mapping.to_rgba(values))
        dress(
            axes,
            *_axis_names(("vx", "vy")),
            _title(evaluation, label(name, False), name),
            grid=False,
        )
        colour_bar(fig, mapping, axes, f"true {label(name)}")
    return save(fig, path)


def fields(values: Float[np.ndarray, " n"], low: float, high: float) -> Int[np.ndarray, " n"]:
    """Which third of [low, high] each value lies in: 0, 1 or 2."""
    fraction = (values - low) / max(high - low, np.finfo(np.float32).tiny)
    return (FIELDS * fraction).astype(int).clip(0, FIELDS - 1)


def palette() -> Float[np.ndarray, "3 3 3"]:
    """RGB of the fields, by column from the left and row from below.

    A hue for each column, in three tones of which no neighbour has the same; so every field has a
    colour of its own, and a box that is mirrored or turned is seen to be.
    """
    hues = np.array([to_rgb(hue) for hue in (BLUE, VERMILION, ORANGE)])
    tones = np.stack([0.65 * hues, 0.5 * hues + 0.5, 0.85 * hues + 0.15])  # dark, pale, full
    row = np.add.outer(np.arange(FIELDS), np.arange(FIELDS)) % FIELDS
    return tones[row, np.arange(FIELDS)[:, None]]


def _plane(
    latents: Float[np.ndarray, "n latent"],
    first: Float[np.ndarray, " n"],
    second: Float[np.ndarray, " n"],
) -> Float[np.ndarray, "n 2"]:
    """Orthogonal projection of latents on the plane that two variables are read off from.

    The two directions of the regression need not be at right angles. The axes are the pair of
    orthonormal ones nearest to them, so that the plane is shown without distortion.
    """
    fit = regress(latents, np.stack([first, second], -1))
    directions = fit.coefficients[:-1]
    directions = directions / np.maximum(np.linalg.norm(directions, axis=0), 1e-300)
    left, _, right = np.linalg.svd(directions, full_matrices=False)
    return (latents - latents.mean(0)) @ (left @ right)


def _ends(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _axis_names(names: Sequence[str]) -> tuple[str, str]:
    first, second = (f"latent direction of {label(name, False)}" for name in names)
    return first, second


def _title(evaluation: Evaluation, text: str, *names: str) -> str:
    scores = (f"{evaluation.metrics['r2'][name]:.3f}" for name in names)
    return f"{text}: $R^2$ = {', '.join(scores)}"


def _scatter(axes: Axes, points: Float[np.ndarray, "n 2"], colours: np.ndarray) -> None:
    axes.scatter(*points.T, c=colours, s=4, linewidths=0)
    axes.set_aspect("equal", "datalim")
    # Latent units mean nothing by themselves.
    axes.set_xticks([])
    axes.set_yticks([])


def _key(axes: Axes) -> None:
    """The true box in small."""
    axes.imshow(palette().swapaxes(0, 1), origin="lower")
    axes.set_axis_off()
    axes.set_title("true box", fontsize=SMALL, color=INK, pad=3)
