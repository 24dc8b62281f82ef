"""One part of an action as the numbers that a model is controlled by."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
from gymnasium.error import InvalidAction
from jaxtyping import Float32

from worldmodel.errors import NO_ARRAY, SpecError
from worldmodel.spaces.stream import Stream

_FEW = 8  # numbers that are sooner clipped one by one than by NumPy
_STEPS = 1024  # that float32 must be able to tell apart within a range


class Control:
    """Checks the actions of one part and encodes them, prepared for every step.

    Args:
        part: A stream that is no picture.
        path: Of the part, for errors.

    Raises:
        SpecError: Its range is so small or so far from zero that float32 controls cannot
            resolve it.
    """

    def __init__(self, part: Stream, path: str) -> None:
        _require_resolved(part, path)
        self._path = path
        self._part = part
        self._shape = part.leaf.shape
        self._flat = part.leaf.shape == (part.size,)
        self._kinds = "fiu" if part.leaf.floating else "biu"
        self._clips = part.kind == "vector" and not part.binary
        self._start = int(part.leaf.low[0]) if part.leaf.kind == "Discrete" else 0
        if self._clips:
            most = float(np.finfo(np.float32).max)
            low, high = (
                np.clip(np.array(bound), -most, most).astype(np.float32).reshape(self._shape)
                for bound in (part.low, part.high)
            )
            self._low, self._high = low, high
            self._pairs = [*zip(low.ravel().tolist(), high.ravel().tolist(), strict=True)]

    def encode(self, action: Any, lead: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
        """Actions (*lead, *shape) as fresh controls (*lead, size).

        Raises:
            InvalidAction: They have another shape or dtype, are not finite, or are no such index;
                finite numbers outside a Box are clipped to it.
        """
        try:
            array = np.asarray(action)
        except NO_ARRAY as error:
            raise InvalidAction(
                f"{self._path} must be an array, got {action!r:.200}: {error}"
            ) from error
        if array.shape != lead + self._shape or array.dtype.kind not in self._kinds:
            real = "real" if self._part.leaf.floating else "integer"
            raise InvalidAction(
                f"{self._path} must be {real} and of shape {lead + self._shape}, "
                f"got {array.dtype} of shape {array.shape}"
            )
        if self._clips:
            few = array.size <= _FEW and array.size == len(self._pairs)
            clipped = self._one(array) if few else self._many(array)
            return clipped if self._flat else clipped.reshape(*lead, self._part.size)
        if array.ndim == 0 and 0 <= (index := array.item() - self._start) < self._part.size:
            one_hot = np.zeros(self._part.size, np.float32)
            one_hot[index] = 1
            return one_hot
        recorded = self._indices(array, lead)
        return self._part.encode(recorded).astype(np.float32, copy=False)

    def _one(self, array: np.ndarray) -> Float32[np.ndarray, "..."]:
        clipped = []
        for value, (low, high) in zip(array.ravel().tolist(), self._pairs, strict=True):
            if not isfinite(value):
                raise InvalidAction(f"{self._path} must be finite, got {array}")
            clipped.append(low if value < low else high if value > high else value)
        return np.array(clipped, np.float32).reshape(array.shape)

    def _many(self, array: np.ndarray) -> Float32[np.ndarray, "..."]:
        if not np.isfinite(array).all():
            raise InvalidAction(f"{self._path} must be finite, got {array}")
        # Two ufuncs cost a fifth of np.clip on a thousand small actions.
        inside = np.minimum(np.maximum(array, self._low), self._high)
        return np.asarray(inside).astype(np.float32, copy=False)

    def _indices(self, array: np.ndarray, lead: tuple[int, ...]) -> np.ndarray:
        if not self._part.limits.hold(array):
            raise InvalidAction(f"{self._path} {self._part.limits.complaint(array)}")
        return self._part.read(array.astype(self._part.leaf.dtype, copy=False), lead)


def _require_resolved(part: Stream, path: str) -> None:
    low, high = np.array(part.low), np.array(part.high)
    far = np.maximum(*(np.where(np.isfinite(b), np.abs(b), 0) for b in (low, high)))
    if (far >= float(np.finfo(np.float32).max)).any():
        raise SpecError(f"{path}: float32 controls reach no action in [{low}, {high}]")
    bounded = np.isfinite(low) & np.isfinite(high)
    spread = np.where(bounded, high, 1) / 2 - np.where(bounded, low, 0) / 2
    coarse = far * float(np.finfo(np.float32).eps) * _STEPS > 2 * spread
    # What has float32 bounds itself loses nothing in becoming a float32 control.
    exact = part.leaf.dtype in ("float32", "float16")
    if not exact and (bounded & (spread > 0) & coarse).any():
        raise SpecError(
            f"{path}: float32 controls cannot resolve actions between {part.low} and {part.high}; "
            "gymnasium.wrappers.RescaleAction(env, -1, 1) takes the offset away"
        )
