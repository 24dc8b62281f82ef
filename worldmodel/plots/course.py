"""The course of a training: latent space at a handful of updates, and the multiplier beside it.

Source: the picture of the authors' article on "Latent Matters" (Klushyn et al. 2021), in which the
latent space finds the angle first and the velocity later, while lambda moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from worldmodel.evaluation.identification import regress
from worldmodel.evaluation.snapshots import Snapshot
from worldmodel.plots.latent_plots import colourings, project
from worldmodel.plots.style import (
    BLUE,
    INK,
    SMALL,
    TEXT,
    VERMILION,
    colour_scale,
    dress,
    figure,
    label,
    legend,
    legend_above,
    log_scale,
    percent,
    save,
)


def course(
    snapshots: Sequence[Snapshot],
    history: Sequence[Mapping[str, float]],
    title: str,
    path: str | Path,
) -> Path:
    """Latent space coloured by every variable over the updates, and the objective's course below.

    The coordinates are the first two principal components of each snapshot's latents.

    Args:
        snapshots: In order, at least one; their latents have two dimensions or more.
        history: Of the trainer.
        title: Of the figure.
        path: PNG to write.
    """
    colours = [dict(list(colourings(s.truth).items())[:4]) for s in snapshots]
    rows, columns = max(1, len(colours[0])), len(snapshots)
    fig = figure(1.65 * columns + 1.0, 1.75 * rows + 2.6)
    fig.suptitle(title, fontsize=TEXT + 1, color=INK)
    grid = fig.add_gridspec(rows + 1, columns, height_ratios=[*[1.65] * rows, 1.7])
    for k, (snapshot, values) in enumerate(zip(snapshots, colours, strict=True)):
        flat, _ = project(snapshot.latents, 2)
        for i, (name, value) in enumerate(values.items() or [("", None)]):
            axes = fig.add_subplot(grid[i, k])
            mapping, shade = None, INK
            if value is not None:
                mapping = _mapping(name, colours[-1][name])
                shade = mapping.to_rgba(value)
            axes.scatter(flat[:, 0], flat[:, 1], c=shade, s=1.5, lw=0, rasterized=True)
            found = "" if value is None else _found(snapshot, name)
            above = f"{snapshot.update:,} updates\n{found}" if i == 0 else found
            axes.set_title(above, fontsize=SMALL, color=INK)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_aspect("equal", adjustable="datalim")
            for spine in axes.spines.values():
                spine.set_visible(False)
            if k == columns - 1 and mapping is not None:
                bar = fig.colorbar(mapping, ax=axes, fraction=0.08, pad=0.05)
                bar.outline.set_visible(False)
                bar.ax.tick_params(labelsize=SMALL - 1, length=2)
                bar.set_label(label(name), fontsize=SMALL, color=INK)
    _multiplier(fig.add_subplot(grid[rows, :]), snapshots, history)
    return save(fig, path)


def _mapping(name: str, values: np.ndarray) -> ScalarMappable:
    low, high, colours = colour_scale(name, values)
    return ScalarMappable(Normalize(low, high), colours)


def _found(snapshot: Snapshot, name: str) -> str:
    """R^2 of the variables that a colouring stands for; the worse of sine and cosine."""
    names = ["sin", "cos"] if name == "angle" else [name]
    truth = np.stack([snapshot.truth[n] for n in names], -1)
    return f"$R^2$ = {regress(snapshot.latents, truth).r2.min():.2f}"


def _multiplier(
    axes: Axes, snapshots: Sequence[Snapshot], history: Sequence[Mapping[str, float]]
) -> None:
    """Lambda and the constraint over the updates, or whatever else the objective logs."""
    updates = [logs["update"] for logs in history]
    series = {"validation/kl": ("rate (nats per sequence)", BLUE, "-")}
    if any("objective/multiplier" in logs for logs in history):
        series = {
            "objective/distortion": ("distortion reached", BLUE, "-"),
            "objective/distortion_target": ("distortion allowed", INK, "--"),
        }
    for name, (text, colour, dashes) in series.items():
        values = [logs.get(name, np.nan) for logs in history]
        axes.plot(updates, values, color=colour, ls=dashes, lw=1.5, label=text)
    for snapshot in snapshots:
        axes.axvline(snapshot.update, color=INK, lw=0.5, ls=":")
    axes.set_xlim(0, max([*updates, snapshots[-1].update]))
    if "validation/kl" in series:
        dress(axes, "updates", "nats per sequence")
        legend(axes)
        return
    log_scale(axes, percent)
    dress(axes, "updates", "fraction of the variance")
    other = axes.twinx()
    values = [logs.get("objective/multiplier", np.nan) for logs in history]
    other.plot(updates, values, color=VERMILION, lw=1.5)
    log_scale(other)
    dress(other, grid=False)
    other.set_ylabel(r"multiplier $\lambda$", fontsize=TEXT, color=VERMILION)
    other.tick_params(labelcolor=VERMILION, color=VERMILION)
    legend_above(axes)
