"""Numbers and switches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float64, Shaped, UInt8

from worldmodel.spaces import picture
from worldmodel.spaces.leaf import Leaf
from worldmodel.spaces.stream import Preset, Stream


class Vector(Stream):
    """(n,), of all Boxes that are no pictures, and of MultiBinary.

    ``float32`` where that holds every value exactly and else ``float64``: whoever makes
    ``float32`` of it has to take its offset away first.
    """

    kind: ClassVar[str] = "vector"
    turn: ClassVar[int] = 2
    preset: ClassVar[Preset] = "vectors"
    linear: ClassVar[bool] = True
    _gaps: ClassVar[bool] = True

    @classmethod
    def take(cls, name: str, leaf: Leaf, path: str, observed: bool) -> Vector:
        """Whatever is left."""
        return cls(name, (leaf.size,), leaf.recorded, leaf)

    @classmethod
    def recorded(cls, name: str, values: np.ndarray) -> Vector:
        """Whatever is left."""
        shape, dtype = values.shape[2:], values.dtype.name
        return cls(name, shape, dtype, Leaf("Box", shape, dtype, (-np.inf,), (np.inf,)))

    @property
    def drawn(self) -> Literal["curves", "steps"]:
        """See ``Stream``."""
        return "steps" if self.binary else "curves"

    @property
    def slack(self) -> float:
        """See ``Stream``."""
        return 1e-3

    def describe(self) -> str:
        """In words."""
        what = "switch" if self.binary else "number"
        return f"{self.size} {what}" + ("" if self.size == 1 else "es" if self.binary else "s")

    def encode(self, values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """See ``Stream``."""
        return values.reshape(*values.shape[:-1], self.size)

    def decode(self, flat: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """See ``Stream``."""
        return flat.reshape(flat.shape[:-1] + self.shape)

    def picture(
        self, values: np.ndarray, low: Any = None, high: Any = None
    ) -> UInt8[np.ndarray, "*lead height width 3"]:
        """See ``Stream``."""
        return picture.bars(np.asarray(values), self.low, self.high, low, high)

    def ranges(self, values: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """See ``Stream``."""
        if not len(values):
            return None, None
        rows = values.reshape(-1, self.size).astype(np.float64)
        finite = np.isfinite(rows)
        low = rows.min(0, where=finite, initial=np.inf)
        high = rows.max(0, where=finite, initial=-np.inf)
        some = finite.any(0)
        return np.where(some, low, -1.0), np.where(some, high, 1.0)

    def lines(self, values: np.ndarray) -> Float64[np.ndarray, "*lead n"]:
        """See ``Stream``."""
        return values.astype(np.float64)

    def identity(self) -> Any:
        """Of ``float32`` in a row the shape, as it was when there were no others."""
        if self.leaf.floating and self.leaf.dtype != "float64" and self.shape == self.leaf.shape:
            return {"shape": list(self.shape), "pixels": False}
        return {"stream": self.to_json()}

    def _partial_finding(
        self, splits: Mapping[str, Shaped[np.ndarray, "n size"]], still: Bool[np.ndarray, " size"]
    ) -> str | None:
        return self._constant_components(splits, still)

    def _record(self, array: np.ndarray, lead: tuple[int, ...]) -> np.ndarray:
        return np.array(array, self.dtype, order="C").reshape(lead + self.shape)

    def _sample(self, values: np.ndarray, lead: tuple[int, ...]) -> Any:
        return self.limits.fit(values.reshape(lead + self.leaf.shape))

    def _encoded_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.leaf.usable_bounds()


STREAM = Vector
