"""Whether actions have an effect on what is observed: a permutation test.

Given the last two frames, what follows should depend on the actions if these do anything. What the
last frames leave unexplained is compared between windows that look alike: do like actions go with
like remainders, more than actions that are exchanged between the windows? The statistic is the
kernel test of independence of Gretton et al. 2008 with a product of two kernels, of frames and of
actions, on the one side: actions push a pendulum to the left or right in the picture depending on
where it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

_PERMUTATIONS = 50
_LAGS = 3  # actions before a change that may show in it: Euler's method moves things a step late
_COMPONENTS = 16
_FITTED = 400  # frames that the principal components are found from
_RIDGE = 0.003
_NEAR, _ALIKE = 0.25, 1.0  # widths of kernels, times the median squared distance
# Pendulum-v1's weak torque, 225 windows of 25 episodes: scores from 1.7.
_ENOUGH = 300
_REMEMBERED = 1000  # frames that memory is judged by


@dataclass(frozen=True)
class Influence:
    """Result of the test.

    Attributes:
        score: By how many standard deviations the actions explain more than exchanged ones; of
            the action that shows most, the mean of two tests on different windows.
        predicted: Held-out R^2 of the next change from the last two frames alone.
    """

    score: float
    predicted: float


def influence(
    frames: Float32[np.ndarray, "w f n"],
    controls: Float[np.ndarray, "w s a"],
    rng: np.random.Generator,
) -> Influence | None:
    """Test windows of episodes; None where they are too few or short, or nothing varies.

    Any dependence of actions on frames, as of a controller, shows up as an effect: the test errs
    to that side.

    Args:
        frames: What is observed, flat.
        controls: Between the frames, f = s + 1.
        rng: Of the permutations.
    """
    if len(frames) < _ENOUGH or controls.shape[1] <= _LAGS or (controls == controls[0, 0]).all():
        return None
    if not (frames[:, 1:] != frames[:, :-1]).any():
        return None
    acted = _standard(controls)
    halves = [_judged(frames[half::2], acted[half::2], rng) for half in (0, 1)]
    return Influence(*(float(np.mean(values)) for values in zip(*halves, strict=True)))


def memory(
    frames: Float32[np.ndarray, "w f n"], controls: Float[np.ndarray, "w s a"]
) -> float | None:
    """How much more two frames tell of the next one than one does, given the action.

    The fraction of what one frame leaves unexplained of the change to the next that the one
    before it explains, on held-out frames; at most 0 where one frame tells all. None where there
    are too few frames, or nothing varies. Arguments as of ``influence``.
    """
    if len(frames) < 2 or frames.shape[1] < 3 or not (frames[:, 1:] != frames[:, :-1]).any():
        return None
    centred = frames - frames.mean((0, 1))
    place = centred @ _components(_rows(centred))
    steps = np.diff(place, axis=1)
    now, past, change = _scaled(place[:, 1:-1]), _scaled(steps[:, :-1]), _rows(steps[:, 1:])
    some = np.linspace(0, len(now) - 1, min(_REMEMBERED, len(now))).astype(int)
    known = np.concatenate([now, _rows(_standard(controls)[:, 1:])], 1)[some]
    left = _unexplained(known, change[some])
    more = _unexplained(np.concatenate([known, past[some]], 1), change[some])
    return 1 - float(np.square(more).sum() / (np.square(left).sum() + 1e-12))


def _standard(controls: Float[np.ndarray, "w s a"]) -> Float32[np.ndarray, "w s a"]:
    """Of mean 0 and variance 1, or 0 where nothing varies; squares of 3e38 need float64."""
    centred = controls - controls.mean((0, 1), dtype=np.float64)
    spread = centred.std((0, 1))
    return (centred / np.where(spread > 0, spread, 1)).astype(np.float32)


def _judged(
    frames: Float32[np.ndarray, "w f n"],
    acted: Float32[np.ndarray, "w s a"],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Score and R^2."""
    steps = np.diff(frames, axis=1)
    centred = frames - frames.mean((0, 1))
    place = centred @ _components(_rows(centred))
    change = _rows((steps @ _components(_rows(steps)))[:, _LAGS - 1 :])
    now = _scaled(place[:, _LAGS - 1 : -1])
    past = _scaled(np.diff(place, axis=1)[:, _LAGS - 2 : -1])
    rest = _unexplained(np.concatenate([now, past], 1), change)
    variance = float(np.square(change - change.mean(0)).sum())
    alike = _likeness(now, rest, len(frames))
    taken = acted.shape[1] - _LAGS + 1
    scores = [_score(alike, acted[:, lag : lag + taken], rng) for lag in range(_LAGS)]
    return max(scores), 1 - float(np.square(rest).sum()) / variance if variance else 0.0


def _likeness(
    now: Float32[np.ndarray, "n k"], rest: Float32[np.ndarray, "n m"], windows: int
) -> Float32[np.ndarray, "n n"]:
    """How alike two remainders are, weighed by how alike the frames are."""
    # A few violent changes would drown all others.
    size = np.linalg.norm(rest, axis=1, keepdims=True)
    rest = rest / (size + np.median(size) + 1e-12)
    alike = (rest @ rest.T) * _kernel(now, _ALIKE)
    window = np.repeat(np.arange(windows), len(now) // windows)
    alike[window[:, None] == window] = 0  # a window's actions stay together when exchanged
    return alike


def _score(
    alike: Float32[np.ndarray, "n n"], acted: Float32[np.ndarray, "w r a"], rng: np.random.Generator
) -> float:
    """How much more like actions go with like remainders than exchanged ones do."""
    orders = [rng.permutation(len(acted)) for _ in range(_PERMUTATIONS)]
    # One product of matrices is quicker than many thin ones.
    every = np.stack([_rows(acted), *(_rows(acted[order]) for order in orders)], 1)
    agreed = (alike @ every.reshape(len(alike), -1)).reshape(every.shape)
    found, *null = (every * agreed).sum((0, 2)).tolist()
    return (found - float(np.mean(null))) / (float(np.std(null)) + 1e-12)


def _unexplained(
    seen: Float32[np.ndarray, "n k"], change: Float32[np.ndarray, "n m"]
) -> Float32[np.ndarray, "n m"]:
    """What kernel ridge regression, fitted on one half, leaves of the other."""
    kernel = _kernel(seen, _NEAR) + seen @ seen.T
    rest = np.empty_like(change)
    first = np.arange(len(seen)) < len(seen) // 2
    for fitted in (first, ~first):
        mean = change[fitted].mean(0)
        gram = kernel[np.ix_(fitted, fitted)]
        gram[np.diag_indices(len(gram))] += np.float32(_RIDGE)
        weights = np.linalg.solve(gram, change[fitted] - mean)
        rest[~fitted] = change[~fitted] - mean - kernel[np.ix_(~fitted, fitted)] @ weights
    return rest


def _kernel(x: Float32[np.ndarray, "n k"], width: float) -> Float32[np.ndarray, "n n"]:
    """Gaussian, as wide as the median squared distance times ``width``."""
    squares = np.square(x).sum(1)
    distance = np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0)
    return np.exp(-distance / np.float32(width * np.median(distance) + 1e-12))


def _rows(x: Float32[np.ndarray, "w r k"]) -> Float32[np.ndarray, "n k"]:
    return x.reshape(-1, x.shape[-1])


def _scaled(x: Float32[np.ndarray, "w r k"]) -> Float32[np.ndarray, "n k"]:
    """Rows of mean square 1."""
    flat = _rows(x)
    return flat / np.float32(np.sqrt(np.square(flat).sum(1).mean()) + 1e-12)


def _components(x: Float32[np.ndarray, "n p"]) -> Float32[np.ndarray, "p k"]:
    """Directions of most variance, orthonormal, from a few of the rows."""
    some = x[np.linspace(0, len(x) - 1, min(_FITTED, len(x))).astype(int)]
    if some.shape[1] <= _COMPONENTS:
        return np.eye(some.shape[1], dtype=np.float32)
    vectors = np.linalg.eigh(some @ some.T)[1][:, -_COMPONENTS:]
    directions = some.T @ vectors
    return directions / np.maximum(np.linalg.norm(directions, axis=0), 1e-12)
