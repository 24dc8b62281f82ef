"""Every kind of stream by its name: one line each, and which one records a space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from worldmodel.spaces.discrete import Discrete
from worldmodel.spaces.layout import axes_of
from worldmodel.spaces.leaf import Leaf
from worldmodel.spaces.pixels import Pixels
from worldmodel.spaces.stream import Stream
from worldmodel.spaces.vector import Vector

KINDS: dict[str, type[Stream]] = {kind.kind: kind for kind in (Pixels, Vector, Discrete)}


def stream_of(name: str, leaf: Leaf, path: str, pictures: bool) -> Stream:
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
        return Discrete(name, (leaf.size,), "int64", leaf)
    if pictures and (axes := axes_of(leaf, path)):
        return Pixels.of(name, leaf, axes)
    return Vector(name, (leaf.size,), leaf.recorded, leaf)


def recorded_streams(values: Mapping[str, np.ndarray]) -> tuple[Stream, ...]:
    """What values (episodes, frames, *shape) were recorded of, as far as they tell without a space.

    How many indices there are is taken from the largest; which channels belong to one picture of a
    stack is not known.

    Args:
        values: By name of the stream.
    """
    return tuple(_recorded(name, array) for name, array in values.items())


def _recorded(name: str, values: np.ndarray) -> Stream:
    shape = values.shape[2:]
    if len(shape) == 3:
        return Pixels.recorded(name, values)
    if values.dtype == np.int64:
        last = tuple(values.reshape(-1, *shape).max(0, initial=0).tolist())
        return Discrete(name, shape, "int64", Leaf("MultiDiscrete", shape, "int64", (0,), last))
    dtype = values.dtype.name
    return Vector(name, shape, dtype, Leaf("Box", shape, dtype, (-np.inf,), (np.inf,)))


def stream_from_json(plain: dict[str, Any]) -> Stream:
    """What ``Stream.to_json`` gave.

    Raises:
        ValueError, KeyError, TypeError: It is no such data.
    """
    shape, axes = (tuple(int(i) for i in plain[name]) for name in ("shape", "axes"))
    leaf, kind = Leaf.from_json(plain["space"]), plain["kind"]
    if kind not in KINDS or sorted(axes) not in ([], [*range(len(leaf.shape))]):
        raise ValueError(f"{plain['name']!r} of kind {kind!r} cannot have axes {axes}")
    if int(np.prod(shape)) != leaf.size:
        raise ValueError(f"{plain['name']!r} cannot be {shape} of {leaf.shape}")
    return KINDS[kind](plain["name"], shape, plain["dtype"], leaf, axes)
