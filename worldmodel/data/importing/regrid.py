"""One episode whose streams have clocks of their own, put on one grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from worldmodel.data.importing.clock import Clocked, grid, held, nearest, slack, spread_rewards
from worldmodel.data.readers.mapping import base, is_framed, is_stream
from worldmodel.errors import FileFormatError

_GAP = 0.75  # of a period of its own: how far from an entry a slower stream still counts as seen


def regrid(
    arrays: Mapping[str, np.ndarray], times: Mapping[str, np.ndarray], hz: float, what: str
) -> dict[str, np.ndarray]:
    """Resample one episode.

    Of what is observed, and of the truth, the nearest entry is taken. A grid point of which some
    stream has none within half a step (of a stream slower than the grid: within three quarters of
    its own period) is not ``seen``. The action of a step is the last one given when it begins, half
    a period late at most; rewards see ``clock.spread_rewards``. An end is on the last step. What
    comes before the first point that is seen is left out.

    Args:
        arrays: By role.
        times: Of each of them, in seconds.
        hz: Grid points per second.
        what: The episode, for errors.

    Returns:
        By role, T + 1 entries of what is observed, of the truth, of ``timestamps`` and ``seen``,
        and T of all others.

    Raises:
        ConfigError, FileFormatError: See ``clock.grid``; or no point but the last is seen.
    """
    clocked = {role: Clocked(times[role], arrays[role]) for role in arrays}
    spans = {role: c.times for role, c in clocked.items() if is_stream(role)}
    spans |= {r: _lasting(c.times) for r, c in clocked.items() if base(r) == "actions"}
    at = grid(spans, hz, what)
    found: dict[str, np.ndarray] = {}
    seen = np.ones(len(at), np.bool_)
    for role, stream in clocked.items():
        if is_framed(role):
            index, close = nearest(stream.times, at, _within(stream.times, hz))
            found[role] = stream.values[index]
            seen &= close | (role == "states")
            seen &= found.pop(role) if role == "seen" else True
        elif role == "rewards":
            found[role] = spread_rewards(stream, at)
        elif role in ("terminated", "truncated"):
            found[role] = np.zeros(len(at) - 1, np.bool_)
            found[role][-1] = stream.values.any()
        else:
            given = at[:-1] + slack(stream.times, 1 / hz)
            found[role] = stream.values[held(stream.times, given)]
    first = int(seen.argmax())
    if not seen[:-1].any():
        raise FileFormatError(f"{what}: no point of a grid of {hz:g} Hz has an entry near it")
    # Steps end with the last, frames too: both lose as many at the beginning.
    return {
        name: values[first:] for name, values in (found | {"timestamps": at, "seen": seen}).items()
    }


def _lasting(times: np.ndarray) -> np.ndarray:
    """Times of actions, of which the last lasts as long as the others."""
    last = np.median(np.diff(times)) if len(times) > 1 else 0.0
    return np.append(times, times[-1:] + last)


def _within(times: np.ndarray, hz: float) -> float:
    period = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return _GAP * period if period > 1.05 / hz else 0.5 / hz


def cut(
    values: Mapping[str, np.ndarray], steps: int | None, final: bool
) -> Iterator[dict[str, np.ndarray]]:
    """The pieces of an episode; the last frame of one is the first of the next.

    Args:
        values: By role; T actions, and of what has an entry a frame T + 1 if ``final``, else T.
        steps: Of each piece, the last of which may be shorter; None leaves the episode whole.
        final: See above.
    """
    taken = next(len(array) for role, array in values.items() if base(role) == "actions")
    known = taken if final else taken - 1
    for begin in range(0, known, steps or known):
        stop = min(begin + (steps or known), known)
        # Without a last frame an action more is read, and left out where the episode is written.
        end = {True: stop + 1, False: stop + (not final)}
        yield {
            role: array[begin : end[is_framed(role) or role == "timestamps"]]
            for role, array in values.items()
        }
