"""What the sensor says, what is made of it, and how fast that gets good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cheap_sensor import response
from comparison import NAMES
from matplotlib.axes import Axes

from envs.pendulum import INTERVAL
from worldmodel.plots.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SMALL,
    VERMILION,
    dress,
    figure,
    label,
    legend,
    log_scale,
    save,
)
from worldmodel.types import Batch

_COLOURS = {"raw": GREY, "window": ORANGE, "ekf": GREEN, "learned": BLUE, "optimum": PURPLE}


def draw(
    found: dict[str, np.ndarray], course: dict[str, dict], test: Batch, path: Path, episode: int = 0
) -> Path:
    """One episode's readings and estimates, and every method's error since a cold start.

    Args:
        found: Estimates by method.
        course: Root mean squared errors over time, by method and variable.
        test: The episodes that both are of.
        path: PNG to write.
        episode: The one to show.
    """
    fig = figure(7.4, 6.6)
    axes = fig.subplots(3, 2)
    assert test.states is not None
    states = test.states[episode].numpy().astype(np.float64)
    _sensor(axes[0], states, test.observations[episode].numpy())
    _episode(axes[1], states, {name: found[name][episode] for name in ("raw", "learned")})
    _course(axes[2, 0], course, "angle")
    dress(axes[2, 0], "time since a cold start (s)", "degrees", "Error of the angle")
    _course(axes[2, 1], course, "velocity")
    dress(axes[2, 1], "time since a cold start (s)", "rad/s", "Error of the velocity")
    truth, _ = axes[1, 1].get_legend_handles_labels()
    fig.legend(
        handles=[*truth, *axes[2, 0].get_lines()],
        loc="outside lower center",
        ncols=2,
        fontsize=SMALL,
        frameon=False,
    )
    return save(fig, path)


def _sensor(axes: np.ndarray, states: np.ndarray, readings: np.ndarray) -> None:
    time, clean = INTERVAL * np.arange(len(states)), response(states[:, 0])
    for k, pane in enumerate(axes):
        pane.plot(time, clean[:, k], color=GREY, lw=1.2, label="without noise and drift")
        pane.plot(time, readings[:, k], ".", color=VERMILION, ms=3, label="what it says")
        dress(pane, "", "volts", f"Channel {k + 1} of the sensor")
    legend(axes[1], loc="best")


def _episode(axes: np.ndarray, states: np.ndarray, found: dict[str, np.ndarray]) -> None:
    time = INTERVAL * np.arange(len(states))
    raw, learned = (
        np.column_stack([np.arctan2(each[:, 0], each[:, 1]), each[:, 2]])
        for each in (found["raw"], found["learned"])
    )
    for k, (pane, name) in enumerate(zip(axes, ("angle", "velocity"), strict=True)):
        whole = _unbroken if name == "angle" else np.copy
        pane.plot(time, raw[:, k], ".", color=_COLOURS["raw"], ms=3)
        pane.plot(time, whole(states[:, k]), color=INK, lw=2.2, label="truth")
        pane.plot(time, whole(learned[:, k]), color=_COLOURS["learned"], lw=1.4)
        dress(pane, "time (s)", label(name), f"The {name} in this episode")


def _unbroken(angle: np.ndarray) -> np.ndarray:
    """With a gap where the angle jumps from one end of its range to the other."""
    jumps = np.flatnonzero(np.abs(np.diff(angle)) > np.pi)
    angle = angle.copy()
    angle[jumps + 1] = np.nan
    return angle


def _course(axes: Axes, course: dict[str, dict], variable: str) -> None:
    for name, colour in _COLOURS.items():
        error = course[name][variable]
        axes.plot(INTERVAL * np.arange(len(error)), error, color=colour, lw=1.6, label=NAMES[name])
    log_scale(axes)
