"""Training sequences: random windows of random episodes, of memory or of a dataset's files."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from worldmodel.data import Episodes
from worldmodel.draws import own_rows
from worldmodel.models.learned import LearnedModel
from worldmodel.types import Batch, Observations, ScaledBatch, from_streams

# Bytes that may be kept in memory of what is learned from; beyond, it is read as it is drawn.
HELD = 256_000_000
_ROWS = 1024  # frames that are scaled at a time
# Windows to validate on where episodes are longer than one; and the most bytes of them.
_VALIDATED, VALIDATED_BYTES = 100, 64_000_000
GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it, modulo 1, are spread evenly however many


def spread_windows(episodes: Episodes, steps: int) -> Batch:
    """Windows to validate on: of all episodes, and of all of their length.

    The beginnings alone would not tell: where episodes begin alike, they are the easiest part.

    Args:
        episodes: Of a split.
        steps: Of each window, or as many as the longest episode has.
    """
    steps = min(steps, episodes.steps)
    slack = np.maximum(episodes.lengths - steps, 0)
    each = math.ceil(_VALIDATED / len(episodes)) if slack.any() else 1
    chosen = np.arange(each * len(episodes))
    most = max(1, VALIDATED_BYTES // (episodes.frame_bytes * (steps + 1)))
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), most)).astype(int)]
    episode = chosen % len(episodes)
    start = np.round(slack[episode] * (chosen * GOLDEN % 1)).astype(int)
    if episodes.has_gaps:  # a window begins with a frame that was seen
        start = episodes.seen_before(episode, start)
    return episodes.windows(episode, start, steps, truth=False)


class Windows(ABC):
    """Draws windows of equal length, with replacement, each starting at a frame that was seen.

    Args:
        episodes: The split that they are of.
        device: Where they go.
        by_step: Whether every step is as likely to be seen, instead of every episode: where many
            short episodes came first, one long one would hardly ever be drawn. The end of an
            episode, which few windows reach, is seen half as often as any other of its steps.
    """

    def __init__(self, episodes: Episodes, device: torch.device, by_step: bool = False) -> None:
        self.lengths = torch.from_numpy(episodes.lengths).to(device)
        self._episodes, self._device, self._by_step = episodes, device, by_step

    @classmethod
    def of(
        cls, episodes: Episodes, model: LearnedModel, most: int = HELD, *, by_step: bool = False
    ) -> Windows:
        """Windows of a split, for a model that is calibrated.

        Frames are scaled once and for all if that makes them no larger. If they then fit into
        memory, they are kept there; else each window is read when it is drawn. The draws are the
        same.

        Args:
            episodes: The split.
            model: Whose ``terms`` takes the windows.
            most: Bytes that may be kept.
            by_step: As of the class.
        """
        first = episodes[:1]
        smaller = model.condenses(first.observations[:, 0])
        frames = model.codec.size * model.dtype.itemsize if smaller else episodes.frame_bytes
        beside = int(episodes.lengths.sum()) * (4 * first.actions.shape[2] + 8)
        if frames * episodes.frames + beside > most:
            return StoredWindows(episodes, model.device, by_step)
        return HeldWindows(_held(episodes, model, smaller), episodes, model.device, by_step)

    def draw(self, size: int, steps: int, generator: torch.Generator) -> Batch:
        """Draw windows; of those that several processes draw together, this one's.

        Args:
            size: How many, of all processes.
            steps: Length of each; the windows of shorter episodes are padded.
            generator: Source of the draws.
        """
        chosen = self._around_steps if self._by_step else self._of_episodes
        episode, start = (own_rows(each, generator) for each in chosen(size, steps, generator))
        if self._episodes.has_gaps:  # otherwise nothing would tell the first state
            rows = episode.cpu().numpy(), start.cpu().numpy()
            start = torch.from_numpy(self._episodes.seen_before(*rows)).to(episode.device)
        return self._cut(episode, start, steps)

    def _of_episodes(
        self, size: int, steps: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Episodes and first frames of windows of equally likely episodes."""
        device = generator.device
        episode = torch.randint(len(self.lengths), (size,), generator=generator, device=device)
        latest = (self.lengths[episode] - steps).clamp_min(0)
        uniform = torch.rand(size, generator=generator, device=device)
        return episode, (uniform * (latest + 1)).long().minimum(latest)

    def _around_steps(
        self, size: int, steps: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The same of windows that hold equally likely steps, anywhere within them."""
        ends, device = self.lengths.cumsum(0), generator.device
        step = torch.randint(int(ends[-1]), (size,), generator=generator, device=device)
        episode = torch.searchsorted(ends, step, right=True)
        place = step - (ends - self.lengths)[episode]
        before = torch.randint(steps, (size,), generator=generator, device=device)
        latest = (self.lengths[episode] - steps).clamp_min(0)
        return episode, (place - before).clamp_min(0).minimum(latest)

    @abstractmethod
    def _cut(self, episode: Tensor, start: Tensor, steps: int) -> Batch:
        """Stretches of ``steps`` steps of these episodes from these frames on."""


class StoredWindows(Windows):
    """Windows that are read when they are drawn."""

    def _cut(self, episode: Tensor, start: Tensor, steps: int) -> Batch:
        chosen, first = episode.cpu().numpy(), start.cpu().numpy()
        read = self._episodes.windows(chosen, first, steps, truth=False)
        if self._device.type == "cuda":  # sent while the host goes on
            read = read.pinned()
        return read.to(self._device)


class HeldWindows(Windows):
    """Windows of frames and steps that are in memory.

    Args:
        arrays: Of all episodes, one after the other: "observations", one by stream, "actions",
            "terminated" and perhaps "rewards" and "seen"; or, if the frames are scaled, "scaled" in
            place of the observations.
        episodes: The split that they are of.
        device: Where they are.
        by_step: As of the base class.
    """

    def __init__(
        self,
        arrays: Mapping[str, Observations],
        episodes: Episodes,
        device: torch.device,
        by_step: bool = False,
    ) -> None:
        super().__init__(episodes, device, by_step)
        self._arrays = dict(arrays)
        self._first = self.lengths.cumsum(0) - self.lengths

    def _cut(self, episode: Tensor, start: Tensor, steps: int) -> Batch:
        # In memory time comes first, as in the loop over steps.
        time = start + torch.arange(steps + 1, device=start.device).unsqueeze(1)
        length, first = self.lengths[episode], self._first[episode]
        frames = first + episode + time.minimum(length)
        mask = time[:-1] < length
        rows = first + time[:-1].minimum(length - 1)
        short = not mask.all()

        def cut(name: str, value: Observations) -> Observations:
            if not isinstance(value, Tensor):
                return from_streams({stream: cut(name, v) for stream, v in value.items()}, 2)
            framed = name in ("observations", "scaled", "seen")
            index = frames if framed else rows
            chosen = value.index_select(0, index.flatten()).unflatten(0, index.shape)
            if short and not framed:
                chosen = chosen.masked_fill(~mask.reshape(*mask.shape, *[1] * (value.ndim - 1)), 0)
            return chosen.transpose(0, 1)

        found = {name: cut(name, value) for name, value in self._arrays.items()}
        found = {"rewards": None, **found, "mask": mask.T}
        if "scaled" in found:
            return ScaledBatch(observations=found.pop("scaled"), **found)
        return Batch(**found)


@torch.no_grad()
def _held(episodes: Episodes, model: LearnedModel, scaled: bool) -> dict[str, Observations]:
    """The arrays of ``HeldWindows``."""

    def read(name: str) -> Tensor:
        pieces = [torch.from_numpy(piece) for piece in episodes.pieces(name, _ROWS)]
        return torch.cat(pieces).to(model.device)

    names = ["actions", "rewards", "terminated", *(["seen"] if episodes.has_gaps else [])]
    arrays: dict[str, Observations] = {name: read(name) for name in names if name in episodes.names}
    if scaled:
        frames = (seen.to(model.device) for seen in episodes.observed(_ROWS))
        return arrays | {"scaled": torch.cat([model.scale_observations(seen) for seen in frames])}
    streams = {name: read(f"observations.{name}") for name in episodes.space.names}
    return arrays | {"observations": from_streams(streams, 1)}
