"""Episodes one after the other in flat arrays, with what identifies each of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from worldmodel.data.arrays import Array, Held

# Arrays that have one more row than an episode has steps.
FRAMES = ("observations", "states", "timestamps", "seen")


def is_framed(name: str) -> bool:
    """Whether an array has T + 1 rows; "observations.<stream>" are such."""
    return name.partition(".")[0] in FRAMES


@dataclass(frozen=True, eq=False)
class Part:
    """Some episodes, whose arrays stand one after the other.

    Attributes:
        lengths: (n,), steps of each episode.
        arrays: By name; "observations.<stream>", "actions", "terminated", and of "rewards",
            "truncated", "states", "timestamps" and "seen" what there is. Those of ``FRAMES``
            have ``lengths + 1`` rows an episode, the others ``lengths``.
        told: Provenance of runs of consecutive episodes: how many, and what is known.
        digests: (n, 32), SHA-256 of each episode; see ``digest``.
    """

    lengths: Int[np.ndarray, " n"]
    arrays: Mapping[str, Array]
    digests: Shaped[np.ndarray, "n 32"]
    told: Sequence[tuple[int, Mapping[str, str]]] = ()

    @cached_property
    def starts(self) -> Int[np.ndarray, " n"]:
        """Sum of the lengths before each episode."""
        return np.cumsum(self.lengths) - self.lengths

    def first(self, episode: int, framed: bool) -> int:
        """Row at which an episode begins."""
        return int(self.starts[episode]) + (episode if framed else 0)

    def rows(self, episode: int) -> dict[str, np.ndarray]:
        """Arrays of an episode; of files read-only memory maps."""
        rows = {}
        for name, array in self.arrays.items():
            first = self.first(episode, is_framed(name))
            rows[name] = array.view(first, first + int(self.lengths[episode]) + is_framed(name))
        return rows

    def told_of(self, episode: int) -> Mapping[str, str]:
        """Provenance of an episode."""
        for count, told in self.told:
            if episode < count:
                return told
            episode -= count
        return {}


def digest(arrays: Mapping[str, np.ndarray]) -> bytes:
    """SHA-256 of an episode: every array's name, dtype, shape and bytes."""
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(encoded([name, array.dtype.name, array.shape]))
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.digest()


def part_of(
    arrays: Mapping[str, np.ndarray],
    lengths: Int[np.ndarray, " n"],
    told: Iterable[tuple[int, Mapping[str, str]]] = (),
) -> Part:
    """A part in memory, of arrays in which one episode stands after the other."""
    ends, digests = np.cumsum(lengths), np.empty((len(lengths), 32), np.uint8)
    for i, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        rows = {
            name: array[end - length + i : end + i + 1]
            if is_framed(name)
            else array[end - length : end]
            for name, array in arrays.items()
        }
        digests[i] = np.frombuffer(digest(rows), np.uint8)
    return Part(
        lengths, {name: Held(array) for name, array in arrays.items()}, digests, tuple(told)
    )


def encoded(value: Any) -> bytes:
    """JSON, the same of the same."""
    return json.dumps(value, sort_keys=True).encode()
