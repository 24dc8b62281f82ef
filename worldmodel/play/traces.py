"""Action, reward and distance from the data over the last steps of a session."""

from __future__ import annotations

import math

import numpy as np

from worldmodel.play.panels import Line, Trace
from worldmodel.play.pen import DREAM, REAL, SERIES
from worldmodel.play.session import SPAN, Moment, Session

_SECONDS = 10.0  # that a trace goes back
_COMPONENTS = len(SERIES)  # of an action that are traced


def actions(session: Session, interval: float) -> Trace:
    """What was done, in the environment's units; the index of a discrete action.

    Args:
        session: Whose history.
        interval: Seconds per step.
    """
    spec, moments = session.model.action_spec, _latest(session, interval)
    taken = np.array([m.action for m in moments], np.float64).reshape(-1, spec.size)
    if spec.kind == "discrete":
        index = taken.argmax(1).astype(np.float64) if len(taken) else np.zeros(0)
        lines, low, high = [Line("", index, SERIES[0], stairs=True)], 0.0, float(spec.size - 1)
    else:
        least, greatest = session.model.control_range
        low, high = float(least.min()), float(greatest.max())
        names = "xy" if spec.size == 2 else [str(i + 1) for i in range(spec.size)]
        lines = [
            Line(names[i] if spec.size > 1 else "", taken[:, i], SERIES[i], stairs=True)
            for i in range(min(spec.size, _COMPONENTS))
        ]
    marks = (low, 0.0, high) if low < 0 < high else (low, high)
    high = max(high, low + 1e-6)
    title = f"action ({session.action_unit})" if session.action_unit else "action"
    return Trace(title, lines, *_roomy(low, high), marks, *_span(interval))


def rewards(session: Session, interval: float) -> Trace:
    """What the model says was paid, and what was; arguments as for ``actions``."""
    moments = _latest(session, interval)
    dreamt = np.array([m.reward for m in moments])
    real = np.array([m.real_reward for m in moments])
    lines = [Line("model", dreamt, DREAM)]
    if session.mode != "dream":
        lines.insert(0, Line("real", real, REAL))
    low, high = session.model.reward_range
    if not (math.isfinite(low) and math.isfinite(high)):
        paid = np.concatenate([dreamt, real, [0.0, 1.0]])
        low, high = float(np.nanmin(paid)), float(np.nanmax(paid))
    low, high = _round(low, high)
    marks = low, (low + high) / 2, high
    return Trace("reward", lines, *_roomy(low, high), marks, *_span(interval))


def distances(session: Session, interval: float) -> Trace:
    """How far the shown state was from the data; arguments as for ``actions``."""
    away = np.array([m.distance for m in _latest(session, interval)])
    high = float(np.clip(away.max(initial=0.0) * 1.1, 2.0, 10.0))
    lines = [Line("", away, DREAM)]
    # In radii of the support, whose edge is at 1.
    return Trace("distance from data (radii)", lines, 0.0, high, (0.0, 1.0), *_span(interval))


def _span(interval: float) -> tuple[int, float]:
    """Steps and seconds that a trace goes back."""
    steps = min(max(round(_SECONDS / interval), 20), SPAN)
    return steps, steps * interval


def _latest(session: Session, interval: float) -> list[Moment]:
    return list(session.history)[-_span(interval)[0] :]


def _roomy(low: float, high: float) -> tuple[float, float]:
    """A little more than the range, so that lines at its ends are seen."""
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


def _round(low: float, high: float) -> tuple[float, float]:
    """A range that ends at numbers that are quickly read; down or up to 0 if it has no width."""
    if high - low < 1e-6:
        low, high = min(low, 0.0), max(high, 0.0 if low < 0 else 1.0)
    unit = 10.0 ** math.floor(math.log10(high - low))
    unit /= 1 if (high - low) / unit > 4 else 2
    return math.floor(low / unit) * unit, math.ceil(high / unit) * unit


TRACES = actions, rewards, distances
