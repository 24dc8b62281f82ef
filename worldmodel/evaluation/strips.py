"""Frames in rows: what was, what the filter makes of it, what the model makes of it alone.

Source: Karl et al. 2017, figures 4c and 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from worldmodel.errors import SpecError
from worldmodel.evaluation.style import INK, SMALL, TEXT, figure, save
from worldmodel.models.base import StateSpaceModel
from worldmodel.types import Batch

SHOWN_FRAMES = (1, 5, 10, 15, 20, 25, 30, 35, 40, 45)


@torch.no_grad()
def strips(
    model: StateSpaceModel,
    batch: Batch,
    path: str | Path,
    filtered: int = 15,
    shown: Sequence[int] = SHOWN_FRAMES,
) -> Path:
    """Truth, reconstruction and generation of the same episodes (figures 4c and 7).

    Reconstructions filter all frames. Generated frames come from the initial state, inferred from
    the first ``filtered`` frames, and from the recorded actions alone, without process noise. A
    red bar marks where training sequences end.

    Args:
        model: A model of pixels.
        batch: Episodes to show, three rows of frames each.
        path: PNG to write.
        filtered: Frames of a training sequence.
        shown: Numbers of the frames to show, from 1; those beyond the episodes are left out.

    Raises:
        SpecError: The model does not observe pixels.
    """
    if not model.observation_spec.pixels:
        raise SpecError(f"strips need a model of pixels, this one has {model.observation_spec}")
    batch = batch.to(model.device)
    beliefs = model.filter_beliefs(batch.observations, batch.actions, prefix=filtered).mean
    dream = model.rollout(beliefs[:, 0], batch.actions)
    numbers = [n for n in shown if n <= batch.steps + 1]
    index = np.array(numbers) - 1
    rows = [
        batch.observations[:, index].cpu().numpy(),
        model.decode(beliefs[:, index].cpu().numpy()),
        model.decode(dream[:, index].cpu().numpy()),
    ]
    return save(_mosaic(np.stack(rows, 1), numbers, filtered), path)


def _mosaic(frames: np.ndarray, numbers: Sequence[int], filtered: int) -> Figure:
    """Lay out frames (episodes, 3, columns, height, width, channel) with their labels."""
    episodes, kinds, columns, height, width, _ = frames.shape
    fig = figure(0.62 * (columns + 1.7), 0.62 * height / width * kinds * episodes + 0.55)
    axes = fig.add_subplot()
    axes.set_axis_off()
    step_x, step_y = 1.08 * width, 1.08 * height
    group = kinds * step_y + 0.3 * height
    for (e, k, c), _ in np.ndenumerate(frames[..., 0, 0, 0]):
        x, y = c * step_x, e * group + k * step_y
        image = frames[e, k, c].repeat(3 // frames.shape[-1], -1)
        axes.imshow(image, extent=(x, x + width, y + height, y), interpolation="nearest")
    for c, number in enumerate(numbers):
        axes.text(
            c * step_x + width / 2,
            -0.12 * height,
            str(number),
            ha="center",
            fontsize=TEXT,
            color=INK,
        )
    for e in range(episodes):
        for k, text in enumerate(("truth", "reconstructed", "generated")):
            y = e * group + k * step_y + height / 2
            axes.text(-0.15 * width, y, text, ha="right", va="center", fontsize=SMALL, color=INK)
    bottom = (episodes - 1) * group + (kinds - 1) * step_y + height
    if numbers[0] <= filtered < numbers[-1]:
        x = sum(n <= filtered for n in numbers) * step_x - 0.04 * width
        axes.plot([x, x], [-0.05 * height, bottom + 0.05 * height], color="#e00020", lw=2.5)
        text = f"training sequences end at frame {filtered}"
        axes.text(x, bottom + 0.12 * height, text, ha="center", va="top", fontsize=SMALL, color=INK)
    axes.set_xlim(-1.75 * width, columns * step_x)
    axes.set_ylim(bottom + 0.6 * height, -0.6 * height)
    axes.set_aspect("equal")
    return fig
