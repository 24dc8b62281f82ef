"""One named part of an observation or action: its values as they are recorded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from worldmodel.errors import ShapeError
from worldmodel.spaces import picture
from worldmodel.spaces.layout import axes_of
from worldmodel.spaces.leaf import Leaf
from worldmodel.spaces.limits import Limits
from worldmodel.spaces.scaling import Scaling, scaling

Kind = Literal["pixels", "vector", "discrete"]


@dataclass(frozen=True)
class Stream:
    """One part of an observation or action, and how it is recorded.

    Attributes:
        name: Members of Dict and Tuple joined by "."; "observation" or "action" if there is one
            part without a name.
        kind: "pixels": (height, width, channel), ``uint8`` in [0, 255], or ``float32`` in [0, 1]
            or [0, 255] as declared (float64 pictures lose what float32 does not resolve).
            "vector": (n,), all other Boxes and MultiBinary, ``float32`` where that holds every
            value exactly and else ``float64``: whoever makes ``float32`` of it has to take its
            offset away first. "discrete": (k,), ``int64`` indices from 0.
        shape: As recorded.
        dtype: As recorded.
        leaf: The space.
        axes: Of a sample, in the order they are recorded in: height, width, frame, channel. Empty
            unless pixels.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: str
    leaf: Leaf
    axes: tuple[int, ...] = ()

    @classmethod
    def of(cls, name: str, leaf: Leaf, path: str, pictures: bool) -> Stream:
        """How the samples of a space are recorded.

        Args:
            name: Of the stream.
            leaf: The space.
            path: Of the space, for errors.
            pictures: Whether there can be pixels, which actions are not.

        Raises:
            SpecError: It has pixels, but their axes cannot be told.
        """
        if leaf.categorical:
            return cls(name, "discrete", (leaf.size,), "int64", leaf)
        if pictures and (axes := axes_of(leaf, path)):
            sides = [leaf.shape[axis] for axis in axes]
            shape = (sides[0], sides[1], int(np.prod(sides[2:])))
            return cls(name, "pixels", shape, "float32" if leaf.floating else "uint8", leaf, axes)
        return cls(name, "vector", (leaf.size,), leaf.recorded, leaf)

    @property
    def size(self) -> int:
        """Number of scalars of the encoded form: one-hot if discrete."""
        return sum(self.sizes) if self.kind == "discrete" else int(np.prod(self.shape))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each index; empty unless discrete."""
        return self.leaf.sizes if self.kind == "discrete" else ()

    @property
    def binary(self) -> bool:
        """Whether each component of the vector is 0 or 1."""
        return self.leaf.kind == "MultiBinary"

    @property
    def white(self) -> float:
        """The value of white in pixels."""
        return self.leaf.white

    @cached_property
    def low(self) -> tuple[float, ...]:
        """Bounds of each scalar of the encoded form; those that float32 cannot exceed are none."""
        return self._encoded_bounds()[0]

    @cached_property
    def high(self) -> tuple[float, ...]:
        """See ``low``."""
        return self._encoded_bounds()[1]

    @cached_property
    def limits(self) -> Limits:
        """What samples must keep to."""
        return Limits(self.leaf)

    def describe(self) -> str:
        """In words."""
        if self.kind == "pixels":
            return " × ".join(map(str, self.shape)) + " pixels"  # noqa: RUF001 (multiplication)
        if self.kind == "vector":
            what = "switch" if self.binary else "number"
            return f"{self.size} {what}" + ("" if self.size == 1 else "es" if self.binary else "s")
        counts = [f"one of {count}" for count in self.sizes]
        if len(counts) > 1 and len(set(counts)) == 1:
            return f"{len(counts)} times {counts[0]}"
        return ", ".join(counts)

    def read(self, sample: Any, lead: tuple[int, ...] = (), missing: bool = False) -> np.ndarray:
        """What is recorded of a sample: (*lead, *shape), never the sample's own memory.

        Args:
            sample: Of the space; with ``lead``, a batch of them, (*lead, *sample's shape).
            lead: Leading axes.
            missing: Whether NaN may stand for a number that was not measured.

        Raises:
            ShapeError: Its shape, dtype or a value breaks the space; the message says which.
        """
        array = sample if isinstance(sample, np.ndarray) else self._array(sample)
        if array.dtype != self._dtype:
            array = self._accepted(array)
        if array.shape != lead + self.leaf.shape:
            raise ShapeError(
                f"{self.name} must be of shape {lead + self.leaf.shape}, got {array.shape}"
            )
        if not self.limits.hold(array):
            known = ~np.isnan(array) if missing and self.kind == "vector" else True
            if complaint := self.limits.complaint(array, known):
                raise ShapeError(f"{self.name} {complaint}")
        if self.kind == "discrete":
            return self._indices(array).reshape(lead + self.shape)
        if not self._in_order:
            outer = tuple(range(len(lead)))
            array = array.transpose(*outer, *(len(lead) + axis for axis in self.axes))
        return np.array(array, self.dtype, order="C").reshape(lead + self.shape)

    def write(self, values: np.ndarray) -> Any:
        """The sample that was recorded: the inverse of ``read``, in the space's own dtype.

        Args:
            values: (*lead, *shape), finite; what lies outside the space gets its nearest value.

        Returns:
            A sample, or (*lead, *sample's shape); always in the space.

        Raises:
            ShapeError: ``values`` do not end in ``shape``, or integers are asked to be NaN.
        """
        values = np.asarray(values)
        lead = values.shape[: max(values.ndim - len(self.shape), 0)]
        if values.shape != lead + self.shape:
            raise ShapeError(f"{self.name} must end in {self.shape}, got {values.shape}")
        if self.kind == "pixels":
            values = values.reshape(lead + tuple(self.leaf.shape[axis] for axis in self.axes))
            if not self._in_order:
                order = [len(lead) + self.axes.index(axis) for axis in range(len(self.axes))]
                values = np.ascontiguousarray(values.transpose(*range(len(lead)), *order))
        else:
            values = values.reshape(lead + self.leaf.shape)
        if values.dtype.kind == "f" and not self.leaf.floating and np.isnan(values).any():
            raise ShapeError(f"{self.name} must be integers, got {values}")
        if self.kind == "discrete":
            index = np.minimum(np.maximum(values, 0), self._last)
            values = np.asarray(self._starts + np.asarray(index).astype(self._starts.dtype))
        if self.axes and self.leaf.dtype == self.dtype == "uint8" == values.dtype:
            array = values.copy() if self.limits.hold(values) else self.limits.fit(values)
        else:
            array = self.limits.fit(values)
        return array[()] if self.leaf.kind == "Discrete" else array

    def encode(self, values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """Recorded values (*lead, *shape) as (*lead, size): one-hot ``float32`` if discrete."""
        lead = values.shape[: values.ndim - len(self.shape)]
        if self.kind != "discrete":
            return values.reshape(*lead, self.size)
        if self._eye is not None:
            return self._eye.take(values[..., 0], 0)
        flat = np.zeros((*lead, self.size), np.float32)
        if not lead:
            flat[values + self._firsts] = 1
        else:
            np.put_along_axis(flat, values + self._firsts, np.float32(1), -1)
        return flat

    def decode(self, flat: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """The inverse of ``encode``; of one-hot vectors the index of the largest."""
        lead = flat.shape[:-1]
        if self.kind != "discrete":
            return flat.reshape(lead + self.shape)
        if len(self.sizes) == 1:
            return flat.argmax(-1)[..., None]
        if len(set(self.sizes)) == 1:
            return flat.reshape(*lead, len(self.sizes), self.sizes[0]).argmax(-1)
        edges = zip(self._firsts, (*self._firsts[1:], self.size), strict=True)
        return np.stack([flat[..., first:end].argmax(-1) for first, end in edges], -1)

    def picture(
        self, values: np.ndarray, low: Any = None, high: Any = None
    ) -> UInt8[np.ndarray, "*lead height width 3"]:
        """Recorded values for people, small.

        Pixels that are grey or RGB are shown as they are, of a stack the last frame, of other
        channels the last. All else are bars, one per component or index, of 128 at most.

        Args:
            values: (*lead, *shape).
            low: (n,), left end of each bar; by default the least value, or -1 if it has none.
            high: (n,), right end, likewise.
        """
        if self.kind == "pixels":
            stacked = len(self.axes) == 4
            channels = self.leaf.shape[self.axes[-1]] if stacked else self.shape[-1]
            return picture.pixels(values, channels, self.white)
        if self.kind == "discrete":
            least, most = np.zeros(len(self.sizes)), np.array(self.sizes, np.float64) - 1
        else:
            least, most = np.array(self.low), np.array(self.high)
        low = np.where(np.isfinite(least), least, -1.0) if low is None else np.asarray(low, float)
        high = np.where(np.isfinite(most), most, 1.0) if high is None else np.asarray(high, float)
        return picture.bars(np.asarray(values), low, high)

    def ranges(self, values: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Ends of the bars for recorded values (*lead, n) like these; None if they are known.

        What is not finite is passed over.
        """
        if self.kind != "vector" or not len(values):
            return None, None
        rows = values.reshape(-1, self.size).astype(np.float64)
        finite = np.isfinite(rows)
        low = rows.min(0, where=finite, initial=np.inf)
        high = rows.max(0, where=finite, initial=-np.inf)
        some = finite.any(0)
        return np.where(some, low, -1.0), np.where(some, high, 1.0)

    @property
    def slack(self) -> float:
        """How far a value may be moved by a state that was kept in single precision."""
        return 2.0 * self.white / 255 if self.kind == "pixels" else 1e-3

    def scaling(self) -> Scaling:
        """Of the encoded form (size,), from its bounds to [-1, 1]."""
        return scaling(self.low, self.high)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "space": self.leaf.to_json(),
            "axes": list(self.axes),
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Stream:
        """What ``to_json`` gave.

        Raises:
            ValueError, KeyError, TypeError: It is no such data.
        """
        shape, axes = (tuple(int(i) for i in plain[name]) for name in ("shape", "axes"))
        leaf = Leaf.from_json(plain["space"])
        stream = cls(plain["name"], plain["kind"], shape, plain["dtype"], leaf, axes)
        if stream.kind not in get_args(Kind) or sorted(axes) not in ([], [*range(len(leaf.shape))]):
            raise ValueError(f"{stream.name!r} of kind {stream.kind!r} cannot have axes {axes}")
        if int(np.prod(shape)) != leaf.size:
            raise ValueError(f"{stream.name!r} cannot be {shape} of {leaf.shape}")
        return stream

    @cached_property
    def _dtype(self) -> np.dtype:
        return np.dtype(self.leaf.dtype)

    @cached_property
    def _in_order(self) -> bool:
        return self.axes == tuple(range(len(self.axes)))

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

    def _indices(self, array: np.ndarray) -> Int64[np.ndarray, "..."]:
        if array.ndim == 0:
            return np.array(array.item() - self._starts.item(), np.int64)
        return np.asarray(array.astype(self._starts.dtype) - self._starts).astype(np.int64)

    def _accepted(self, array: np.ndarray) -> np.ndarray:
        """An array of another dtype than the space's, if Gymnasium has it in the space, too."""
        if array.dtype.kind in "biuf":
            if np.can_cast(array.dtype, self._dtype):
                return array
            if self.binary and ((array == 0) | (array == 1)).all():
                return array.astype(self._dtype)
        raise ShapeError(f"{self.name} must be {self._dtype}, got {array.dtype}")

    def _array(self, sample: Any) -> np.ndarray:
        """A number or list as an array of the space's dtype, if nothing is lost by that.

        Gymnasium takes a Box's numbers so whatever their type, but indices only if they are
        Python's.
        """
        try:
            array = np.asarray(sample)
        except (ValueError, TypeError) as error:
            raise ShapeError(f"{self.name} must be an array of numbers, got {sample!r}") from error
        box = self.leaf.kind == "Box"
        if array.dtype.kind not in ("biuf" if box else "biu"):
            return array
        if isinstance(sample, np.generic) and not box:
            return array
        with np.errstate(over="ignore", invalid="ignore"):
            kept = array.astype(self._dtype)
        return kept if self.leaf.floating or (kept == array).all() else array

    def _encoded_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if self.kind == "discrete":
            return (0.0,) * self.size, (1.0,) * self.size
        if self.kind == "pixels":
            return (0.0,) * self.size, (self.white,) * self.size
        return self.leaf.usable_bounds()
