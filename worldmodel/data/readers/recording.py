"""What every reader gives: named columns, one episode at a time."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from worldmodel.errors import FileFormatError, SpecError
from worldmodel.spaces.layout import LEAST_SIDE, picture_axes

# What one column of one episode may hold. A longer one is not read by accident: a few kilobytes of
# an archive can declare terabytes.
MOST_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Column:
    """What a source holds under one name.

    Attributes:
        shape: Of one entry.
        dtype: Of one entry, by name.
        final: Whether an episode has one entry more than actions: what was there after the last.
    """

    shape: tuple[int, ...]
    dtype: str
    final: bool = False

    @property
    def picture(self) -> bool:
        """Whether it looks like pictures (height, width[, channel]), of 8 bits or of others."""
        if self.dtype == "uint8":
            return len(self.shape) in (2, 3)
        axes = picture_axes(self.shape) if np.dtype(self.dtype).kind in "uf" else None
        return axes is not None and min(self.shape[axis] for axis in axes[:2]) >= LEAST_SIDE

    def describe(self) -> str:
        """In words."""
        return f"{self.dtype} {' x '.join(map(str, self.shape)) or 'scalar'}"


@dataclass(frozen=True)
class Table:
    """The columns of one episode.

    Attributes:
        name: As the source calls the episode.
        columns: (T or T + 1, *shape) by name.
    """

    name: str
    columns: dict[str, np.ndarray]


@dataclass(frozen=True)
class Recording(ABC):
    """A source that was recognised, with all that is known of it before its episodes are read.

    A subclass owes ``episodes``. It reads one episode at a time, so that memory does not grow with
    their number.

    Attributes:
        path: Of the source.
        columns: All that can be asked for.
        roles: Which columns the format itself declares to be what; see ``mapping``.
        count: Number of episodes, or None if it is not known before they are read.
        observation_space: As the source declares it, or None.
        action_space: Likewise.
        rate: Steps per second as declared, or None.
        nbytes: Of all columns of all episodes as arrays, or None if it is not known.
        facts: Of its origin, for the provenance; JSON.
        notes: What was decided, or is odd, a sentence each.
    """

    format: ClassVar[str]

    path: Path
    columns: Mapping[str, Column]
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    count: int | None = None
    observation_space: gym.Space | None = None
    action_space: gym.Space | None = None
    rate: float | None = None
    nbytes: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @abstractmethod
    def episodes(
        self, columns: Collection[str], size: tuple[int, int] | None = None
    ) -> Iterator[Table]:
        """Read the episodes in order.

        Args:
            columns: Names of those that are wanted; the others are not even decoded.
            size: (height, width) that pictures are scaled to, each as it is decoded.

        Raises:
            FileFormatError: The source is truncated or corrupt, or leads out of its folder; the
                message names episode and column.
        """


def inside(root: Path, path: Path) -> Path:
    """A file of a source, if it lies in the source's folder.

    A snapshot in the cache of Hugging Face's hub is made of links to the blobs beside it.

    Raises:
        FileFormatError: There is none, or a link or ".." leads to another place.
    """
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if not (real.is_relative_to(home) or real.is_relative_to(blobs)):
        raise FileFormatError(f"{path} leads out of its folder {root}, to {real}")
    if not real.is_file():
        raise FileFormatError(f"{path} is missing")
    return real


def require_columns(recording: Recording, wanted: Collection[str]) -> None:
    """Raise unless a source has all columns that are asked for.

    Raises:
        SpecError: One is missing; the message lists those there are.
    """
    if missing := [name for name in wanted if name not in recording.columns]:
        raise SpecError(
            f"{recording.path} has no column {missing[0]!r}; it has {', '.join(recording.columns)}"
        )


def require_moderate(what: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise if an array is larger than ``MOST_BYTES``.

    Raises:
        FileFormatError: It is; begins with ``what``.
    """
    size = dtype.itemsize
    for length in shape:
        size *= length
    if size > MOST_BYTES:
        raise FileFormatError(
            f"{what} declares {dtype} {shape}, {size / 2**30:,.1f} GiB in one episode; expected at "
            f"most {MOST_BYTES / 2**30:.0f}"
        )


def require_numbers(what: str, dtype: np.dtype) -> None:
    """Raise unless entries are real numbers or booleans.

    Raises:
        FileFormatError: They are not; begins with ``what``.
    """
    if dtype.kind not in "biuf":
        raise FileFormatError(f"{what} holds {dtype}; expected numbers")


def spans(ends: np.ndarray) -> list[tuple[int, int]]:
    """Where the episodes of flat arrays begin and stop.

    Args:
        ends: (N,), true on the last step of an episode.

    Returns:
        Begin and stop of each; steps after the last end are one more.
    """
    stops = (np.flatnonzero(ends) + 1).tolist()
    if len(ends) and (not stops or stops[-1] != len(ends)):
        stops.append(len(ends))
    return list(zip([0, *stops], stops, strict=False))


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Numbers within a name count as numbers: demo_2 comes before demo_10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
