"""What is in a dataset, in numbers; read piece by piece, or off a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from worldmodel.data.coverage import Map, coverage
from worldmodel.data.dataset import Dataset
from worldmodel.data.episodes import Episodes
from worldmodel.data.findings import findings
from worldmodel.data.sampling import INTERVALS, Sampling, sampling
from worldmodel.spaces import Stream
from worldmodel.spaces.stream import listed

_ROWS = 100_000  # that are read at a time
_BINS = 20
_CHOICES = 40  # up to so many whole numbers have a bin each


@dataclass(frozen=True)
class Split:
    """What a split holds.

    Attributes:
        episodes: How many.
        steps: Of the shortest, the median and the longest.
        frames: Recorded observations.
        unseen: Of them those that are masked: the episode went on unobserved.
        terminated: Episodes that ended by themselves.
        truncated: Episodes that were cut off; None where that was not recorded.
        actors: Episodes by who acted, as far as that is known.
    """

    episodes: int
    steps: tuple[int, int, int]
    frames: int
    unseen: int
    terminated: int
    truncated: int | None
    actors: Mapping[str, int]


@dataclass(frozen=True)
class Histogram:
    """How often numbers occur.

    Attributes:
        name: Of what.
        edges: (n + 1,) of the bins.
        counts: (n,) by split.
        mean: Of all.
        std: Of all.
        used: Fraction of the bins between the bounds that there are numbers in; None where no
            bounds are declared.
    """

    name: str
    edges: Float[np.ndarray, " edges"]
    counts: Mapping[str, Int[np.ndarray, " bins"]]
    mean: float
    std: float
    used: float | None = None

    @property
    def constant(self) -> bool:
        """Whether all are equal."""
        return self.std == 0


@dataclass(frozen=True)
class Summary:
    """All of it.

    Attributes:
        splits: By name.
        components: Of the streams of numbers, a histogram of each component.
        actions: A histogram of each control.
        rewards: None where some or all have none.
        sampling: How regular the time stamps are; None where there are none.
        space: Where the frames lie; None of fewer than three.
        suspicious: A sentence each.
    """

    splits: Mapping[str, Split]
    components: list[Histogram]
    actions: list[Histogram]
    rewards: Histogram | None
    sampling: Sampling | None
    space: Map | None
    suspicious: list[str]


def summarise(dataset: Dataset, window: int, controlled: bool = True) -> Summary:
    """Look through a dataset; memory does not depend on its size.

    Args:
        dataset: Which.
        window: Steps of a window that a model would be trained on.
        controlled: Whether actions should have an effect.
    """
    names = sorted(dataset.splits, key=lambda name: name != "train")
    splits = {name: dataset.split(name) for name in names}
    seen, acted = dataset.observation_spec, dataset.action_spec
    components = [
        histogram
        for stream in seen.plotted
        for histogram in _histograms(splits, f"observations.{stream.name}", _Column.of(stream))
    ]
    actions = [
        histogram
        for part, columns in zip(acted.parts, _columns(acted.parts), strict=True)
        for histogram in _histograms(splits, "actions", _Column.of(part, columns))
    ]
    unpaid, rewards = [name for name, s in splits.items() if "rewards" not in s.names], None
    if not unpaid:
        rewards = next(_histograms(splits, "rewards", _REWARD))
    counts = {name: _split(episodes) for name, episodes in splits.items()}
    measured, space = _sampling(splits.values()), coverage(splits, seen.streams)
    told = [
        *findings(dataset, controlled),
        *_of_time(measured),
        *_of_missing_rewards(unpaid),
        *_of_ends(counts),
        *_of_lengths(counts, window),
    ]
    return Summary(counts, components, actions, rewards, measured, space, told)


def _split(episodes: Episodes) -> Split:
    lengths = episodes.lengths
    steps = (int(lengths.min()), int(np.median(lengths)), int(lengths.max()))
    actors: Counter[str] = Counter()
    for part in episodes.parts:
        for count, told in part.told:
            actors[told.get("actor", "")] += count
    cut = _true(episodes, "truncated") if "truncated" in episodes.names else None
    ended = _true(episodes, "terminated")
    known = {name: count for name, count in actors.items() if name}
    seen = _true(episodes, "seen") if "seen" in episodes.names else episodes.frames
    unseen = episodes.frames - seen
    return Split(len(episodes), steps, episodes.frames, unseen, ended, cut, known)


def _sampling(splits: Iterable[Episodes]) -> Sampling | None:
    """Of the intervals within episodes."""
    found, count = [], 0
    for part in (part for episodes in splits for part in episodes.parts):
        if "timestamps" not in part.arrays or count >= INTERVALS:
            continue
        array = part.arrays["timestamps"]
        borders = np.cumsum(part.lengths + 1)[:-1] - 1
        found.append(np.delete(np.diff(array.view(0, array.shape[0])), borders))
        count += len(found[-1])
    return sampling(np.concatenate(found)) if count else None


def _true(episodes: Episodes, name: str) -> int:
    return sum(int(piece.sum()) for piece in episodes.pieces(name, _ROWS))


@dataclass(frozen=True)
class _Column:
    """Numbers that an array holds.

    Attributes:
        names: Of each.
        low: Declared bounds, or infinities.
        high: Likewise.
        floating: Whether they are of a Box of floats.
        read: From rows of the array to the numbers, (rows, n).
    """

    names: Sequence[str]
    low: np.ndarray
    high: np.ndarray
    floating: bool
    read: Callable[[np.ndarray], np.ndarray]

    @classmethod
    def of(cls, stream: Stream, controls: slice | None = None) -> _Column:
        """Of what is no picture; of an action, the columns that its controls are in."""

        def read(rows: np.ndarray) -> np.ndarray:
            values = rows if controls is None else stream.decode(rows[:, controls])
            return stream.lines(values).reshape(len(rows), -1)

        low, high = (bound.astype(np.float64).ravel() for bound in stream.leaf.bounds)
        names = [stream.name] if len(low) == 1 else [f"{stream.name}[{i}]" for i in range(len(low))]
        return cls(names, low, high, stream.leaf.floating, read)


_REWARD = _Column(
    ["reward"], np.array([-np.inf]), np.array([np.inf]), True, lambda rows: rows[:, np.newaxis]
)


def _columns(parts: Sequence[Stream]) -> list[slice]:
    ends = np.cumsum([0, *(part.size for part in parts)])
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


def _histograms(splits: Mapping[str, Episodes], field: str, column: _Column) -> Iterator[Histogram]:
    """In two readings: where the numbers lie, and how often."""
    size = len(column.names)

    def pieces(episodes: Episodes) -> Iterator[np.ndarray]:
        for piece in episodes.pieces(field, max(1, _ROWS // max(size, 1))):
            yield column.read(piece).astype(np.float64)

    least, most = np.full(size, np.inf), np.full(size, -np.inf)
    count, total, whole = 0, np.zeros(size), np.ones(size, np.bool_)
    for episodes in splits.values():
        for piece in pieces(episodes):
            least, most = np.fmin(least, piece.min(0)), np.fmax(most, piece.max(0))
            count, total = count + len(piece), total + piece.sum(0)
            whole &= (piece == np.rint(piece)).all(0)
    mean, squares = total / max(count, 1), np.zeros(size)
    bounded = np.isfinite(column.low) & np.isfinite(column.high)
    whole &= ~(bounded & column.floating)
    ends = zip(least, most, column.low, column.high, whole.tolist(), strict=True)
    edges = [_edges(*each) for each in ends]
    counts = {name: [np.zeros(len(e) - 1, np.int64) for e in edges] for name in splits}
    for name, episodes in splits.items():
        for piece in pieces(episodes):
            squares += np.square(piece - mean).sum(0)
            for i, into in enumerate(counts[name]):
                into += np.histogram(piece[:, i], edges[i])[0]
    std = np.where(least == most, 0.0, np.sqrt(squares / max(count, 1)))
    for i, name in enumerate(column.names):
        found = {split: of[i] for split, of in counts.items()}
        occupied = np.sum([of > 0 for of in found.values()], 0) > 0
        used = float(occupied.mean()) if bounded[i] else None
        yield Histogram(name, edges[i], found, float(mean[i]), float(std[i]), used)


def _edges(least: float, most: float, low: float, high: float, whole: bool) -> np.ndarray:
    """Of bins between declared bounds, or else between the least and the largest number."""
    first = low if np.isfinite(low) and np.isfinite(high) else least
    last = high if np.isfinite(low) and np.isfinite(high) else most
    first, last = min(first, least), max(last, most)
    if whole and last - first <= _CHOICES:
        return np.arange(np.floor(first), np.ceil(last) + 2) - 0.5
    if not last > first:
        return np.array([first - 0.5, first + 0.5])
    return np.linspace(first, last, _BINS + 1)


def _of_time(measured: Sampling | None) -> Iterator[str]:
    if measured is not None and not measured.regular:
        yield f"{measured.describe()}: {measured.advice()} (worldmodel import)"


def _of_missing_rewards(unpaid: Sequence[str]) -> Iterator[str]:
    if unpaid:
        yield (
            f"no rewards were recorded in {listed(unpaid)}: a model of it foretells none, and "
            "agents need a goal instead (worldmodel agent --goal)"
        )


def _of_ends(splits: Mapping[str, Split]) -> Iterator[str]:
    if not any(split.terminated for split in splits.values()):
        yield (
            "no episode ever ends by itself (terminated is never true): a dream of it has no end "
            "either; if the system has ends, say where they are"
        )


def _of_lengths(splits: Mapping[str, Split], window: int) -> Iterator[str]:
    train = splits.get("train")
    if train is None:
        yield f"there is no split 'train' to learn from, only {', '.join(splits)}"
        return
    window = min(window, train.steps[2])
    for name in ("validation", "test"):
        if name not in splits:
            yield f"there is no split {name!r}; 'worldmodel train' and 'evaluate' ask for it"
        elif splits[name].steps[2] < window:
            yield (
                f"the longest episode of {name} has {splits[name].steps[2]} steps, the windows "
                f"that are trained on {window}: predictions will be judged over less than what is "
                "learned; hold longer episodes out"
            )
