"""Indices."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped, UInt8

from worldmodel.spaces import picture
from worldmodel.spaces.leaf import Leaf
from worldmodel.spaces.stream import Preset, Stream


class Discrete(Stream):
    """(k,) ``int64`` indices from 0, of Discrete and MultiDiscrete."""

    kind: ClassVar[str] = "discrete"
    turn: ClassVar[int] = 0
    preset: ClassVar[Preset] = "vectors"
    linear: ClassVar[bool] = False
    _gaps: ClassVar[bool] = False
    _indexed: ClassVar[bool] = True

    @classmethod
    def take(cls, name: str, leaf: Leaf, path: str, observed: bool) -> Discrete | None:
        """Spaces of indices."""
        return cls(name, (leaf.size,), "int64", leaf) if leaf.categorical else None

    @classmethod
    def recorded(cls, name: str, values: np.ndarray) -> Discrete | None:
        """What is of their type; how many there are is taken from the largest."""
        shape = values.shape[2:]
        if values.dtype != np.int64 or len(shape) == 3:
            return None
        last = tuple(values.reshape(-1, *shape).max(0, initial=0).tolist())
        return cls(name, shape, "int64", Leaf("MultiDiscrete", shape, "int64", (0,), last))

    @property
    def drawn(self) -> Literal["steps"]:
        """See ``Stream``."""
        return "steps"

    @property
    def slack(self) -> float:
        """See ``Stream``."""
        return 1e-3

    def describe(self) -> str:
        """In words."""
        counts = [f"one of {count}" for count in self.sizes]
        if len(counts) > 1 and len(set(counts)) == 1:
            return f"{len(counts)} times {counts[0]}"
        return ", ".join(counts)

    def encode(self, values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """See ``Stream``."""
        lead = values.shape[: values.ndim - len(self.shape)]
        if self._eye is not None:
            return self._eye.take(values[..., 0], 0)
        flat = np.zeros((*lead, self.size), np.float32)
        if not lead:
            flat[values + self._firsts] = 1
        else:
            np.put_along_axis(flat, values + self._firsts, np.float32(1), -1)
        return flat

    def decode(self, flat: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """See ``Stream``."""
        lead = flat.shape[:-1]
        if len(self.sizes) == 1:
            return flat.argmax(-1)[..., None]
        if len(set(self.sizes)) == 1:
            return flat.reshape(*lead, len(self.sizes), self.sizes[0]).argmax(-1)
        edges = zip(self._firsts, (*self._firsts[1:], self.size), strict=True)
        return np.stack([flat[..., first:end].argmax(-1) for first, end in edges], -1)

    def picture(
        self, values: np.ndarray, low: Any = None, high: Any = None
    ) -> UInt8[np.ndarray, "*lead height width 3"]:
        """See ``Stream``."""
        first, last = (0.0,) * len(self.sizes), tuple(count - 1.0 for count in self.sizes)
        return picture.bars(np.asarray(values), first, last, low, high)

    def ranges(self, values: np.ndarray) -> tuple[None, None]:
        """They are known."""
        return None, None

    def lines(self, values: np.ndarray) -> Float64[np.ndarray, "*lead n"]:
        """See ``Stream``."""
        return values.astype(np.float64) + self._starts.ravel()

    def identity(self) -> Any:
        """All that is known of it."""
        return {"stream": self.to_json()}

    def _partial_finding(
        self, splits: Mapping[str, Shaped[np.ndarray, "n k"]], still: Bool[np.ndarray, " k"]
    ) -> str | None:
        return self._constant_components(splits, still)

    @cached_property
    def _starts(self) -> np.ndarray:
        """First value of each index (*sample's shape), in 64 bits."""
        return self.leaf.bounds[0].astype("uint64" if self._dtype.kind == "u" else "int64")

    @cached_property
    def _last(self) -> np.ndarray:
        """Greatest index of each component, (*sample's shape)."""
        return np.array([count - 1 for count in self.sizes], np.int64).reshape(self.leaf.shape)

    @cached_property
    def _firsts(self) -> Int64[np.ndarray, " k"]:
        """Where each index begins in the one-hot form."""
        return np.cumsum((0, *self.sizes[:-1]), dtype=np.int64)[: len(self.sizes)]

    @cached_property
    def _eye(self) -> np.ndarray | None:
        """One-hot vectors of a single index, as long as they are few."""
        few = len(self.sizes) == 1 and self.size <= 256
        return np.eye(self.size, dtype=np.float32) if few else None

    def _record(self, array: np.ndarray, lead: tuple[int, ...]) -> np.ndarray:
        if array.ndim == 0:
            return np.full(1, array.item() - self._starts.item(), np.int64)
        index = np.asarray(array.astype(self._starts.dtype) - self._starts).astype(np.int64)
        return index.reshape(lead + self.shape)

    def _sample(self, values: np.ndarray, lead: tuple[int, ...]) -> Any:
        values = values.reshape(lead + self.leaf.shape)
        index = np.minimum(np.maximum(values, 0), self._last)
        values = np.asarray(self._starts + np.asarray(index).astype(self._starts.dtype))
        array = self.limits.fit(values)
        return array[()] if self.leaf.kind == "Discrete" else array

    def _encoded_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return (0.0,) * self.size, (1.0,) * self.size


STREAM = Discrete
