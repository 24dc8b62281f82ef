"""Every kind of stream: each file here is one, and says ``STREAM``.

A codec of the same name in ``worldmodel/models/codec/`` makes standard units of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np

from worldmodel.spaces.leaf import Leaf
from worldmodel.spaces.stream import Stream


def _found() -> dict[str, type[Stream]]:
    """By name; those that take few spaces come before those that take nearly all."""
    streams = [import_module(f"{__name__}.{file.name}").STREAM for file in iter_modules(__path__)]
    return {stream.kind: stream for stream in sorted(streams, key=lambda s: (s.turn, s.kind))}


KINDS = _found()


def stream_of(name: str, leaf: Leaf, path: str, observed: bool) -> Stream:
    """How the samples of a space are recorded: as the first kind that takes them has it.

    Args:
        name: Of the stream.
        leaf: The space.
        path: Of the space, for errors.
        observed: Whether it is of observations, not of actions.

    Raises:
        SpecError: It has pixels, but their axes cannot be told.
    """
    taken = (kind.take(name, leaf, path, observed) for kind in KINDS.values())
    return next(stream for stream in taken if stream is not None)


def recorded_streams(values: Mapping[str, np.ndarray]) -> tuple[Stream, ...]:
    """What values (episodes, frames, *shape) were recorded of, as far as they tell without a space.

    How many indices there are is taken from the largest; which channels belong to one picture of a
    stack is not known.

    Args:
        values: By name of the stream.
    """
    return tuple(_recorded(name, array) for name, array in values.items())


def _recorded(name: str, values: np.ndarray) -> Stream:
    found = (kind.recorded(name, values) for kind in KINDS.values())
    return next(stream for stream in found if stream is not None)


def stream_from_json(plain: dict[str, Any]) -> Stream:
    """What ``Stream.to_json`` gave.

    Raises:
        ValueError, KeyError, TypeError: It is no such data.
        SpecError: It is one of too many values.
    """
    shape, axes = (tuple(int(i) for i in plain[name]) for name in ("shape", "axes"))
    leaf, kind = Leaf.from_json(plain["space"]), plain["kind"]
    if kind not in KINDS or sorted(axes) not in ([], [*range(len(leaf.shape))]):
        raise ValueError(f"{plain['name']!r} of kind {kind!r} cannot have axes {axes}")
    if int(np.prod(shape)) != leaf.size:
        raise ValueError(f"{plain['name']!r} cannot be {shape} of {leaf.shape}")
    leaf.require_few_values(plain["name"])
    return KINDS[kind](plain["name"], shape, plain["dtype"], leaf, axes)
