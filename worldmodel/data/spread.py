"""Rows from all over a split, where all of them are too many.

Of pictures that change little while an episode lasts, as many of a few whole episodes tell much
less: what stands elsewhere in each would be known from those alone.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int, Shaped

from worldmodel.data.episodes import SAMPLED_BYTES, SAMPLED_FRAMES, Episodes
from worldmodel.data.parts import is_framed
from worldmodel.types import Observations, from_streams


def spread_frames(
    episodes: Episodes, frames: int = SAMPLED_FRAMES, nbytes: int = SAMPLED_BYTES
) -> tuple[Observations, list[int]]:
    """Frames that were seen, and how many of each episode that has any.

    Args:
        episodes: The split.
        frames: At most.
        nbytes: At most, with what else there is of as many steps.
    """
    limits = frames, nbytes
    streams = {n: spread_rows(episodes, f"observations.{n}", *limits) for n in episodes.space.names}
    episode = next(iter(streams.values()))[1]
    seen = np.ones(len(episode), bool)
    if "seen" in episodes.names:
        seen, _ = spread_rows(episodes, "seen", *limits)
    found = {name: torch.from_numpy(rows[seen]) for name, (rows, _) in streams.items()}
    return from_streams(found, 1), [n for n in np.bincount(episode[seen]).tolist() if n]


def spread_rows(
    episodes: Episodes, name: str, frames: int = SAMPLED_FRAMES, nbytes: int = SAMPLED_BYTES
) -> tuple[Shaped[np.ndarray, "n ..."], Int[np.ndarray, " n"]]:
    """Every row of an array, or every so manieth, and of which episode each is.

    Args:
        episodes: The split.
        name: Of the array.
        frames: See ``spread_frames``; of the same, frames and steps are as far apart.
        nbytes: Likewise.
    """
    most = max(1, min(frames, nbytes // max(episodes.width(), 1)))
    every = max(1, -(-episodes.frames // most))
    like, before, found = episodes.parts[0].arrays[name], 0, []
    for part in episodes.parts:
        array = part.arrays[name]
        rows = range(-before % every, array.shape[0], every)
        out = np.empty((len(rows), *like.shape[1:]), like.dtype)
        if every == 1:
            array.read(0, out)
        else:
            for k, row in enumerate(rows):
                array.read(row, out[k : k + 1])
        found.append(out)
        before += array.shape[0]
    ends = np.cumsum(episodes.lengths + is_framed(name))
    return np.concatenate(found), np.searchsorted(ends, np.arange(0, before, every), "right")
