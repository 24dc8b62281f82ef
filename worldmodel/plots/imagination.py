"""What was, what the filter believed, and what the model imagines alone, of the same episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Shaped, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from worldmodel import html
from worldmodel.data import Episodes
from worldmodel.errors import ShapeError
from worldmodel.plots.style import SEQUENTIAL
from worldmodel.spaces import ObservationSpace, Stream
from worldmodel.types import Batch, to_numpy
from worldmodel.world.artist import Artist
from worldmodel.world.world import World

# Up to the maximum of the standard deviation of a brightness in [0, 1].
STD_COLOURS = ScalarMappable(Normalize(0.0, 0.5), SEQUENTIAL)
_STD_STEPS = 100  # of 1; finer ones are noise, which makes films large
_SHOWN_EPISODES, _LIMIT = 3, 150_000  # in a notebook; bytes
_SHOWN_DREAMS = 2  # of the noisy ones; their standard deviation tells of all


@dataclass(frozen=True, repr=False)
class Imagination:
    """Episodes as they were and as the model has them; observations as they are recorded.

    Attributes:
        real: What was recorded, by stream.
        filtered: What the filter makes of each frame, having seen it.
        imagined: Filtered for the first ``looked`` frames, from then on open loop without noise,
            under the actions that were recorded.
        dreams: Likewise, each from a sample of the last filtered belief and with process noise of
            its own; there may be none.
        looked: Leading frames that were filtered; the rest is open loop.
        recorded: False past the end of an episode.
        artist: Makes pictures of observations.
    """

    real: Mapping[str, Shaped[np.ndarray, "episodes frames ..."]]
    filtered: Mapping[str, Shaped[np.ndarray, "episodes frames ..."]]
    imagined: Mapping[str, Shaped[np.ndarray, "episodes frames ..."]]
    dreams: Mapping[str, Shaped[np.ndarray, "dreams episodes frames ..."]]
    looked: int
    recorded: Bool[np.ndarray, "episodes frames"]
    artist: Artist

    @property
    def space(self) -> ObservationSpace:
        """What is observed."""
        return self.artist.space

    @property
    def takes(self) -> dict[str, Mapping[str, Shaped[np.ndarray, "episodes frames ..."]]]:
        """By title, without the noisy dreams."""
        return {"real": self.real, "filtered": self.filtered, "imagined": self.imagined}

    @property
    def noisy(self) -> int:
        """Number of dreams with noise."""
        return len(next(iter(self.dreams.values())))

    def __repr__(self) -> str:
        episodes, frames = self.recorded.shape
        shown = f"{episodes} episodes of {frames} frames, {self.looked} of them filtered"
        return f"Imagination({shown}, {self.noisy} noisy dreams)"

    def _repr_html_(self) -> str:
        films = {title: film[:_SHOWN_EPISODES] for title, film in pictures(self).items()}
        frames = np.stack(list(films.values()), 1)
        film = np.stack([html.tiles(frames[:, :, t]) for t in range(frames.shape[2])])
        titles = html.titles(list(films), film.shape[2] // len(films))
        text = f"open loop after frame {self.looked}"
        return titles + html.film(film, 10.0, text, _LIMIT) + f"<br>{text}"


@torch.no_grad()
def imagine(
    world: World, batch: Batch | Episodes, looked: int = 15, dreams: int = 0, seed: int = 0
) -> Imagination:
    """Filter episodes, and imagine how they go on, open loop.

    Args:
        world: Of any model.
        batch: Recorded episodes; of a whole split all are imagined.
        looked: Leading frames that the imagination is filtered from, at least 1.
        dreams: How many noisy ones to add.
        seed: Of their noise.

    Raises:
        ShapeError: There are not more than ``looked`` frames, or ``looked`` is less than 1.
    """
    model, frames = world.model, int(batch.span.sum(1).max())
    if not 1 <= looked < frames:
        raise ShapeError(
            f"from {frames} frames, 1 to {frames - 1} can be filtered before the model imagines "
            f"the rest; asked for {looked}"
        )
    batch = batch.window(0, frames - 1).to(model.device)
    beliefs = model.filter_beliefs(batch.observations, batch.actions, 1, batch.seen)
    start, scale = beliefs.mean[:, looked - 1], beliefs.scale[:, looked - 1]
    controls = batch.actions[:, looked - 1 :]
    past = beliefs.mean[:, :looked]
    alone = torch.cat([past, world.rollout(start, controls)[:, 1:]], 1)
    generator = torch.Generator(model.device).manual_seed(seed)
    noise = torch.randn(
        (dreams, *start.shape), generator=generator, device=model.device, dtype=model.dtype
    )
    noisy = world.rollout(
        (start + scale * noise).flatten(0, 1), controls.repeat(dreams, 1, 1), generator
    )[:, 1:].unflatten(0, (dreams, len(batch)))
    noisy = torch.cat([past.expand(dreams, *past.shape), noisy], 2)
    artist = Artist(world, beliefs.mean[batch.frame_mask].cpu().numpy())
    states = torch.cat([torch.stack([beliefs.mean, alone]), noisy])
    seen = artist.named(world.decode(states.cpu().numpy()))
    filtered, imagined, drawn = (
        {name: frames[which] for name, frames in seen.items()} for which in (0, 1, slice(2, None))
    )
    real, recorded = artist.named(to_numpy(batch.observations)), batch.span.cpu().numpy()
    return Imagination(real, filtered, imagined, drawn, looked, recorded, artist)


def pictures(
    shown: Imagination, streams: Sequence[Stream] = ()
) -> dict[str, UInt8[np.ndarray, "episodes frames h w 3"]]:
    """RGB frames to show beside each other, by title; black past the end of an episode.

    Besides what was, was filtered and was imagined these are, if there are noisy dreams, two of
    them and the standard deviation of all: dark where all agree, bright where that of what they
    look like is half of full brightness, the maximum.

    Args:
        shown: What to draw.
        streams: Which ones; by default all, side by side.
    """
    names = [stream.name for stream in streams or shown.space.streams]

    def draw(take: Mapping[str, np.ndarray]) -> UInt8[np.ndarray, "*lead frames h w 3"]:
        return shown.artist({name: take[name] for name in names})

    films = {title: draw(take) for title, take in shown.takes.items()}
    if shown.noisy:
        dreams = draw(shown.dreams)
        for i, film in enumerate(dreams[:_SHOWN_DREAMS]):
            films[f"dream {i + 1}"] = film
        std = dreams.mean(-1, dtype=np.float32).std(0) / np.float32(255)
        steps = np.round(_STD_STEPS * std) / _STD_STEPS
        rgba = np.asarray(STD_COLOURS.to_rgba(steps.ravel(), bytes=True))
        films[f"std of {shown.noisy}"] = rgba[:, :3].reshape(*steps.shape, 3)
    ended = ~shown.recorded
    for title, film in films.items():
        colour = film.copy()
        colour[ended] = 0
        films[title] = colour
    return films
