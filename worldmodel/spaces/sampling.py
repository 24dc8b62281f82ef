"""Random actions of one part, any number at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldmodel.spaces.stream import Stream


def draw(part: Stream, rng: np.random.Generator, lead: tuple[int, ...]) -> Any:
    """Actions (*lead, *shape) of a stream that is no picture, in its space and dtype."""
    if part.kind == "discrete":
        same = len(set(part.sizes)) == 1
        values = part.sizes[0] if same else np.array(part.sizes)
        return part.write(rng.integers(values, size=(*lead, len(part.sizes))))
    low, high = np.array(part.low), np.array(part.high)
    below, above = np.isfinite(low), np.isfinite(high)
    if (below & above).all():
        return part.write(_bounded(part, rng, lead))
    numbers = np.empty((*lead, part.size))
    # The end integers of a range are rounded to from one side only, so each gets half a step more.
    half = 0.0 if part.leaf.floating else 0.5
    for mask, drawn in (
        (below & above, lambda m, size: rng.uniform(low[m] - half, high[m] + half, size)),
        (below & ~above, lambda m, size: low[m] + rng.exponential(size=size)),
        (~below & above, lambda m, size: high[m] - rng.exponential(size=size)),
        (~below & ~above, lambda m, size: rng.normal(size=size)),
    ):
        if mask.any():
            numbers[..., mask] = drawn(mask, (*lead, int(mask.sum())))
    return part.write(numbers)


def _bounded(part: Stream, rng: np.random.Generator, lead: tuple[int, ...]) -> np.ndarray:
    """Uniform between bounds, (*lead, size)."""
    size = (*lead, part.size)
    if part.leaf.floating:
        return rng.uniform(np.array(part.low), np.array(part.high), size)
    low, high = (bound.ravel() for bound in part.leaf.bounds)
    if low.dtype == np.bool_:
        low, high = low.astype(np.int8), high.astype(np.int8)
    return rng.integers(low, high, size, dtype=low.dtype, endpoint=True)
