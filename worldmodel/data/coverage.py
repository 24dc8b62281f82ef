"""Whether what is held out looks like what is learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from worldmodel.data.episodes import Episodes
from worldmodel.data.windows import described
from worldmodel.spaces import Stream
from worldmodel.types import Batch, to_numpy

_KNOWN, _ASKED = 2000, 1000  # frames that are compared
_USUAL = 0.95  # of the training frames are as near to another episode's as what is called covered


@dataclass(frozen=True)
class Map:
    """Frames of a sample in the plane of their two largest principal components.

    Attributes:
        points: (n, 2) by split.
        covered: By split but the first, the fraction of frames that lie as near to one of the
            first split's as 95 % of that split's own lie to a frame of another episode.
    """

    points: Mapping[str, Float[np.ndarray, "_ 2"]]
    covered: Mapping[str, float]


def coverage(splits: Mapping[str, Episodes], streams: tuple[Stream, ...]) -> Map | None:
    """Compare a sample of what is observed; None of fewer than three frames.

    Args:
        splits: By name, that which is learned from first.
        streams: That are observed.
    """
    rng = np.random.default_rng(0)
    first, *others = splits
    batches = [episodes.sample() for episodes in splits.values()]
    chosen = [_chosen(b, _KNOWN if i == 0 else _ASKED, rng) for i, b in enumerate(batches)]
    frames = _numbers(batches, chosen, streams)
    parts = np.split(frames, np.cumsum([len(episode) for episode, _ in chosen])[:-1])
    drawn, of = dict(zip(splits, parts, strict=True)), chosen[0][0]
    known = drawn[first]
    if len(known) < 3:
        return None
    mean = known.mean(0)
    axes = np.linalg.svd(known - mean, full_matrices=False)[2][:2]
    points = {}
    for name, seen in drawn.items():
        plane = (seen - mean) @ axes.T
        points[name] = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    usual = _nearest(known, known, of[:, None] == of)
    if not np.isfinite(usual).any():
        return Map(points, {})
    limit = np.quantile(usual[np.isfinite(usual)], _USUAL)
    covered = {name: float((_nearest(drawn[name], known) <= limit).mean()) for name in others}
    return Map(points, covered)


Places = tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]


def _chosen(batch: Batch, most: int, rng: np.random.Generator) -> Places:
    """Episode and time of some recorded frames."""
    episode, time = np.nonzero(batch.frame_mask.cpu().numpy())
    rows = rng.permutation(len(episode))[:most]
    return episode[rows], time[rows]


def _numbers(
    batches: Sequence[Batch], chosen: Sequence[Places], streams: tuple[Stream, ...]
) -> Float[np.ndarray, "n f"]:
    """Frames as numbers; every stream counts alike."""
    parts = []
    for stream in streams:
        found = []
        for batch, places in zip(batches, chosen, strict=True):
            seen = to_numpy(batch.observations)
            found.append((seen if len(streams) == 1 else seen[stream.name])[places])
        values = described(stream, np.concatenate(found)[:, np.newaxis])[-1]
        flat = values.reshape(len(values), -1)
        parts.append(flat / (np.sqrt(flat.var(0).sum()) or 1.0))
    return np.concatenate(parts, 1)


def _nearest(
    asked: Float[np.ndarray, "n f"],
    known: Float[np.ndarray, "k f"],
    excluded: np.ndarray | None = None,
) -> Float[np.ndarray, " n"]:
    """Squared distance to the nearest that is not excluded; infinite if there is none."""
    squared = np.square(asked).sum(1)[:, None] + np.square(known).sum(1) - 2 * asked @ known.T
    squared = np.maximum(squared, 0)
    return (squared if excluded is None else np.where(excluded, np.inf, squared)).min(1)
