"""Empowerment over the states of a real system, true and learned side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from worldmodel.plots.style import (
    SEQUENTIAL,
    VERMILION,
    angle_ticks,
    colour_bar,
    dress,
    figure,
    label,
    save,
)


def empowerment_map(
    truth: Float[np.ndarray, "n m"],
    measured: Float[np.ndarray, " n"],
    learned: Float[np.ndarray, " n"],
    plane: tuple[str, str],
    path: str | Path,
    visited: Float[np.ndarray, "k m"] | None = None,
) -> Path:
    """Two panels over the first two variables of the state, the true system and the model.

    Args:
        truth: States of the real system, m >= 2.
        measured: Empowerment of the real system, nats.
        learned: Of the model, nats.
        plane: Names of the first two variables.
        path: PNG to write.
        visited: States that an agent came to, drawn on top.
    """
    across, up = plane
    panels = {"true system": measured, "learned model": learned}
    fig = figure(8.4, 3.6)
    for axes, (title, nats) in zip(fig.subplots(1, 2), panels.items(), strict=True):
        points = axes.scatter(truth[:, 0], truth[:, 1], c=nats, s=14, cmap=SEQUENTIAL)
        if visited is not None:
            axes.scatter(visited[:, 0], visited[:, 1], c=VERMILION, s=1.5, linewidths=0)
            title = f"{title}; red: the agent"
        dress(axes, label(across), label(up), title)
        if across == "angle":
            angle_ticks(axes.xaxis)
        colour_bar(fig, points, axes, label("empowerment"))
    return save(fig, Path(path))
