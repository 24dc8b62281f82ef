"""Pictures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float64, Shaped, UInt8

from worldmodel.spaces import picture
from worldmodel.spaces.layout import axes_of
from worldmodel.spaces.leaf import Leaf
from worldmodel.spaces.stream import Preset, Stream, listed


class Pixels(Stream):
    """(height, width, channel), ``uint8`` in [0, 255], or ``float32`` as declared.

    Declared are [0, 1] or [0, 255]; float64 pictures lose what float32 does not resolve.
    """

    kind: ClassVar[str] = "pixels"
    turn: ClassVar[int] = 1
    preset: ClassVar[Preset] = "pictures"
    linear: ClassVar[bool] = False
    _gaps: ClassVar[bool] = False

    @classmethod
    def take(cls, name: str, leaf: Leaf, path: str, observed: bool) -> Pixels | None:
        """Boxes that are pictures; actions never are."""
        axes = observed and axes_of(leaf, path)
        return cls.of(name, leaf, axes) if axes else None

    @classmethod
    def of(cls, name: str, leaf: Leaf, axes: tuple[int, ...]) -> Pixels:
        """Of a space whose axes in the order of the class are these."""
        sides = [leaf.shape[axis] for axis in axes]
        shape = (sides[0], sides[1], int(np.prod(sides[2:])))
        return cls(name, shape, "float32" if leaf.floating else "uint8", leaf, axes)

    @classmethod
    def recorded(cls, name: str, values: np.ndarray) -> Pixels | None:
        """What is of rank 3; which channels belong to one picture of a stack is not known."""
        if values.ndim != 5:
            return None
        shape, dtype = values.shape[-3:], values.dtype.name
        white = 255.0 if dtype == "uint8" or values.max(initial=0) > 1 else 1.0
        return cls.of(name, Leaf("Box", shape, dtype, (0.0,), (white,)), (0, 1, 2))

    @property
    def unit(self) -> float:
        """White is 1."""
        return self.white

    @property
    def drawn(self) -> Literal["film"]:
        """See ``Stream``."""
        return "film"

    @property
    def slack(self) -> float:
        """See ``Stream``."""
        return 2.0 * self.white / 255

    def describe(self) -> str:
        """In words."""
        return " × ".join(map(str, self.shape)) + " pixels"  # noqa: RUF001 (multiplication)

    def encode(self, values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """See ``Stream``."""
        return values.reshape(*values.shape[:-3], self.size)

    def decode(self, flat: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """See ``Stream``."""
        return flat.reshape(flat.shape[:-1] + self.shape)

    def picture(
        self, values: np.ndarray, low: Any = None, high: Any = None
    ) -> UInt8[np.ndarray, "*lead height width 3"]:
        """See ``Stream``."""
        stacked = len(self.axes) == 4
        channels = self.leaf.shape[self.axes[-1]] if stacked else self.shape[-1]
        return picture.pixels(values, channels, self.white)

    def ranges(self, values: np.ndarray) -> tuple[None, None]:
        """There is no bar."""
        return None, None

    def lines(self, values: np.ndarray) -> Float64[np.ndarray, "*lead n"]:
        """See ``Stream``."""
        return values.reshape(*values.shape[:-3], -1).astype(np.float64)

    def identity(self) -> Any:
        """Of the usual ones the shape, as it was when there were no others."""
        if self.leaf.dtype == "uint8" and self.axes == (0, 1, 2):
            return {"shape": list(self.shape), "pixels": True}
        return {"stream": self.to_json()}

    def _partial_finding(
        self,
        splits: Mapping[str, Shaped[np.ndarray, "n height width channel"]],
        still: Bool[np.ndarray, " size"],
    ) -> str | None:
        plain, black, names, count = 0, 0, [], 0
        for name, frames in splits.items():
            flat = frames.reshape(len(frames), -1, frames.shape[-1])
            single = (flat.min(1) == flat.max(1)).all(-1)
            plain, count = plain + int(single.sum()), count + len(frames)
            black += int((flat[single] == 0).all((1, 2)).sum())
            names += [name] if single.any() else []
        if not plain:
            return None
        return (
            f"stream {self.name!r}: {plain} of {count} pictures are of one colour, {black} of them "
            f"black, in {listed(names)}: look at the rendering, and at where the camera points"
        )

    @cached_property
    def _in_order(self) -> bool:
        return self.axes == tuple(range(len(self.axes)))

    def _record(self, array: np.ndarray, lead: tuple[int, ...]) -> np.ndarray:
        if not self._in_order:
            outer = tuple(range(len(lead)))
            array = array.transpose(*outer, *(len(lead) + axis for axis in self.axes))
        return np.array(array, self.dtype, order="C").reshape(lead + self.shape)

    def _sample(self, values: np.ndarray, lead: tuple[int, ...]) -> Any:
        values = values.reshape(lead + tuple(self.leaf.shape[axis] for axis in self.axes))
        if not self._in_order:
            order = [len(lead) + self.axes.index(axis) for axis in range(len(self.axes))]
            values = np.ascontiguousarray(values.transpose(*range(len(lead)), *order))
        if self.leaf.dtype == self.dtype == "uint8" == values.dtype and self.limits.hold(values):
            return values.copy()
        return self.limits.fit(values)

    def _encoded_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return (0.0,) * self.size, (self.white,) * self.size


STREAM = Pixels
