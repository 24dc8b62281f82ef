"""When things were recorded: how regular that was, and streams of several clocks on one grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int, Shaped

from worldmodel.errors import ConfigError, FileFormatError

# Above which size times since 1970 are in which unit.
_SINCE_1970 = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))


def require_ascending(times: Shaped[np.ndarray, " n"], what: str) -> Float64[np.ndarray, " n"]:
    """Times as float64.

    Raises:
        FileFormatError: They are not finite, or do not ascend; begins with ``what``.
    """
    times = times.astype(np.float64)
    if not np.isfinite(times).all():
        t = int(np.flatnonzero(~np.isfinite(times))[0])
        raise FileFormatError(f"{what} is {times[t]} at time {t}; expected seconds")
    if len(times) > 1 and np.diff(times).min() <= 0:
        t = int(np.flatnonzero(np.diff(times) <= 0)[0]) + 1
        raise FileFormatError(
            f"{what} goes from {times[t - 1]:.6g} s to {times[t]:.6g} s at time {t}; expected "
            "ascending seconds"
        )
    return times


def unit_by_size(times: Shaped[np.ndarray, " n"]) -> float:
    """The unit of times since 1970, in seconds; a second where they are no such times.

    In seconds 1e11 is the year 5138, in milliseconds it is 1973.
    """
    first = abs(float(times[0])) if len(times) else 0.0
    return next((unit for least, unit in _SINCE_1970 if first > least), 1.0)


@dataclass(frozen=True)
class Clocked:
    """Entries and their times.

    Attributes:
        times: (n,), ascending, in seconds.
        values: (n, ...).
    """

    times: Float64[np.ndarray, " n"]
    values: Shaped[np.ndarray, "n ..."]


def grid(
    times: Mapping[str, Float64[np.ndarray, " _"]], hz: float, what: str
) -> Float64[np.ndarray, " frames"]:
    """Times at equal distances, as long as all streams last.

    Where the first stream keeps the same rhythm, the grid takes its phase, so that jitter on either
    side is the same.

    Args:
        times: Of the entries of each stream, in seconds.
        hz: Grid points per second.
        what: The episode, for errors.

    Raises:
        ConfigError: ``hz`` is not positive.
        FileFormatError: The streams share less than one step.
    """
    if not 0 < hz < np.inf:
        raise ConfigError(f"--resample takes a positive number of Hz, got {hz}")
    if all(map(len, times.values())):
        begin, end = max(t[0] for t in times.values()), min(t[-1] for t in times.values())
        rhythm = np.exp(2j * np.pi * hz * (next(iter(times.values())) - begin)).mean()
        begin += np.angle(rhythm) / (2 * np.pi * hz) if abs(rhythm) > 0.5 else 0.0
        if (steps := int(np.floor((end - begin) * hz + 0.5))) >= 1:
            return begin + np.arange(steps + 1) / hz
    spans = {
        name: f"{t[0]:.4g} to {t[-1]:.4g} s" if len(t) else "nothing" for name, t in times.items()
    }
    raise FileFormatError(f"{what}: the streams share less than one step at {hz:g} Hz: {spans}")


def slack(times: Float64[np.ndarray, " n"], step: float) -> float:
    """By how much an entry may be late and still count as given in time: half its own period.

    Args:
        times: Of the entries.
        step: Of the grid; half of it at most.
    """
    return 0.5 * min(step, float(np.median(np.diff(times)))) if len(times) > 1 else 0.5 * step


def nearest(
    times: Float64[np.ndarray, " n"], at: Float64[np.ndarray, " k"], within: float
) -> tuple[Int[np.ndarray, " k"], Bool[np.ndarray, " k"]]:
    """Which entry is closest to each point, and whether it is close enough.

    Args:
        times: Of the entries, ascending.
        at: The points.
        within: Largest distance, in seconds.
    """
    after = np.clip(np.searchsorted(times, at), 1, max(len(times) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(times) - 1)
    index = np.where(np.abs(times[after] - at) < np.abs(times[before] - at), after, before)
    # Sums of decimal fractions are not exact.
    return index, np.abs(times[index] - at) <= within * (1 + 1e-9)


def held(times: Float64[np.ndarray, " n"], at: Float64[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
    """The last entry at or before each point; the first one before there is any."""
    return np.maximum(np.searchsorted(times, at, "right") - 1, 0)


def spread_rewards(
    rewards: Clocked, at: Float64[np.ndarray, " frames"]
) -> Float64[np.ndarray, " _"]:
    """Rewards of the steps between grid points.

    Of a step it is the mean of those given in it, or the last one before where there is none, times
    the source's periods in a step: their sum stays what it was where nothing is missing.
    """
    step, count = float(at[1] - at[0]), len(at) - 1
    late = slack(rewards.times, step)
    ratio = step / float(np.median(np.diff(rewards.times))) if len(rewards.times) > 1 else 1.0
    ratio = 1.0 if abs(ratio - 1) < 0.05 else ratio
    place = np.floor((rewards.times - at[0] + late) / step).astype(int)
    inside = (place >= 0) & (place < count)
    values = rewards.values.astype(np.float64)
    given = np.bincount(place[inside], minlength=count)
    sums = np.bincount(place[inside], values[inside], count)
    last = values[held(rewards.times, at[:-1] + late)]
    return np.where(given, sums / np.maximum(given, 1), last) * ratio
