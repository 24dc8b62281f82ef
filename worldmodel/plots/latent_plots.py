"""The latent space and walks through it, after Karl et al. 2017, figures 3 and 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D, axis3d

from worldmodel.errors import ShapeError
from worldmodel.evaluation.evaluate import Evaluation
from worldmodel.plots.style import (
    BLUE,
    GREY,
    INK,
    PALE,
    SEQUENTIAL,
    SMALL,
    TEXT,
    VERMILION,
    angle_ticks,
    colour_scale,
    dress,
    figure,
    label,
    save,
)
from worldmodel.types import Batch
from worldmodel.world.world import World


def latent_space(evaluation: Evaluation, path: str | Path) -> Path:
    """Sampled latents coloured by ground truth, and regressions of the truth on them (figure 3).

    Latents of more than three dimensions are shown by their first three principal components, and
    more than four variables in several rows.
    Where ``sin`` and ``cos`` are among the variables, one cyclic colouring by their angle stands
    for both.

    Raises:
        ShapeError: The latent state has fewer than two dimensions.
    """
    points, names = project(evaluation.latents, 3)
    truth = evaluation.truth
    colours = colourings(truth)
    above, below = _rows(list(colours) or [""]), _rows(list(truth))
    width = max(3.5 * len(above[0]), 2.35 * len(below[0]) if below else 0)
    fig = figure(width, 3.2 * len(above) + 2.6 * len(below), layout=None)
    for i, row in enumerate(above):
        # In inches from the foot of the figure, since rows must not shrink as they become more.
        foot = 2.6 * len(below) + 3.2 * (len(above) - 1 - i)
        side = dict(left=0.1 / width, right=1 - 0.875 / width)
        grid = _row(fig, len(row), foot + 0.04, foot + 3.3, wspace=0.32, **side)
        for k, name in enumerate(row):
            _cloud(fig, grid[k], points, names, name, colours.get(name))
    for i, row in enumerate(below):
        foot = 2.6 * (len(below) - 1 - i)
        side = dict(left=0.63 / width, right=1 - 0.1 / width)
        grid = _row(fig, len(row), foot + 0.5, foot + 2.3, wspace=0.22, **side)
        for k, name in enumerate(row):
            y = "read off the latent state" if k == 0 else ""
            _scatter(fig.add_subplot(grid[k]), evaluation, name, y)
    return save(fig, path)


def _rows(names: list[str], most: int = 4) -> list[list[str]]:
    return [names[i : i + most] for i in range(0, len(names), most)]


def _row(fig: Figure, columns: int, low: float, high: float, **where: float) -> GridSpec:
    """A row of a figure between two heights in inches."""
    height = fig.get_figheight()
    return fig.add_gridspec(1, columns, bottom=low / height, top=high / height, **where)


@torch.no_grad()
def latent_walks(
    world: World,
    unactuated: Batch,
    cloud: Float[np.ndarray, "n latent"],
    path: str | Path,
    filtered: int = 15,
    seed: int = 0,
) -> Path:
    """A walk that the model dreams beside one that frames correct, from one state (figure 4a, b).

    Args:
        world: Of any model.
        unactuated: A real episode without control, of which the first is taken; the paper shows
            100 steps.
        cloud: Latents of other data, drawn pale for orientation.
        path: PNG to write.
        filtered: Leading frames that the first state, common to both walks, is inferred from.
        seed: Of the dream's process noise.
    """
    model = world.model
    one = unactuated[:1].to(model.device)
    real = model.filter_beliefs(one.observations, one.actions, filtered, one.seen).mean
    generator = torch.Generator(model.device).manual_seed(seed)
    dream = world.rollout(real[:, 0], one.actions, generator)
    walks = {"Generative walk": dream, "Filtered walk": real}
    points, names = project(
        np.concatenate([cloud, *(w[0].cpu().numpy() for w in walks.values())]), 3
    )
    length = one.steps + 1
    fig = figure(7.0, 3.3, layout=None)
    grid = fig.add_gridspec(1, 2, left=0.015, right=0.9, top=0.92, bottom=0.05, wspace=0.05)
    colours = ScalarMappable(Normalize(0, one.steps), SEQUENTIAL)
    for i, title in enumerate(walks):
        axes = _space(fig, grid[i], points, names, title)
        start = len(cloud) + i * length
        _walk(axes, points[: len(cloud)], points[start : start + length], colours)
    _colour_bar(fig, (0.915, 0.2, 0.014, 0.58), colours, "step")
    return save(fig, path)


def _walk(axes: Axes, cloud: np.ndarray, walk: np.ndarray, colours: ScalarMappable) -> None:
    """A walk coloured by time over a pale cloud, its first point ringed."""
    _points(axes, _thin(cloud, 2500), s=2, color=PALE, zorder=1)
    axes.plot(*walk.T, color=GREY, lw=0.7, zorder=2)
    _points(axes, walk, s=12, c=colours.to_rgba(np.arange(len(walk))), zorder=3)
    _points(axes, walk[:1], s=50, facecolors="none", edgecolors=VERMILION, lw=1.5, zorder=4)


def _thin(points: np.ndarray, most: int) -> np.ndarray:
    """Every k-th point, so that at most ``most`` are drawn."""
    return points[:: max(1, -(-len(points) // most))]


def _points(axes: Axes, points: np.ndarray, **style: Any) -> None:
    """A scatter in two or three dimensions that keeps its colours at any depth."""
    shading = {"depthshade": False} if isinstance(axes, Axes3D) else {}
    axes.scatter(*points.T, **{"linewidths": style.pop("lw", 0), **style, **shading})


def colourings(truth: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Ground truth to colour points by: an angle in place of its sine and cosine."""
    if not {"sin", "cos"} <= truth.keys():
        return dict(truth)
    rest = {k: v for k, v in truth.items() if k not in ("sin", "cos")}
    return {"angle": np.arctan2(truth["sin"], truth["cos"]), **rest}


def project(
    latents: Float[np.ndarray, "n latent"], most: int
) -> tuple[Float[np.ndarray, "n d"], list[str]]:
    """The latents as they are, or their first ``most`` principal components if they have more.

    Returns:
        At most ``most`` coordinates, and their names.

    Raises:
        ShapeError: They have fewer than two dimensions.
    """
    if latents.shape[1] < 2:
        raise ShapeError(f"a latent space needs two dimensions to be drawn, got {latents.shape}")
    kind, points = "latent", latents
    if latents.shape[1] > most:
        centred = latents - latents.mean(0)
        kind = "component"
        points = centred @ np.linalg.svd(centred, full_matrices=False)[2][:most].T
    return points, [f"{kind} {i + 1}" for i in range(points.shape[1])]


def viewpoint(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " 3"]:
    """Direction to look from, upper half, in units of the axes' std.

    A little off the direction of the smallest std: flat clouds show their face and their depth.
    """
    std = points.std(0)
    scaled = (points - points.mean(0)) / np.where(std > 0, std, 1)
    # Rows of zeros, so that there are three directions even of two points.
    principal = np.linalg.svd(np.pad(scaled, ((0, 3), (0, 0))), full_matrices=False)[2]
    eye = principal[2] + 0.55 * principal[0] + 0.35 * principal[1]
    return eye if eye[2] >= 0 else -eye


def _space(
    fig: Figure, cell: SubplotSpec, points: np.ndarray, names: Sequence[str], title: str
) -> Axes:
    """Empty axes for points, seen from where their shape shows."""
    if points.shape[1] == 2:
        box = cell.get_position(fig)  # flat axes have their labels outside
        inset = (0.16 * box.width, 0.16 * box.height, 0.78 * box.width, 0.7 * box.height)
        axes = fig.add_axes((box.x0 + inset[0], box.y0 + inset[1], *inset[2:]))
        dress(axes, names[0], names[1], title)
        return axes
    axes = fig.add_subplot(cell, projection="3d", computed_zorder=False)
    assert isinstance(axes, Axes3D)
    eye = viewpoint(points)
    elevation = np.degrees(np.arctan2(eye[2], np.hypot(eye[0], eye[1])))
    azimuth = np.degrees(np.arctan2(eye[1], eye[0]))
    # In every other quadrant the vertical axis stands at the right, clear of what is at the left.
    turn = azimuth % 180 if azimuth % 180 > 45 else azimuth % 180 + 180
    azimuth += np.clip(turn, 105, 165) - turn
    axes.view_init(float(np.clip(elevation, 15, 40)), float(azimuth))
    axes.set_title(title, fontsize=TEXT, color=INK, y=1.0)
    # Latent units mean nothing by themselves, so the axes have names but no numbers.
    for axis, name in zip((axes.xaxis, axes.yaxis, axes.zaxis), names, strict=True):
        axis.set_ticks([])
        axis.set_label_text(name, fontsize=SMALL, color=INK)
        axis.labelpad = -14
        cast(axis3d.Axis, axis).set_pane_color((0.965, 0.967, 0.975, 1.0))
        cast(axis3d.Axis, axis).line.set_color(GREY)
    axes.set_box_aspect((1, 1, 1), zoom=cast(int, 1.12))  # the stubs take the default 1 for a type
    return axes


def _cloud(
    fig: Figure,
    cell: SubplotSpec,
    points: np.ndarray,
    names: Sequence[str],
    variable: str,
    values: np.ndarray | None,
) -> None:
    """Latents coloured by one variable, with its colour bar; plain if there is none."""
    axes = _space(fig, cell, points, names, "")
    if values is None:
        _points(axes, points, s=2.5, color=GREY)
        return
    low, high, colours = colour_scale(variable, values)
    mapping = ScalarMappable(Normalize(low, high), colours)
    _points(axes, _thin(points, 3500), c=mapping.to_rgba(_thin(values, 3500)), s=4)
    box = cell.get_position(fig)
    height, inch = 0.6 * box.height, 1 / fig.get_figwidth()
    bar = _colour_bar(
        fig,
        (box.x1 + 0.31 * inch, box.y0 + 0.5 * (box.height - height), 0.085 * inch, height),
        mapping,
        label(variable).replace(" (", "\n("),
    )
    if variable == "angle":
        angle_ticks(bar.ax.yaxis)


def _scatter(axes: Axes, evaluation: Evaluation, name: str, y: str) -> None:
    """Regression's prediction against the truth, with the line on which both agree."""
    truth, fitted = evaluation.truth[name], evaluation.fitted[name]
    low, high = float(truth.min()), float(truth.max())
    margin = 0.06 * (high - low)
    axes.plot([low, high], [low, high], color=INK, lw=0.8)
    _points(axes, _thin(np.stack([truth, fitted], 1), 3500), s=3, color=BLUE, alpha=0.3)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(low - 3 * margin, high + 3 * margin)
    r2 = evaluation.metrics["r2"][name]
    dress(axes, f"true {label(name)}", y, f"{label(name, False)}:  $R^2$ = {r2:.3f}")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _colour_bar(
    fig: Figure, place: tuple[float, float, float, float], mapping: ScalarMappable, text: str
) -> Colorbar:
    axes = fig.add_axes(place)
    bar = fig.colorbar(mapping, cax=axes)
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=SMALL, color=GREY, labelcolor=INK, length=2)
    axes.set_title(text, fontsize=SMALL, color=INK, pad=7)
    return bar
