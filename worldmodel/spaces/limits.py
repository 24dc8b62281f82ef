"""Whether samples keep to their space, asked at every step; and the nearest ones that do."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldmodel.spaces.leaf import Leaf

_FEW = 16  # components that are sooner compared one by one than by NumPy


class Limits:
    """Bounds of a space's components, prepared for the quickest comparison."""

    def __init__(self, leaf: Leaf) -> None:
        low, high = leaf.limits
        dtype = np.dtype(leaf.dtype)
        self._floating, self._shape, self._dtype = leaf.floating, leaf.shape, dtype
        self._arrays = _spread(low, leaf), _spread(high, leaf)
        self._uniform = len(low) == len(high) == 1
        self._ends = (low[0], high[0]) if self._uniform else (0, 0)
        self._always = (
            self._uniform
            and dtype.kind in "iu"
            and low[0] <= np.iinfo(leaf.dtype).min
            and high[0] >= np.iinfo(leaf.dtype).max
        )
        lows, highs = (array.ravel().tolist() for array in self._arrays)
        self._pairs = [*zip(lows, highs, strict=True)] if leaf.size <= _FEW else []
        self._wide = np.dtype("uint64" if dtype.kind == "u" else "int64")
        self._integers = tuple(bound.astype(self._wide) for bound in leaf.bounds)

    def hold(self, array: np.ndarray) -> bool:
        """Whether all values of samples (*lead, *shape) lie within; NaN does not."""
        if self._always or array.size == 0:
            return True
        if array.size == len(self._pairs):
            values = (array if array.ndim == 1 else array.ravel()).tolist()
            for value, (low, high) in zip(values, self._pairs, strict=True):
                if not low <= value <= high:
                    return False
            return True
        if self._uniform:
            # As Python's numbers: their comparison is exact whatever the two types.
            low, high = self._ends
            return low <= array.min().item() and array.max().item() <= high
        return bool(self._within(array).all())

    def complaint(self, array: np.ndarray, asked: Any = True) -> str | None:
        """Which of the values that are asked about (a mask, or all) lies outside, if any does."""
        outside = ~self._within(array) & asked
        if not outside.any():
            return None
        index = tuple(np.argwhere(outside)[0].tolist())
        value = array[index].item()
        inner = index[array.ndim - len(self._shape) :]
        low, high = (bound[inner].item() for bound in self._arrays)
        at = f" at {index}" if index else ""
        if self._floating and not np.isfinite(value):
            return f"must be finite, got {value}{at}"
        coarse = max(abs(low), abs(high)) == 2**53
        reason = " (float64 resolves no larger integers)" if coarse else ""
        return f"must lie in [{low}, {high}]{reason}, got {value}{at}"

    def fit(self, values: np.ndarray) -> np.ndarray:
        """The nearest values (*lead, *shape) in the space, in its dtype; a fresh array."""
        if self._floating:
            # Bounds in the space's dtype: rounding to it can then lead no value beyond them.
            low, high = self._arrays
            inside = np.minimum(np.maximum(values, low), high)
            return np.asarray(inside).astype(self._dtype, copy=False)
        if values.dtype.kind == "f":
            ends = np.iinfo(self._wide)
            # The floats next to the ends of 64 bits lie outside, where conversion is undefined.
            least, most = float(ends.min), np.nextafter(float(ends.max), 0)
            values = np.rint(np.minimum(np.maximum(values.astype(np.float64), least), most))
        elif self._wide.kind == "u" and values.dtype.kind != "u":
            values = np.maximum(values, 0)
        values = np.asarray(values).astype(self._wide)
        low, high = self._integers
        return np.asarray(np.minimum(np.maximum(values, low), high)).astype(self._dtype)

    def _within(self, array: np.ndarray) -> np.ndarray:
        low, high = self._arrays
        return np.asarray((array >= low) & (array <= high))


def _spread(bounds: tuple[Any, ...], leaf: Leaf) -> np.ndarray:
    """Bounds as an array (*shape) in the space's own dtype, in which they are exact."""
    array = np.array(bounds, leaf.dtype)
    return np.full(leaf.shape, array[0]) if len(array) == 1 else array.reshape(leaf.shape)
