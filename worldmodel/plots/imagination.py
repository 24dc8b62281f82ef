"""What was, what the filter believed, and what the model imagines alone, of the same episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Shaped, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from worldmodel import html
from worldmodel.errors import ShapeError
from worldmodel.plots.style import SEQUENTIAL
from worldmodel.spaces import ObservationSpace
from worldmodel.types import Batch, to_numpy
from worldmodel.world.artist import Artist
from worldmodel.world.world import World

# Up to the greatest standard deviation that a brightness in [0, 1] can have.
SPREAD_COLOURS = ScalarMappable(Normalize(0.0, 0.5), SEQUENTIAL)
_SPREAD_STEPS = 100  # of 1; finer ones are noise, which makes films large
_SHOWN_EPISODES, _LIMIT = 3, 150_000  # in a notebook; bytes
_SHOWN_DREAMS = 2  # of the noisy ones; the spread tells of all


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
        looked: Leading frames after which nobody looked any more.
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
    def noisy(self) -> int:
        """Number of dreams with noise."""
        return len(next(iter(self.dreams.values())))

    def __repr__(self) -> str:
        episodes, frames = self.recorded.shape
        shown = f"{episodes} episodes of {frames} frames, {self.looked} of them looked at"
        return f"Imagination({shown}, {self.noisy} noisy dreams)"

    def _repr_html_(self) -> str:
        films = {title: film[:_SHOWN_EPISODES] for title, film in pictures(self).items()}
        frames = np.stack(list(films.values()), 1)
        film = np.stack([html.tiles(frames[:, :, t]) for t in range(frames.shape[2])])
        titles = html.titles(list(films), film.shape[2] // len(films))
        text = f"nobody looks after frame {self.looked}"
        return titles + html.film(film, 10.0, text, _LIMIT) + f"<br>{text}"


@torch.no_grad()
def imagine(
    world: World, batch: Batch, looked: int = 15, dreams: int = 0, seed: int = 0
) -> Imagination:
    """Filter episodes, and imagine them from where the model stops looking.

    Args:
        world: Of any model.
        batch: Recorded episodes.
        looked: Leading frames that the imagination is filtered from, at least 1.
        dreams: How many noisy ones to add.
        seed: Of their noise.

    Raises:
        ShapeError: There are not more than ``looked`` frames, or ``looked`` is less than 1.
    """
    model, frames = world.model, int(batch.frame_mask.sum(1).max())
    if not 1 <= looked < frames:
        raise ShapeError(
            f"from {frames} frames, 1 to {frames - 1} can be looked at before the model imagines "
            f"the rest; asked for {looked}"
        )
    batch = batch.window(0, frames - 1).to(model.device)
    beliefs = model.filter_beliefs(batch.observations, batch.actions, prefix=1)
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
    filtered, imagined, drawn = (
        artist.named(world.decode(z.cpu().numpy())) for z in (beliefs.mean, alone, noisy)
    )
    real, recorded = artist.named(to_numpy(batch.observations)), batch.frame_mask.cpu().numpy()
    return Imagination(real, filtered, imagined, drawn, looked, recorded, artist)


def pictures(shown: Imagination) -> dict[str, UInt8[np.ndarray, "episodes frames h w 3"]]:
    """RGB frames to show beside each other, by title; black past the end of an episode.

    Besides what was, was filtered and was imagined these are, if there are noisy dreams, two of
    them and the spread of all: dark where all agree, bright where the standard deviation of what
    they look like is half of full brightness, the greatest there can be.
    """
    draw = shown.artist
    films = {"real": draw(shown.real), "filtered": draw(shown.filtered)}
    films["imagined"] = draw(shown.imagined)
    if shown.noisy:
        dreams = draw(shown.dreams)
        for i, film in enumerate(dreams[:_SHOWN_DREAMS]):
            films[f"dream {i + 1}"] = film
        spread = dreams.mean(-1, dtype=np.float32).std(0) / np.float32(255)
        steps = np.round(_SPREAD_STEPS * spread) / _SPREAD_STEPS
        rgba = np.asarray(SPREAD_COLOURS.to_rgba(steps.ravel(), bytes=True))
        films[f"spread of {shown.noisy}"] = rgba[:, :3].reshape(*steps.shape, 3)
    ended = ~shown.recorded
    for title, film in films.items():
        colour = film.copy()
        colour[ended] = 0
        films[title] = colour
    return films
