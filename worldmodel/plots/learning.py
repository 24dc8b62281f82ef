"""The curve of learning online: returns, and how far the dream can be relied on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from worldmodel.errors import FileFormatError, ShapeError
from worldmodel.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILION,
    dress,
    figure,
    legend,
    log_scale,
    percent,
    save,
)

PROGRESS = "progress.jsonl"
Rows = Sequence[Mapping[str, Any]]


def read_progress(run: str | Path) -> list[dict[str, Any]]:
    """Rounds of a run folder; none if it was not learned online.

    Raises:
        FileFormatError: A line is no JSON.
    """
    path = Path(run) / PROGRESS
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise FileFormatError(f"{path} is corrupt: {error}") from error


def learning_curve(runs: Mapping[str, Rows], path: str | Path, goal: float | None = None) -> Path:
    """Returns, model errors and trust over real steps.

    Args:
        runs: Rounds (``progress.jsonl``) by name of the run.
        path: PNG to write.
        goal: A return to mark.

    Raises:
        ShapeError: No run has a round.
    """
    if not any(runs.values()):
        raise ShapeError("there is no round to draw")
    fig = figure(7.2, 5.4)
    grid = fig.add_gridspec(2, 2, height_ratios=[1.4, 1])
    top = fig.add_subplot(grid[0, :])
    if goal is not None:
        top.axhline(goal, color=GREY, lw=1, ls=":", label=f"{goal:g}")
    for i, rows in enumerate(runs.values()):
        _line(top, rows, "return", "while exploring" if i == 0 else "", color=ORANGE, lw=1.2)
        style: dict[str, Any] = dict(color=BLUE, lw=1.8, marker="o", ms=3.5)
        _line(top, rows, "clean_return", "without noise" if i == 0 else "", **style)
        if len(runs) == 1:
            _forecast(top, rows)
    dress(top, "", "return", ", ".join(name for name in runs if name))
    legend(top)
    left, right = (fig.add_subplot(grid[1, k]) for k in range(2))
    for i, rows in enumerate(runs.values()):
        for name, colour in (("observation_error", BLUE), ("reward_error", VERMILION)):
            text = name.removesuffix("_error") if i == 0 else ""
            _line(left, rows, name, text, color=colour, lw=1.3)
        _line(right, rows, "trust", "", color=BLUE, lw=1.3)
    if left.get_legend_handles_labels()[0]:
        log_scale(left)
        legend(left)
    dress(left, "real steps", "error", "Ten steps ahead, before it is learned")
    right.yaxis.set_major_formatter(percent)
    dress(right, "real steps", "", "Dreamt steps inside the support")
    return save(fig, path)


def _forecast(axes: Axes, rows: Rows) -> None:
    """What the dream expected of each evaluation, with its interval, no wider than the picture."""
    told = [row for row in rows if row.get("forecast") is not None]
    if not told:
        return
    places = [row["real_steps"] for row in told]
    low, high = axes.get_ylim()
    names = ("forecast", "forecast_low", "forecast_high")
    mean, least, most = np.clip([[row[name] for row in told] for name in names], low, high)
    axes.fill_between(places, least, most, color=GREEN, alpha=0.15, lw=0)
    axes.plot(places, mean, color=GREEN, lw=1.0, ls="--", label="the dream's forecast")
    axes.set_ylim(low, high)


def _line(axes: Axes, rows: Rows, name: str, text: str, **style: Any) -> None:
    known = [(row["real_steps"], row[name]) for row in rows if row.get(name) is not None]
    if known:
        axes.plot(*np.array(known, float).T, label=text or None, **style)
