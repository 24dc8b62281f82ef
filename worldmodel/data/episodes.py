"""Episodes of any length, of which a few are read at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Shaped
from torch import Tensor

from worldmodel import html
from worldmodel.data.parts import Part, digest, is_framed, part_of
from worldmodel.errors import FileFormatError, ShapeError, SpecError
from worldmodel.spaces import ObservationSpace
from worldmodel.types import Batch, Observations, from_streams

# Bounds of a sample: what is made of it, in float32, is to stay below a gigabyte.
SAMPLED_FRAMES, SAMPLED_BYTES, SAMPLED_STEPS = 250_000, 64_000_000, 1_000
# And of one of which only a few frames at a time are made anything of.
FOLLOWED_BYTES = 256_000_000
_FLAGS = 1_000_000  # booleans that are read at a time


@dataclass(frozen=True)
class Episode:
    """One episode of T steps; arrays of a dataset on disk are read-only memory maps.

    Attributes:
        observations: (T + 1, *obs), or a dictionary of such arrays by stream if there are several.
        actions: (T, act), ``float32`` controls, as ``ActionSpace.encode`` gives them.
        rewards: (T,), ``float32``; None if none were recorded.
        terminated: (T,), on arrival of each step.
        truncated: (T,), or None if it was not recorded.
        states: (T + 1, n), ``float32`` ground truth, or None.
        timestamps: (T + 1,), seconds, or None.
        seen: (T + 1,), False where the episode went on unobserved: there stands the last
            observation before. None if all was seen.
        told: Where it comes from: ``actor``, ``origin`` and ``recorded`` (ISO 8601), as far as
            they are known.
    """

    observations: Any
    actions: Shaped[np.ndarray, "steps act"]
    rewards: Shaped[np.ndarray, " steps"] | None
    terminated: Bool[np.ndarray, " steps"]
    truncated: Bool[np.ndarray, " steps"] | None = None
    states: Shaped[np.ndarray, "frames n"] | None = None
    timestamps: Float64[np.ndarray, " frames"] | None = None
    seen: Bool[np.ndarray, " frames"] | None = None
    told: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.actions)


class Episodes:
    """A split: a sequence of episodes, of which nothing is in memory but their lengths.

    An integer gives an ``Episode``; a slice, or an array of integers or booleans, a padded
    ``Batch`` in memory. Of small data the whole split can be had so: ``padded()``, and its fields
    ``observations``, ``actions``, ``rewards``, ``terminated``, ``mask`` and ``states``, each of
    which loads everything.

    Args:
        parts: Episodes in their order.
        space: What one observation looks like.
    """

    def __init__(self, parts: Sequence[Part], space: ObservationSpace) -> None:
        self.parts, self.space = tuple(parts), space
        counts = [len(part.lengths) for part in self.parts]
        self._first = np.cumsum([0, *counts])
        empty = np.zeros(0, np.int64)
        self.lengths = np.concatenate([empty, *(part.lengths for part in self.parts)])

    @classmethod
    def of(cls, batch: Batch, space: ObservationSpace) -> Episodes:
        """Those of a batch, in memory, without its padding.

        Raises:
            SpecError: Streams or their shapes and dtypes are not those of ``space``.
        """
        return cls([part_of(flat_arrays(batch, space), lengths_of(batch))], space)

    def __len__(self) -> int:
        return len(self.lengths)

    def __repr__(self) -> str:
        return f"Episodes({len(self)} of up to {self.steps} steps, {self.frames} frames)"

    @property
    def steps(self) -> int:
        """Of the longest."""
        return int(self.lengths.max(initial=0))

    @property
    def frames(self) -> int:
        """Recorded observations of all."""
        return int(self.lengths.sum()) + len(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the arrays that there are."""
        return tuple(self.parts[0].arrays) if self.parts else ()

    @property
    def frame_bytes(self) -> int:
        """Of one observation."""
        return self.width("observations.")

    def width(self, begin: str = "") -> int:
        """Bytes of a row of all arrays whose name begins so."""
        arrays = self.parts[0].arrays if self.parts else {}
        return sum(
            int(array.dtype.itemsize * np.prod(array.shape[1:], dtype=np.int64))
            for name, array in arrays.items()
            if name.startswith(begin)
        )

    def __iter__(self) -> Iterator[Episode]:
        return (self._episode(index) for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray | Tensor) -> Batch: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(f"no episode {index} of {len(self)}")
            return self._episode(int(index) % len(self))
        return self.padded(np.arange(len(self))[index])

    def _episode(self, index: int) -> Episode:
        part, row = self._place(index)
        arrays, streams = {}, {}
        for name, rows in part.rows(row).items():
            field_name, _, stream = name.partition(".")
            (streams if stream else arrays)[stream or field_name] = rows
        seen = streams if len(streams) > 1 else next(iter(streams.values()))
        kept = {"rewards": None, **_with_gaps(arrays)}
        return Episode(seen, told=part.told_of(row), **kept)

    def _place(self, index: int) -> tuple[Part, int]:
        number = int(np.searchsorted(self._first, index, "right")) - 1
        return self.parts[number], index - int(self._first[number])

    def windows(
        self,
        episodes: Int[np.ndarray, " k"],
        starts: Int[np.ndarray, " k"],
        steps: int,
        truth: bool = True,
    ) -> Batch:
        """Stretches of ``steps`` steps.

        Args:
            episodes: Of which episode each is.
            starts: Its first frame, which must be recorded.
            steps: Of each; where the episode ends before, the last observation and state are
                repeated, and everything else is zero.
            truth: Whether to read ``states`` and ``truncated``, which no model sees.
        """
        recorded = np.minimum(self.lengths[episodes] - starts, steps)
        places = [self._place(int(episode)) for episode in episodes]
        left_out = {"timestamps", *(() if truth else ("states", "truncated"))}
        arrays = {
            name: self._cut(name, places, starts, recorded, steps)
            for name in self.names
            if name not in left_out
        }
        arrays["mask"] = np.arange(steps) < recorded[:, None]
        return to_batch(arrays, self.space)

    def _cut(
        self,
        name: str,
        places: Sequence[tuple[Part, int]],
        starts: np.ndarray,
        recorded: np.ndarray,
        steps: int,
    ) -> np.ndarray:
        framed, like = is_framed(name), self.parts[0].arrays[name]
        cut = np.empty((len(places), steps + framed, *like.shape[1:]), like.dtype)
        for out, (part, row), start, count in zip(cut, places, starts, recorded, strict=True):
            end = int(count) + framed
            part.arrays[name].read(part.first(row, framed) + int(start), out[:end])
            out[end:] = out[end - 1] if framed else 0
        return cut

    def padded(
        self, episodes: Int[np.ndarray, " k"] | None = None, steps: int | None = None
    ) -> Batch:
        """Whole episodes in memory, as long as the longest of them.

        Args:
            episodes: Which; by default all.
            steps: How many to keep of each, from the first on; by default all.
        """
        chosen = np.arange(len(self)) if episodes is None else np.asarray(episodes, np.int64)
        longest = int(self.lengths[chosen].max(initial=0))
        steps = longest if steps is None else min(steps, longest)
        return self.windows(chosen, np.zeros_like(chosen), steps)

    def window(self, start: int, steps: int) -> Batch:
        """Steps ``start`` to ``start + steps`` of every episode, padded.

        Raises:
            ShapeError: The window reaches beyond the longest episode.
        """
        if start < 0 or start + steps > self.steps:
            raise ShapeError(
                f"window [{start}, {start + steps}] lies outside episodes of {self.steps} steps"
            )
        return self.padded(steps=start + steps).window(start, steps)

    def sample(
        self,
        steps: int = SAMPLED_STEPS,
        frames: int = SAMPLED_FRAMES,
        nbytes: int = SAMPLED_BYTES,
        seed: int = 0,
    ) -> Batch:
        """As many episodes as may be held in memory: all of them, or some drawn at random.

        Args:
            steps: To keep of each, from the first on.
            frames: Most frames, those of padding included.
            nbytes: Most bytes.
            seed: Of the draw. Those that are drawn stay in their order.
        """
        lengths = np.minimum(self.lengths, steps)
        most = min(frames, nbytes // max(self.width(), 1))
        order = np.random.default_rng(seed).permutation(len(self))
        if (lengths.max(initial=0) + 1) * len(self) <= most:
            return self.padded(steps=steps)
        taken = np.maximum.accumulate(lengths[order]) + 1
        fitting = int((taken * np.arange(1, len(self) + 1) <= most).sum())
        # One at least, if only the beginning of it.
        limit = steps if fitting else max(int(most) - 1, 1)
        return self.padded(np.sort(order[: max(fitting, 1)]), limit)

    def followed(self) -> Batch:
        """A larger sample, for a filter, which looks at one frame of each episode at a time."""
        return self.sample(nbytes=FOLLOWED_BYTES)

    def pieces(self, name: str, rows: int) -> Iterator[np.ndarray]:
        """An array of all episodes, one after the other, up to so many rows at a time."""
        for part in self.parts:
            array = part.arrays[name]
            for first in range(0, array.shape[0], rows):
                out = np.empty((min(rows, array.shape[0] - first), *array.shape[1:]), array.dtype)
                array.read(first, out)
                yield out

    def observed(self, rows: int) -> Iterator[Observations]:
        """Observations of all episodes, one after the other, up to so many at a time."""
        names = self.space.names
        streams = (self.pieces(f"observations.{name}", rows) for name in names)
        for pieces in zip(*streams, strict=True):
            tensors = [torch.from_numpy(piece) for piece in pieces]
            yield from_streams(dict(zip(names, tensors, strict=True)), 1)

    def verify(self, what: str) -> None:
        """Read everything, and compare it with what was hashed when it was written.

        Raises:
            FileFormatError: An episode is not what it was; the message begins with ``what``.
        """
        for i in range(len(self)):
            part, row = self._place(i)
            if digest(part.rows(row)) != part.digests[row].tobytes():
                raise FileFormatError(f"{what}: episode {i} is not what was written")

    @property
    def mask(self) -> Tensor:
        """(B, T) bool: True where a step was recorded."""
        return torch.from_numpy(np.arange(self.steps) < self.lengths[:, None])

    @property
    def frame_mask(self) -> Tensor:
        """(B, T + 1) bool: True on recorded observations, False on padding and where unseen."""
        if "seen" not in self.names:
            return self.span
        places = [self._place(i) for i in range(len(self))]
        seen = self._cut("seen", places, np.zeros_like(self.lengths), self.lengths, self.steps)
        return self.span & torch.from_numpy(seen)

    @property
    def span(self) -> Tensor:
        """(B, T + 1) bool: True up to the last frame of each episode, seen or not."""
        return torch.from_numpy(np.arange(self.steps + 1) <= self.lengths[:, None])

    @cached_property
    def has_gaps(self) -> bool:
        """Whether any episode went on unobserved for a while."""
        return "seen" in self.names and not all(
            piece.all() for piece in self.pieces("seen", _FLAGS)
        )

    def seen_before(
        self, episodes: Int[np.ndarray, " k"], frames: Int[np.ndarray, " k"]
    ) -> Int[np.ndarray, " k"]:
        """The last frame up to each of those given that was seen; itself, if it was."""
        found = np.array(frames)
        for i, (episode, frame) in enumerate(zip(episodes, frames, strict=True)):
            part, row = self._place(int(episode))
            first = part.first(row, True)
            found[i] -= part.arrays["seen"].view(first, first + int(frame) + 1)[::-1].argmax()
        return found

    @property
    def observations(self) -> Observations:
        """(B, T + 1, *obs) by stream; loads everything."""
        return self.padded().observations

    @property
    def actions(self) -> Tensor:
        """(B, T, act); loads everything."""
        return self.padded().actions

    @property
    def rewards(self) -> Tensor | None:
        """(B, T), or None; loads everything."""
        return self.padded().rewards

    @property
    def terminated(self) -> Tensor:
        """(B, T); loads everything."""
        return self.padded().terminated

    @property
    def states(self) -> Tensor | None:
        """(B, T + 1, n), or None; loads everything."""
        return self.padded().states if "states" in self.names else None

    def _repr_html_(self) -> str:
        counts = [(f"{len(self):,}", f"{self.steps:,}", f"{self.frames:,}")]
        table = html.table(("episodes", "longest", "frames"), counts)
        return table + self[:3].strip(self.space.streams)


def _with_gaps(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same without "seen" if all was."""
    return {name: array for name, array in arrays.items() if name != "seen" or not array.all()}


def to_batch(arrays: Mapping[str, np.ndarray], space: ObservationSpace) -> Batch:
    """A batch of padded arrays by the names of ``Part``, and "mask"."""
    tensors = {name: torch.from_numpy(array) for name, array in _with_gaps(arrays).items()}
    streams = {name: tensors.pop(f"observations.{name}") for name in space.names}
    return Batch(from_streams(streams, 2), **{"rewards": None, **tensors})


def lengths_of(batch: Batch) -> Int[np.ndarray, " n"]:
    """Steps of each episode of a batch.

    Raises:
        SpecError: A step was not recorded and one after it was.
    """
    mask = batch.mask.cpu().numpy()
    if (mask[:, 1:] & ~mask[:, :-1]).any():
        raise SpecError("mask must be True up to the end of an episode and False from there on")
    return mask.sum(1)


def flat_arrays(batch: Batch, space: ObservationSpace) -> dict[str, np.ndarray]:
    """The arrays of a batch by the names of ``Part``, one episode after the other.

    Raises:
        SpecError: Its streams are not those of ``space``.
    """
    found: dict[str, Tensor] = {}
    for name, value in batch.items():
        if name != "observations":
            found[name] = value
        elif isinstance(value, Tensor):
            found[f"observations.{space.names[0]}"] = value
        else:
            found |= {f"observations.{stream}": part for stream, part in value.items()}
    streams = {name for name in found if name.startswith("observations.")}
    if streams != {f"observations.{name}" for name in space.names}:
        raise SpecError(f"there are the arrays {', '.join(found)}; expected {space.names}")
    frames, steps = batch.span, found.pop("mask")
    return {
        name: value[frames if is_framed(name) else steps].cpu().numpy()
        for name, value in found.items()
    }
