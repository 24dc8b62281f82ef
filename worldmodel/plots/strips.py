"""Frames in rows: what was, what the filter makes of it, what the model makes of it alone.

Source: Karl et al. 2017, figures 4c and 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from worldmodel.errors import SpecError
from worldmodel.plots.imagination import SPREAD_COLOURS, Imagination, pictures
from worldmodel.plots.style import (
    GREY,
    INK,
    SMALL,
    TEXT,
    VERMILION,
    figure,
    save,
)
from worldmodel.types import Batch
from worldmodel.world.world import World

_EPISODES = 4  # in one picture of an imagination
SHOWN_FRAMES = (1, 5, 10, 15, 20, 25, 30, 35, 40, 45)


@torch.no_grad()
def strips(
    world: World,
    batch: Batch,
    path: str | Path,
    filtered: int = 15,
    shown: Sequence[int] = SHOWN_FRAMES,
) -> Path:
    """Truth, reconstruction and generation of the same episodes (figures 4c and 7).

    Reconstructions filter all frames. Generated frames come from the initial state, inferred from
    the first ``filtered`` frames, and from the recorded actions alone, without process noise. A
    bar marks where training sequences end.

    Args:
        world: Of a model of pixels.
        batch: Episodes to show, three rows of frames each.
        path: PNG to write.
        filtered: Frames of a training sequence.
        shown: Numbers of the frames to show, from 1; those beyond the episodes are left out.

    Raises:
        SpecError: The model does not observe pixels.
    """
    model = world.model
    if not model.observation_spec.pixels:
        raise SpecError(f"strips need a model of pixels, this one has {model.observation_spec}")
    batch = batch.to(model.device)
    beliefs = model.filter_beliefs(batch.observations, batch.actions, prefix=filtered).mean
    dream = world.rollout(beliefs[:, 0], batch.actions)
    numbers = [n for n in shown if n <= batch.steps + 1]
    index = np.array(numbers) - 1
    rows = {
        "truth": batch.observations[:, index].cpu().numpy(),
        "reconstructed": world.decode(beliefs[:, index].cpu().numpy()),
        "generated": world.decode(dream[:, index].cpu().numpy()),
    }
    cut = (filtered, f"training sequences end at frame {filtered}")
    return save(_mosaic(rows, numbers, *cut), path)


def imagination_strips(imagination: Imagination, path: str | Path, columns: int = 11) -> Path:
    """Real, filtered and imagined frames of the same episodes, and how far the dreams spread.

    A bar marks where nobody looks any more.

    Args:
        imagination: Of a model of pixels; its first four episodes are shown.
        path: PNG to write.
        columns: How many frames to show, at even distances.

    Raises:
        SpecError: The model does not observe grey or RGB pixels.
    """
    films = pictures(imagination)
    index = np.linspace(0, imagination.real.shape[1] - 1, columns).round().astype(int)
    index = np.unique(index)
    rows = {title: film[:_EPISODES, index] for title, film in films.items()}
    cut = (imagination.looked, f"nobody looks after frame {imagination.looked}")
    fig = _mosaic(rows, (index + 1).tolist(), *cut, foot=1.4)
    if len(imagination.dreams):
        _spread_key(fig)
    return save(fig, path)


def _spread_key(fig: Figure) -> None:
    """What the colours of the spread mean, in the room below the frames."""
    (axes,) = fig.axes
    left, right, lower, upper = axes.get_images()[0].get_extent()
    (start, end), (low, high) = axes.get_xlim(), axes.get_ylim()
    width, height = (right - left) / (end - start), (lower - upper) / (low - high)
    x, y = 1 - 3.3 * width, 0.55 * height
    bar = axes.inset_axes((x, y, 3.2 * width, 0.2 * height))
    key = fig.colorbar(SPREAD_COLOURS, cax=bar, orientation="horizontal")
    key.outline.set_visible(False)
    key.set_ticks([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    bar.tick_params(labelsize=SMALL, color=GREY, labelcolor=INK, length=2)
    text = "spread: standard deviation\n(share of full brightness)"
    style: dict[str, Any] = dict(ha="right", va="center", fontsize=SMALL, color=INK)
    axes.text(x - 0.15 * width, y + 0.1 * height, text, transform=axes.transAxes, **style)


def _mosaic(
    rows: Mapping[str, np.ndarray],
    numbers: Sequence[int],
    cut: int,
    cut_text: str,
    foot: float = 0.6,
) -> Figure:
    """Lay out frames (episodes, columns, height, width, channel) by title, with their labels.

    ``foot`` is the room below them, in heights of a frame.
    """
    frames = np.stack([film.repeat(3 // film.shape[-1], -1) for film in rows.values()], 1)
    episodes, kinds, columns, height, width, _ = frames.shape
    step_x, step_y = 1.08 * width, 1.08 * height
    group = kinds * step_y + 0.3 * height
    bottom = (episodes - 1) * group + (kinds - 1) * step_y + height
    inches = 0.62 / width
    across, down = columns * step_x + 1.75 * width, bottom + (foot + 0.6) * height
    fig = figure(inches * across, inches * down)
    axes = fig.add_subplot()
    axes.set_axis_off()
    for (e, k, c), _ in np.ndenumerate(frames[..., 0, 0, 0]):
        x, y = c * step_x, e * group + k * step_y
        extent = (x, x + width, y + height, y)
        axes.imshow(frames[e, k, c], extent=extent, interpolation="nearest")
    above = -0.12 * height
    axes.text(-0.15 * width, above, "frame", ha="right", fontsize=SMALL, color=INK)
    for c, number in enumerate(numbers):
        place = (c * step_x + width / 2, above)
        axes.text(*place, str(number), ha="center", fontsize=TEXT, color=INK)
    for e in range(episodes):
        for k, text in enumerate(rows):
            y = e * group + k * step_y + height / 2
            axes.text(-0.15 * width, y, text, ha="right", va="center", fontsize=SMALL, color=INK)
    if numbers[0] <= cut < numbers[-1]:
        x = sum(n <= cut for n in numbers) * step_x - 0.04 * width
        axes.plot([x, x], [-0.05 * height, bottom + 0.05 * height], color=VERMILION, lw=2.5)
        y = bottom + 0.12 * height
        axes.text(x, y, cut_text, ha="center", va="top", fontsize=SMALL, color=INK)
    axes.set_xlim(-1.75 * width, columns * step_x)
    axes.set_ylim(bottom + foot * height, -0.6 * height)
    axes.set_aspect("equal")
    return fig
