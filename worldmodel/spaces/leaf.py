"""Gymnasium's spaces without parts, as plain data from which the space can be made again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, cast, get_args

import gymnasium as gym
import numpy as np

from worldmodel.errors import SpecError

Kind = Literal["Box", "Discrete", "MultiDiscrete", "MultiBinary"]
Number = int | float

# One-hot vectors grow with the number of values; beyond this they are no model's business.
MOST_VALUES = 65_536
# Bounds from here on are the usual way to write "none", and no float32 control lies beyond.
_ENDLESS = float(np.finfo(np.float32).max)
_EXACT = {"float32": 2**24, "float64": 2**53}  # integers up to here are resolved


@dataclass(frozen=True)
class Leaf:
    """A Box, Discrete, MultiDiscrete or MultiBinary.

    Attributes:
        kind: Name of the space's class.
        shape: Of a sample; () for Discrete.
        dtype: Of a sample, by name.
        low: Least value of each component in C order, exact, infinite if it has none; a single
            one if all are alike. An integer Box may have infinite ones too.
        high: Greatest values, likewise.
        counted: MultiBinary(3), which Gymnasium tells from MultiBinary((3,)).
    """

    kind: Kind
    shape: tuple[int, ...]
    dtype: str
    low: tuple[Number, ...]
    high: tuple[Number, ...]
    counted: bool = False

    @classmethod
    def from_space(cls, space: gym.Space, path: str) -> Leaf:
        """Read a space without parts.

        Raises:
            SpecError: It is of another kind, or its values cannot be resolved; begins with
                ``path``.
        """
        spaces = gym.spaces
        if isinstance(space, spaces.Box):
            if space.dtype.kind == "f" and space.dtype.itemsize > 8:
                raise SpecError(f"{path}: {space.dtype} is more than float64 resolves")
            leaf = cls("Box", space.shape, _name(space.dtype), *_box_bounds(space))
        elif isinstance(space, spaces.Discrete):
            start, n = int(space.start), int(space.n)
            leaf = cls("Discrete", (), _name(space.dtype), (start,), (start + n - 1,))
        elif isinstance(space, spaces.MultiDiscrete):
            starts, counts = space.start.ravel().tolist(), space.nvec.ravel().tolist()
            last = [start + n - 1 for start, n in zip(starts, counts, strict=True)]
            dtype = _name(space.dtype)
            leaf = cls("MultiDiscrete", space.shape, dtype, _alike(starts), _alike(last))
        elif isinstance(space, spaces.MultiBinary):
            counted = isinstance(space.n, int)
            leaf = cls("MultiBinary", space.shape, _name(space.dtype), (0,), (1,), counted)
        else:
            raise SpecError(f"{path}: {type(space).__name__} cannot be learned from")
        leaf.require_few_values(path)
        return leaf

    def require_few_values(self, path: str) -> None:
        """Refuse what one-hot vectors would be too long for.

        Raises:
            SpecError: It has too many values; begins with ``path``.
        """
        if self.categorical and max(self.sizes, default=0) > MOST_VALUES:
            raise SpecError(
                f"{path}: {self.kind} of {max(self.sizes)} values is more than the {MOST_VALUES} "
                "that a one-hot vector may have"
            )

    def space(self) -> gym.Space:
        """A new space, equal to the one that was read."""
        low, high = self.bounds
        dtype = cast(Any, np.dtype(self.dtype))
        if self.kind == "MultiBinary":
            return gym.spaces.MultiBinary(self.shape[0] if self.counted else self.shape)
        if self.kind == "Discrete":
            return gym.spaces.Discrete(self.sizes[0], start=int(low), dtype=dtype.type)
        if self.kind == "MultiDiscrete":
            counts = np.array(self.sizes, dtype).reshape(self.shape)
            return gym.spaces.MultiDiscrete(counts, dtype, start=cast(Any, low))
        box = gym.spaces.Box(low.copy(), high.copy(), self.shape, dtype)
        # The constructor takes the ends of an integer type for bounds, which they need not be.
        box.bounded_below = np.isfinite(self._spread(self.low, np.float64))
        box.bounded_above = np.isfinite(self._spread(self.high, np.float64))
        return box

    @property
    def size(self) -> int:
        """Number of components of a sample."""
        return int(np.prod(self.shape))

    @property
    def categorical(self) -> bool:
        """Whether its components are names rather than amounts."""
        return self.kind in ("Discrete", "MultiDiscrete")

    @property
    def floating(self) -> bool:
        """Whether it is a Box of floats."""
        return np.dtype(self.dtype).kind == "f"

    @property
    def white(self) -> float:
        """The value of white, if it is a picture."""
        return float(max(self.high)) if self.floating else 255.0

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of values that each component can take; of no meaning for floats."""
        counts = [int(b) - int(a) + 1 for a, b in zip(*self._each(), strict=True)]
        return tuple(counts)

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest samples (*shape) in the space's own dtype."""
        dtype = np.dtype(self.dtype)
        return self._spread(self.low, dtype), self._spread(self.high, dtype)

    @cached_property
    def limits(self) -> tuple[tuple[Number, ...], tuple[Number, ...]]:
        """What a sample must keep to: its bounds, and finite, and exact when recorded."""
        dtype = np.dtype(self.dtype)
        if dtype.kind == "f":
            most = float(np.finfo(dtype).max)
            least = -most
        elif self.categorical:
            return self.low, self.high
        else:
            least, most = max(_ends(dtype)[0], -(2**53)), min(_ends(dtype)[1], 2**53)
        low = tuple(min(max(bound, least), most) for bound in self.low)
        return low, tuple(min(max(bound, least), most) for bound in self.high)

    @property
    def recorded(self) -> str:
        """The narrowest of float32 and float64 that holds every sample exactly."""
        if self.floating:
            return "float64" if self.dtype == "float64" else "float32"
        low, high = self.limits
        ends = (*low, *high)
        return "float32" if all(abs(end) <= _EXACT["float32"] for end in ends) else "float64"

    def usable_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Bounds (size,) of which those as large as float32 holds count as none."""
        low, high = self._each()
        return (
            tuple(float(b) if b > -_ENDLESS else -np.inf for b in low),
            tuple(float(b) if b < _ENDLESS else np.inf for b in high),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; infinite bounds as text, since JSON has no number for them."""
        plain = asdict(self)
        for name in ("low", "high"):
            plain[name] = [b if np.isfinite(b) else str(b) for b in plain[name]]
        return {**plain, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Leaf:
        """What ``to_json`` gave.

        Raises:
            ValueError, KeyError, TypeError: It is no such data.
        """
        if plain["kind"] not in get_args(Kind):
            raise ValueError(f"a space is one of {get_args(Kind)}, got {plain['kind']!r}")
        low, high = (
            tuple(b if isinstance(b, int) else float(b) for b in plain[name])
            for name in ("low", "high")
        )
        shape = tuple(int(length) for length in plain["shape"])
        dtype = np.dtype(plain["dtype"])
        if any(len(bounds) not in (1, int(np.prod(shape))) for bounds in (low, high)):
            raise ValueError(f"bounds of {shape} cannot be {len(low)} and {len(high)} numbers")
        return cls(plain["kind"], shape, _name(dtype), low, high, bool(plain["counted"]))

    def _each(self) -> tuple[tuple[Number, ...], tuple[Number, ...]]:
        low, high = (
            bounds * self.size if len(bounds) == 1 else bounds for bounds in (self.low, self.high)
        )
        return low, high

    def _spread(self, bounds: tuple[Number, ...], dtype: Any) -> np.ndarray:
        """Bounds as an array (*shape); infinite ones are the ends of an integer type."""
        if np.dtype(dtype).kind != "f":
            least, most = _ends(np.dtype(dtype))
            bounds = tuple(int(min(max(bound, least), most)) for bound in bounds)
        array = np.array(bounds, dtype)
        return np.full(self.shape, array[0]) if len(array) == 1 else array.reshape(self.shape)


def _name(dtype: Any) -> str:
    return dtype.name if dtype.isnative else dtype.str


def _ends(dtype: np.dtype) -> tuple[int, int]:
    if dtype.kind == "b":
        return 0, 1
    info = np.iinfo(cast(Any, dtype))
    return int(info.min), int(info.max)


def _alike(values: list[Number]) -> tuple[Number, ...]:
    return tuple(values[:1] if values and values.count(values[0]) == len(values) else values)


def _box_bounds(space: gym.spaces.Box) -> tuple[tuple[Number, ...], tuple[Number, ...]]:
    bounds = []
    for ends, bounded, none in (
        (space.low, space.bounded_below, -np.inf),
        (space.high, space.bounded_above, np.inf),
    ):
        values = ends.ravel().tolist()
        if space.dtype.kind != "f":
            given = np.broadcast_to(bounded, space.shape).ravel().tolist()
            values = [
                int(b) if is_given else none for b, is_given in zip(values, given, strict=True)
            ]
        bounds.append(_alike(values))
    return bounds[0], bounds[1]
