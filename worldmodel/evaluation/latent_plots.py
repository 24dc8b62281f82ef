"""The latent space and walks through it, after Karl et al. 2017, figures 3 and 4."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D

from worldmodel.errors import ShapeError
from worldmodel.evaluation.evaluate import Evaluation
from worldmodel.evaluation.style import (
    BLUE,
    GREY,
    INK,
    PALE,
    SEQUENTIAL,
    SMALL,
    TEXT,
    VERMILION,
    cyclic,
    dress,
    figure,
    label,
    save,
)
from worldmodel.models.base import StateSpaceModel
from worldmodel.types import Batch


def latent_space(evaluation: Evaluation, path: str | Path) -> Path:
    """Sampled latents coloured by ground truth, and regressions of the truth on them (figure 3).

    Latents of more than three dimensions are shown by their first three principal components.
    Where ``sin`` and ``cos`` are among the variables, one cyclic colouring by their angle stands
    for both.

    Raises:
        ShapeError: The latent state has fewer than two dimensions.
    """
    points, names = _project(evaluation.latents)
    truth = evaluation.truth
    colours = dict(truth)
    if {"sin", "cos"} <= truth.keys():
        rest = {k: v for k, v in truth.items() if k not in ("sin", "cos")}
        colours = {"angle": np.arctan2(truth["sin"], truth["cos"]), **rest}
    above, below = max(len(colours), 1), len(truth)
    fig = figure(max(3.3 * above, 2.3 * below), 3.3 + 2.6 * bool(below), layout=None)
    top = dict(left=0.01, right=0.95, top=0.95, bottom=0.44 if below else 0.06, wspace=0.12)
    for i, cell in enumerate(fig.add_gridspec(1, above, **top)):
        name = list(colours)[i] if colours else None
        _cloud(fig, cell, points, names, name, colours.get(name or ""))
    if below:
        bottom = dict(left=0.09, right=0.98, top=0.345, bottom=0.085, wspace=0.38)
        for name, cell in zip(truth, fig.add_gridspec(1, below, **bottom), strict=True):
            _scatter(fig.add_subplot(cell), evaluation, name)
    return save(fig, path)


@torch.no_grad()
def latent_walks(
    model: StateSpaceModel,
    unactuated: Batch,
    cloud: Float[np.ndarray, "n latent"],
    path: str | Path,
    filtered: int = 15,
    seed: int = 0,
) -> Path:
    """A walk that the model dreams beside one that frames correct, from one state (figure 4a, b).

    Args:
        model: Any state-space model.
        unactuated: A real episode without control, of which the first is taken; the paper shows
            100 steps.
        cloud: Latents of other data, drawn pale for orientation.
        path: PNG to write.
        filtered: Leading frames that the first state, common to both walks, is inferred from.
        seed: Of the dream's process noise.
    """
    one = unactuated[:1].to(model.device)
    real = model.filter_beliefs(one.observations, one.actions, prefix=filtered).mean
    generator = torch.Generator(model.device).manual_seed(seed)
    dream = model.rollout(real[:, 0], one.actions, generator)
    walks = {"Generative walk": dream, "Filtered walk": real}
    points, names = _project(np.concatenate([cloud, *(w[0].cpu().numpy() for w in walks.values())]))
    length = one.steps + 1
    behind = points[: len(cloud)][:: max(1, len(cloud) // 2500)]
    fig = figure(6.8, 3.3, layout=None)
    grid = fig.add_gridspec(1, 2, left=0.01, right=0.87, top=0.93, bottom=0.06, wspace=0.1)
    limits = Normalize(0, one.steps)
    for i, title in enumerate(walks):
        axes = _space(fig, grid[i], points, names, title)
        walk = points[len(cloud) + i * length :][:length]
        axes.scatter(*behind.T, s=2, color=PALE, linewidths=0, depthshade=False)
        axes.plot(*walk.T, color=GREY, lw=0.6)
        axes.scatter(
            *walk.T, c=np.arange(length), cmap=SEQUENTIAL, norm=limits, s=11, linewidths=0,
            depthshade=False,
        )  # fmt: skip
        axes.scatter(*walk[:1].T, s=40, facecolors="none", edgecolors=VERMILION, depthshade=False)
    _colour_bar(fig, (0.915, 0.2, 0.014, 0.58), ScalarMappable(limits, SEQUENTIAL), "step")
    return save(fig, path)


def _project(latents: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """At most three coordinates of latents, and their names."""
    size = latents.shape[1]
    if size < 2:
        raise ShapeError(f"a latent space needs two dimensions to be drawn, got {latents.shape}")
    if size <= 3:
        return latents, [f"latent {i + 1}" for i in range(size)]
    centred = latents - latents.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:3]
    return centred @ axes.T, [f"component {i + 1}" for i in range(3)]


def _space(
    fig: Figure, cell: SubplotSpec, points: np.ndarray, names: Sequence[str], title: str
) -> Axes:
    """Empty axes for points, seen from where their shape shows."""
    if points.shape[1] == 2:
        axes = fig.add_subplot(cell)
        dress(axes, *names, title)
        return axes
    axes = fig.add_subplot(cell, projection="3d")
    assert isinstance(axes, Axes3D)
    # A little off the direction of least spread: flat clouds show their face and their depth.
    spread = points.std(0)
    principal = np.linalg.svd((points - points.mean(0)) / spread, full_matrices=False)[2]
    eye = principal[2] + 0.55 * principal[0] + 0.35 * principal[1]
    eye *= 1 if eye[2] >= 0 else -1
    elevation = np.degrees(np.arctan2(eye[2], np.hypot(eye[0], eye[1])))
    axes.view_init(float(elevation), float(np.degrees(np.arctan2(eye[1], eye[0]))))
    axes.set_title(title, fontsize=TEXT, color=INK, y=0.99)
    axes.set_box_aspect((1, 1, 1), zoom=0.9)
    for axis, name in zip((axes.xaxis, axes.yaxis, axes.zaxis), names, strict=True):
        axis.set_label_text(name, fontsize=SMALL, color=INK)
        axis.set_pane_color((0.97, 0.97, 0.98, 1.0))
        axis._axinfo["grid"].update(color=PALE, linewidth=0.5)
        axis.labelpad = -6
        axis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=6.5, pad=-2, labelcolor=GREY)
    return axes


def _cloud(
    fig: Figure,
    cell: SubplotSpec,
    points: np.ndarray,
    names: Sequence[str],
    variable: str | None,
    values: np.ndarray | None,
) -> None:
    """Latents coloured by one variable, with its colour bar; plain if there is none."""
    axes = _space(fig, cell, points, names, "")
    if variable is None or values is None:
        axes.scatter(*points.T, s=2.5, color=GREY, linewidths=0)
        return
    angle = variable == "angle"
    reach = np.pi if angle else float(np.quantile(np.abs(values), 0.995))
    low = -reach if values.min() < 0 else float(values.min())
    mapping = ScalarMappable(Normalize(low, reach), cyclic() if angle else SEQUENTIAL)
    axes.scatter(*points.T, c=mapping.to_rgba(values), s=2.5, linewidths=0)
    box = cell.get_position(fig)
    height = 0.62 * box.height
    bar = _colour_bar(
        fig,
        (box.x1 - 0.045, box.y0 + 0.5 * (box.height - height), 0.012, height),
        mapping,
        label(variable),
    )
    if angle:
        bar.set_ticks([-np.pi, -np.pi / 2, 0, np.pi / 2, np.pi])
        bar.set_ticklabels(["−π", "−π/2", "0", "π/2", "π"])  # noqa: RUF001


def _scatter(axes: Axes, evaluation: Evaluation, name: str) -> None:
    """Regression's prediction against the truth, with the line on which both agree."""
    truth, fitted = evaluation.truth[name], evaluation.fitted[name]
    low, high = float(truth.min()), float(truth.max())
    margin = 0.06 * (high - low)
    axes.plot([low, high], [low, high], color=INK, lw=0.8)
    axes.scatter(truth, fitted, s=2, color=BLUE, alpha=0.25, linewidths=0)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(low - 3 * margin, high + 3 * margin)
    r2 = evaluation.metrics["r2"][name]
    dress(
        axes,
        f"true {label(name)}",
        "read off the latent state",
        f"{label(name, False)}:  $R^2$ = {r2:.3f}",
    )


def _colour_bar(
    fig: Figure, place: tuple[float, float, float, float], mapping: ScalarMappable, text: str
) -> Colorbar:
    axes = fig.add_axes(place)
    bar = fig.colorbar(mapping, cax=axes)
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=SMALL, color=GREY, labelcolor=INK, length=2)
    axes.set_title(text, fontsize=SMALL, color=INK, pad=7)
    return bar
