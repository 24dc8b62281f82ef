"""Figures of numbers: error over the horizon, the filter's convergence, the course of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from worldmodel.errors import ShapeError
from worldmodel.plots.style import (
    BLUE,
    DASHES,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SERIES,
    TEXT,
    VERMILION,
    dress,
    figure,
    label,
    legend,
    legend_above,
    log_scale,
    percent,
    save,
)

_BASELINES = {
    "last_frame": "last frame stands still",
    "mean_frame": "mean of all frames",
    "constant_velocity": "constant velocity from the true state",
}


def prediction_error(metrics: Mapping[str, Any], path: str | Path) -> Path:
    """Open-loop error by horizon as a fraction of the frames' variance, beside all baselines.

    Args:
        metrics: Of an ``Evaluation``.
        path: PNG to write.
    """
    variance = metrics["prediction_variance"]
    baselines = metrics["prediction_mse_baseline"]
    fig = figure(5.6, 3.4)
    axes = fig.add_subplot()
    steps = np.arange(1, len(metrics["prediction_mse"]) + 1)
    for (name, error), style in zip(baselines.items(), _baseline_styles(), strict=False):
        text = _BASELINES.get(name, name.replace("_", " "))
        axes.plot(steps, np.divide(error, variance), label=text, lw=1.8, **style)
    axes.plot(steps, np.divide(metrics["prediction_mse"], variance), BLUE, label="model", lw=1.8)
    averaged = np.divide(metrics["prediction_mse_averaged"], variance)
    axes.plot(steps, averaged, BLUE, label="model, predictive mean", lw=1.2, dashes=(2, 1))
    log_scale(axes, percent)
    axes.set_xlim(1, max(len(steps), 2))
    filtered = len(metrics["filter_error_by_frames"])
    title = f"Open-loop prediction after {filtered} filtered frames"
    dress(axes, "horizon (steps)", "squared error / variance of the frames", title)
    _steady_ticks(axes, len(steps))
    legend(axes, loc="center right")
    return save(fig, path)


def _baseline_styles() -> Iterator[dict[str, Any]]:
    """Colours and dashes that no two baselines share, however many there are."""
    yield dict(color=ORANGE, dashes=(4, 2))
    yield dict(color=GREY, dashes=(1, 1.5))
    for dots in count(1):
        for colour in (VERMILION, GREEN, PURPLE):
            yield dict(color=colour, dashes=(6, 2) + dots * (1, 2))


def filter_convergence(metrics: Mapping[str, Any], path: str | Path) -> Path:
    """How fast the filter finds the frame, and the state, from a cold start of one frame.

    Args:
        metrics: Of an ``Evaluation``.
        path: PNG to write.
    """
    variables = metrics.get("filter_r2_by_frames", {})
    fig = figure(6.8 if variables else 3.6, 3.0)
    left = fig.add_subplot(1, 2 if variables else 1, 1)
    error = np.divide(metrics["filter_error_by_frames"], metrics["prediction_variance"])
    frames = np.arange(1, len(error) + 1)
    left.plot(frames, error, "o-", color=BLUE, ms=3.5, lw=1.5)
    left.set_ylim(0, 1.15 * error.max())
    left.yaxis.set_major_formatter(FuncFormatter(percent))
    dress(left, "frames seen", "squared error / variance of the frames", "Filtered frame")
    left.set_xticks(frames[::2])
    if variables:
        right = fig.add_subplot(1, 2, 2)
        for i, (name, values) in enumerate(variables.items()):
            style: dict[str, Any] = dict(color=SERIES[i % len(SERIES)], ls=DASHES[i % len(DASHES)])
            right.plot(frames, values, marker="o", ms=3, lw=1.5, label=label(name, False), **style)
        # A filter may begin far below zero; what matters is how it comes up.
        right.set_ylim(max(-0.5, min(0.0, min(map(min, variables.values())))) - 0.05, 1.05)
        dress(right, "frames seen", "$R^2$ of the filtered state", "Filtered state")
        right.set_xticks(frames[::2])
        legend(right, loc="lower right", ncols=1 + len(variables) // 5)
    return save(fig, path)


def tracking(metrics: Mapping[str, Any], path: str | Path) -> Path:
    """Whether the live filter holds on to the state for whole episodes, by stretch of them.

    Args:
        metrics: Of an ``Evaluation``, with ``tracking`` and perhaps ``ceiling``.
        path: PNG to write.
    """
    found: dict[str, dict[str, float]] = metrics["tracking"]
    ceiling = metrics.get("ceiling", {})
    fig = figure(7.0, 3.0)
    axes = fig.add_subplot()
    stretches = list(next(iter(found.values())))
    width = 0.8 / len(found)
    for i, (name, values) in enumerate(found.items()):
        places = np.arange(len(stretches)) + (i - (len(found) - 1) / 2) * width
        color = SERIES[i % len(SERIES)]
        axes.bar(places, list(values.values()), 0.85 * width, color=color, label=label(name, False))
        if name in ceiling:
            axes.hlines(
                list(ceiling[name].values()), places - width / 2, places + width / 2, color=INK
            )
    if ceiling:
        axes.plot([], [], color=INK, label="a supervised network on two frames")
    # How far below the mean a lost filter is says nothing more.
    lowest = min(min(values.values()) for values in found.values())
    axes.set_ylim(min(0.0, max(lowest, -0.5)) - 0.02, 1.05)
    axes.set_xticks(range(len(stretches)), stretches)
    dress(
        axes, "frames since the filter started from one", "$R^2$", "Live filter, held-out episodes"
    )
    legend(axes, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return save(fig, path)


def training_curves(history: Sequence[Mapping[str, float]], path: str | Path) -> Path:
    """The course of training as the trainer's validations saw it.

    Args:
        history: One mapping per validation, as in ``Trainer.history``.
        path: PNG to write.

    Raises:
        ShapeError: ``history`` is empty.
    """
    if not history:
        raise ShapeError("history is empty: there was no validation to draw")
    fig = figure(7.2, 4.8)
    top, bottom = fig.subplots(2, 2, sharex=True)
    _curves(top[0], history, {"lower_bound": "lower bound", "reconstruction": "reconstruction"})
    dress(top[0], "", "nats per sequence", "Bound (validation)")
    _symmetric_log(top[0])
    legend(top[0], loc="lower right")
    _curves(top[1], history, {"kl": "KL"})
    dress(top[1], "", "nats per sequence", "KL divergence (validation)")
    top[1].set_ylim(bottom=0)
    _curves(bottom[0], history, {"prediction_mse": "model"})
    log_scale(bottom[0])
    dress(bottom[0], "updates", "mean squared error", "Open-loop prediction (validation)")
    _objective(bottom[1], history)
    return save(fig, path)


def _objective(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    """What the objective logs of itself: a constraint and its multiplier, or a temperature."""
    updates = _column(history, "update")
    names = [name for name in history[-1] if name.startswith("objective/")]
    if "objective/multiplier" not in names:
        for name, colour in zip(names, SERIES, strict=False):
            text = name.removeprefix("objective/").replace("_", " ")
            axes.plot(updates, _column(history, name), color=colour, label=text, lw=1.5)
        dress(axes, "updates", "", "Objective")
        if names:
            legend(axes)
        return
    axes.plot(
        updates, _column(history, "objective/distortion"), color=BLUE, lw=1.5, label="reached"
    )
    target = _column(history, "objective/distortion_target")
    axes.plot(updates, target, "--", color=INK, lw=1.2, label="allowed")
    log_scale(axes, percent)
    dress(axes, "updates", "distortion / variance", "Constraint (training)")
    other = axes.twinx()
    multiplier = _column(history, "objective/multiplier")
    other.plot(updates, multiplier, color=VERMILION, lw=1.2)
    log_scale(other)
    dress(other, grid=False)
    other.set_ylabel(r"multiplier $\lambda$", fontsize=TEXT, color=VERMILION)
    other.tick_params(labelcolor=VERMILION, color=VERMILION)
    legend_above(axes)


def _curves(axes: Axes, history: Sequence[Mapping[str, float]], names: Mapping[str, str]) -> None:
    for (name, text), colour, ls in zip(names.items(), SERIES, DASHES, strict=False):
        values = _column(history, f"validation/{name}")
        axes.plot(_column(history, "update"), values, color=colour, ls=ls, lw=1.5, label=text)


def _column(history: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    return np.array([logs.get(name, np.nan) for logs in history])


def _symmetric_log(axes: Axes) -> None:
    """Early bounds can be thousands of times as large as late ones; keep both in sight."""
    low, high = axes.get_ylim()
    if low < -20 * max(high, 1.0):
        axes.set_yscale("symlog", linthresh=max(high, 1.0))


def _steady_ticks(axes: Axes, steps: int) -> None:
    if steps >= 40:
        axes.set_xticks([1, *range(20, steps + 1, 20)])
