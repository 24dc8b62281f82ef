"""Dict and Tuple spaces, nested, as trees whose leaves are streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np

from worldmodel.errors import ShapeError, SpecError
from worldmodel.spaces.kinds import stream_from_json, stream_of
from worldmodel.spaces.leaf import Leaf
from worldmodel.spaces.stream import Stream

_LINE = 200  # letters of what was given, in an error
# What parts of a space, and Gymnasium's own, raise of what is none.
_NO_SPACE = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, AssertionError)


@dataclass(frozen=True)
class Branch:
    """A Dict or Tuple space.

    Attributes:
        path: Of the space, for errors.
        keys: Of the Dict, in its order; None for Tuple.
        members: One per key or index.
        sort_keys: As the Dict was made with.
    """

    path: str
    keys: tuple[str | int, ...] | None
    members: tuple[Node, ...]
    sort_keys: bool = True

    def split(self, sample: Any) -> list[Any]:
        """Samples of the members.

        Raises:
            ShapeError: ``sample`` is no such dictionary or tuple.
        """
        if self.keys is None:
            if isinstance(sample, np.ndarray) and sample.ndim:
                sample = list(sample)
            if not isinstance(sample, tuple | list) or len(sample) != len(self.members):
                raise ShapeError(
                    f"{self.path} must be a tuple of {len(self.members)}, got {_short(sample)}"
                )
            return list(sample)
        if not isinstance(sample, dict) or sample.keys() != self._known:
            got = list(sample) if isinstance(sample, dict) else _short(sample)
            raise ShapeError(f"{self.path} must be a dict of {list(self.keys)}, got {got}")
        return [sample[key] for key in self.keys]

    def join(self, samples: list[Any]) -> Any:
        """The inverse of ``split``."""
        if self.keys is None:
            return tuple(samples)
        return dict(zip(self.keys, samples, strict=True))

    @cached_property
    def _known(self) -> frozenset[str | int]:
        return frozenset(self.keys or ())


Node = Stream | Branch


def _short(sample: Any) -> str:
    """What something else is, in a line."""
    if isinstance(sample, np.ndarray):
        return f"an array {sample.shape} of {sample.dtype}"
    told = repr(sample)
    return told if len(told) <= _LINE else f"{told[:_LINE]}..."


def grow(space: gym.Space, root: str, pictures: bool) -> Node:
    """The tree of a space.

    Args:
        space: Any.
        root: What its path begins with; the stream's name if there are no parts.
        pictures: Whether there can be pixels, which actions are not.

    Raises:
        SpecError: A part cannot be learned from, two have the same name, or there is none.
    """
    tree = _grow(space, root, root, pictures)
    names = Counter(stream.name for stream in leaves(tree))
    if twice := [name for name, count in names.items() if count > 1]:
        raise SpecError(f"{root}: two parts have the name {twice[0]!r}")
    if not any(stream.size for stream in leaves(tree)):
        raise SpecError(f"{root}: {space} has no part to learn from")
    return tree


def _grow(space: gym.Space, root: str, path: str, pictures: bool) -> Node:
    if isinstance(space, gym.spaces.Dict):
        keys = tuple(space.spaces)
        if wrong := [key for key in keys if type(key) not in (str, int)]:
            raise SpecError(f"{path}: keys must be text or integers, got {wrong[0]!r}")
        members = [_grow(space.spaces[k], root, f"{path}.{k}", pictures) for k in keys]
        return Branch(path, keys, tuple(members), space.sort_keys)
    if isinstance(space, gym.spaces.Tuple):
        members = [
            _grow(part, root, f"{path}.{i}", pictures) for i, part in enumerate(space.spaces)
        ]
        return Branch(path, None, tuple(members))
    name = path.removeprefix(f"{root}.") if path != root else root
    return stream_of(name, Leaf.from_space(space, path), path, pictures)


def leaves(node: Node) -> Iterator[Stream]:
    """All streams, those without a scalar included."""
    if isinstance(node, Stream):
        yield node
    else:
        for member in node.members:
            yield from leaves(member)


def space_of(node: Node) -> gym.Space:
    """A new space, equal to the one that the tree grew from."""
    if isinstance(node, Stream):
        return node.leaf.space()
    spaces = [space_of(member) for member in node.members]
    if node.keys is None:
        return gym.spaces.Tuple(spaces)
    pairs: Any = list(zip(node.keys, spaces, strict=True))
    return gym.spaces.Dict(pairs, sort_keys=node.sort_keys)


def map_arrays(function: Callable[[Any], Any], sample: Any) -> Any:
    """A nested sample with a function applied to each of its arrays, such as an index."""
    if isinstance(sample, dict):
        return {key: map_arrays(function, value) for key, value in sample.items()}
    if isinstance(sample, tuple):
        return tuple(map_arrays(function, value) for value in sample)
    return function(sample)


def stack(samples: Sequence[Any], axis: int) -> Any:
    """Samples, or batches of them, along a new axis of their arrays."""
    first = samples[0]
    if isinstance(first, dict):
        return {key: stack([sample[key] for sample in samples], axis) for key in first}
    if isinstance(first, tuple):
        return tuple(stack(part, axis) for part in zip(*samples, strict=True))
    return np.stack(samples, axis)


def put_row(batch: Any, row: int, sample: Any) -> None:
    """Write one sample over a row of a batch in Gymnasium's layout, in place."""
    if isinstance(batch, dict):
        for key, part in batch.items():
            put_row(part, row, sample[key])
    elif isinstance(batch, tuple):
        for part, value in zip(batch, sample, strict=True):
            put_row(part, row, value)
    else:
        batch[row] = sample


def write(node: Node, values: dict[str, np.ndarray], lead: tuple[int, ...]) -> Any:
    """A sample, or a batch with leading axes, from recorded values by name of the stream."""
    if isinstance(node, Stream):
        return node.write(values[node.name]) if node.size else absent(node, lead)
    return node.join([write(member, values, lead) for member in node.members])


def absent(stream: Stream, lead: tuple[int, ...]) -> np.ndarray:
    """The samples of a stream without scalars."""
    return np.zeros((*lead, *stream.leaf.shape), stream.leaf.dtype)


def to_json(node: Node) -> dict[str, Any]:
    """Plain data."""
    if isinstance(node, Stream):
        return {"stream": node.to_json()}
    members = [to_json(member) for member in node.members]
    if node.keys is None:
        return {"path": node.path, "tuple": members}
    return {
        "path": node.path,
        "dict": members,
        "keys": list(node.keys),
        "sort_keys": node.sort_keys,
    }


def from_json(plain: Any, what: str) -> Node:
    """What ``to_json`` gave.

    Raises:
        SpecError: It is no such data.
    """
    try:
        with np.errstate(over="raise", invalid="raise"):
            node = _from_json(plain)
            space_of(node)  # else it would fail where it is used
        return node
    except _NO_SPACE as error:
        raise SpecError(f"{plain!r} describes no space of {what}: {error!r}") from error


def _from_json(plain: Any) -> Node:
    if not isinstance(plain, dict):
        raise TypeError("it is no dictionary")
    if "stream" in plain:
        return stream_from_json(plain["stream"])
    members = tuple(_from_json(member) for member in plain["dict" if "dict" in plain else "tuple"])
    if "tuple" in plain:
        return Branch(plain["path"], None, members)
    keys = tuple(plain["keys"])
    if len(keys) != len(members) or not all(isinstance(key, str | int) for key in keys):
        raise ValueError(f"{len(members)} members cannot have the keys {keys}")
    return Branch(plain["path"], keys, members, plain["sort_keys"])
