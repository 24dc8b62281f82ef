"""One named part of an observation or action: its values as they are recorded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float64, Shaped, UInt8

from worldmodel.errors import NO_ARRAY, ShapeError
from worldmodel.spaces.leaf import Leaf
from worldmodel.spaces.limits import Limits
from worldmodel.spaces.scaling import Scaling, scaling

# Generic presets. One that suits what says little of the state suits what says more, too: the first
# that a stream asks for is for all.
Preset = Literal["pictures", "vectors"]

# A number is constant if it varies by no more than so many steps of its floating-point type.
_STEPS = 8
_NAMED = 8  # constant components that a sentence names one by one


@dataclass(frozen=True)
class Stream(ABC):
    """One part of an observation or action, how it is recorded, and all that its kind decides.

    A kind is one subclass in ``worldmodel/spaces/kinds/``, and one codec.

    Attributes:
        name: Members of Dict and Tuple joined by "."; "observation" or "action" if there is one
            part without a name.
        shape: As recorded.
        dtype: As recorded.
        leaf: The space.
        axes: Of a sample, in the order they are recorded in: height, width, frame, channel. Empty
            unless pixels.
        kind: Name of the subclass's file.
        turn: When it is asked whether it takes a space; the smallest first.
        preset: Name of the generic preset that suits it.
        linear: Whether its values are amounts, which a linear map of a state can give.
        slack: How far a value may be moved by a state that was kept in single precision.
        drawn: What figures show of it: its pictures as a film, its components as curves over time,
            or as steps.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    leaf: Leaf
    axes: tuple[int, ...] = ()

    kind: ClassVar[str]
    turn: ClassVar[int]
    preset: ClassVar[Preset]
    linear: ClassVar[bool]
    _gaps: ClassVar[bool]  # whether NaN can stand for a number that was not measured
    _indexed: ClassVar[bool] = False  # whether the encoded form is one-hot

    @classmethod
    @abstractmethod
    def take(cls, name: str, leaf: Leaf, path: str, observed: bool) -> Stream | None:
        """How samples of a space are recorded as this kind; None if they are of another.

        Arguments and errors are those of ``kinds.stream_of``.
        """

    @classmethod
    @abstractmethod
    def recorded(cls, name: str, values: np.ndarray) -> Stream | None:
        """Of recorded values (episodes, frames, *shape) whose space is not known, or None."""

    @property
    @abstractmethod
    def drawn(self) -> Literal["film", "curves", "steps"]:
        """See the class."""

    @property
    @abstractmethod
    def slack(self) -> float:
        """See the class."""

    @cached_property
    def size(self) -> int:
        """Number of scalars of the encoded form: one-hot if discrete."""
        return sum(self.sizes) if self._indexed else int(np.prod(self.shape))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each index; empty unless discrete."""
        return self.leaf.sizes if self._indexed else ()

    @property
    def binary(self) -> bool:
        """Whether each component of the vector is 0 or 1."""
        return self.leaf.kind == "MultiBinary"

    @property
    def filmed(self) -> bool:
        """Whether it is pictures."""
        return self.drawn == "film"

    @property
    def unit(self) -> float:
        """What recorded values are divided by to be in natural units."""
        return 1.0

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

    @abstractmethod
    def describe(self) -> str:
        """In words."""

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
            known = ~np.isnan(array) if missing and self._gaps else True
            if complaint := self.limits.complaint(array, known):
                raise ShapeError(f"{self.name} {complaint}")
        return self._record(array, lead)

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
        if values.dtype.kind == "f" and not self.leaf.floating and np.isnan(values).any():
            raise ShapeError(f"{self.name} must be integers, got {values}")
        return self._sample(values, lead)

    @abstractmethod
    def encode(self, values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """Recorded values (*lead, *shape) as (*lead, size): one-hot ``float32`` if discrete."""

    @abstractmethod
    def decode(self, flat: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """The inverse of ``encode``; of one-hot vectors the index of the largest."""

    @abstractmethod
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

    @abstractmethod
    def ranges(self, values: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Ends of the bars for recorded values (*lead, n) like these; None if they are known.

        What is not finite is passed over.
        """

    @abstractmethod
    def lines(self, values: np.ndarray) -> Float64[np.ndarray, "*lead n"]:
        """Recorded values (*lead, *shape) as numbers to draw over time, as the space has them."""

    @abstractmethod
    def identity(self) -> Any:
        """What a dataset's fingerprint is taken of, if it is all that is observed."""

    def constant(self, values: Shaped[np.ndarray, "n ..."]) -> Bool[np.ndarray, " size"]:
        """Which components never vary, by more than their dtype can resolve."""
        values = values.reshape(len(values), -1)
        if len(values) < 2:
            return np.zeros(values.shape[1], np.bool_)
        low, high = values.min(0), values.max(0)
        if not self.leaf.floating:
            return low == high
        # Controls are float32, whatever the space is.
        eps = max(float(np.finfo(dtype).eps) for dtype in (self.leaf.dtype, values.dtype))
        low, high = low.astype(np.float64), high.astype(np.float64)
        return high - low <= _STEPS * eps * np.maximum(np.abs(low), np.abs(high))

    def finding(self, splits: Mapping[str, Shaped[np.ndarray, "n ..."]]) -> str | None:
        """What is suspicious about recorded values, and what to do about it, in a sentence.

        Args:
            splits: By name; the first is what is learned from. What varies there and happens to
                be constant in another, which may be short, is not suspicious.
        """
        still = self.constant(next(iter(splits.values())))
        if not still.all():
            return self._partial_finding(splits, still)
        names = [name for name, values in splits.items() if self.constant(values).all()]
        return (
            f"stream {self.name!r} never changes in {listed(names)}: nothing can be learned from "
            "it; look at what the environment shows, or leave the stream out"
        )

    @abstractmethod
    def _partial_finding(
        self,
        splits: Mapping[str, Shaped[np.ndarray, "n ..."]],
        still: Bool[np.ndarray, " size"],
    ) -> str | None:
        """The same where not all components are constant in the first split, but some may be."""

    def _constant_components(
        self, splits: Mapping[str, Shaped[np.ndarray, "n ..."]], still: Bool[np.ndarray, " size"]
    ) -> str | None:
        """A finding about those components, unless they are a few of many.

        Such as the memory of a game or the corners of a map, which hurt nobody.
        """
        if not still.any() or _NAMED < still.sum() < still.size / 2:
            return None
        names = [name for name, values in splits.items() if self.constant(values)[still].all()]
        return (
            f"stream {self.name!r} has {components(still)} in {listed(names)}: nothing can be "
            "learned from that; look at the sensor, unless it is to be so"
        )

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

    @cached_property
    def _dtype(self) -> np.dtype:
        return np.dtype(self.leaf.dtype)

    @abstractmethod
    def _record(self, array: np.ndarray, lead: tuple[int, ...]) -> np.ndarray:
        """What is recorded of valid samples (*lead, *sample's shape), in memory of its own."""

    @abstractmethod
    def _sample(self, values: np.ndarray, lead: tuple[int, ...]) -> Any:
        """The samples that were recorded, or the nearest in the space."""

    @abstractmethod
    def _encoded_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """``low`` and ``high``."""

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
        except NO_ARRAY as error:
            raise ShapeError(
                f"{self.name} must be an array of numbers, got {sample!r:.200}: {error}"
            ) from error
        box = self.leaf.kind == "Box"
        if array.dtype.kind not in ("biuf" if box else "biu"):
            return array
        if isinstance(sample, np.generic) and not box:
            return array
        with np.errstate(over="ignore", invalid="ignore"):
            kept = array.astype(self._dtype)
        return kept if self.leaf.floating or (kept == array).all() else array


def components(which: Bool[np.ndarray, " size"]) -> str:
    """Which components are constant; one by one if they are few."""
    indices = np.flatnonzero(which)
    if len(indices) > _NAMED:
        return f"{len(indices)} constant components ({indices[0]} to {indices[-1]})"
    several = "s" if len(indices) > 1 else ""
    return f"the constant component{several} {listed([str(index) for index in indices])}"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
