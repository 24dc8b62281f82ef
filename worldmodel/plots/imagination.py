"""What was, what the filter believed, and what the model imagines alone, of the same episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from worldmodel import html
from worldmodel.errors import ShapeError, SpecError
from worldmodel.plots.style import SEQUENTIAL
from worldmodel.types import Batch
from worldmodel.world.world import World

# Up to the greatest standard deviation that a brightness in [0, 1] can have.
SPREAD_COLOURS = ScalarMappable(Normalize(0.0, 0.5), SEQUENTIAL)
_SPREAD_STEPS = 100  # of 1; finer ones are noise, which makes films large
_SHOWN_EPISODES, _LIMIT = 3, 150_000  # in a notebook; bytes
_SHOWN_DREAMS = 2  # of the noisy ones; the spread tells of all


@dataclass(frozen=True, repr=False)
class Imagination:
    """Episodes as they were and as the model has them; frames as the environment gives them.

    Attributes:
        real: What was recorded.
        filtered: What the filter makes of each frame, having seen it.
        imagined: Filtered for the first ``looked`` frames, from then on open loop without noise,
            under the actions that were recorded.
        dreams: Likewise, each from a sample of the last filtered belief and with process noise of
            its own; there may be none.
        looked: Leading frames after which nobody looked any more.
        recorded: False past the end of an episode.
    """

    real: Shaped[np.ndarray, "episodes frames *obs"]
    filtered: Shaped[np.ndarray, "episodes frames *obs"]
    imagined: Shaped[np.ndarray, "episodes frames *obs"]
    dreams: Shaped[np.ndarray, "dreams episodes frames *obs"]
    looked: int
    recorded: Bool[np.ndarray, "episodes frames"]

    @property
    def spread(self) -> Float[np.ndarray, "episodes frames *obs"]:
        """Standard deviation over the dreams; of pixels as a share of full brightness."""
        scale = 255.0 if self.dreams.dtype == np.uint8 else 1.0
        return self.dreams.std(0, dtype=np.float32) / np.float32(scale)

    def __repr__(self) -> str:
        episodes, frames = self.recorded.shape
        shown = f"{episodes} episodes of {frames} frames, {self.looked} of them looked at"
        return f"Imagination({shown}, {len(self.dreams)} noisy dreams)"

    def _repr_html_(self) -> str:
        if self.real.dtype != np.uint8:
            return html.table((), [(repr(self),)])
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
    return Imagination(
        batch.observations.cpu().numpy(),
        world.decode(beliefs.mean.cpu().numpy()),
        world.decode(alone.cpu().numpy()),
        world.decode(noisy.cpu().numpy()),
        looked,
        batch.frame_mask.cpu().numpy(),
    )


def pictures(shown: Imagination) -> dict[str, UInt8[np.ndarray, "episodes frames h w 3"]]:
    """RGB frames to show beside each other, by title; black past the end of an episode.

    Besides what was, was filtered and was imagined these are, if there are noisy dreams, two of
    them and the spread of all: dark where all agree, bright where their standard deviation is half
    of full brightness, the greatest there can be.

    Raises:
        SpecError: The model does not observe grey or RGB pixels.
    """
    if shown.real.dtype != np.uint8 or shown.real.ndim != 5 or shown.real.shape[-1] not in (1, 3):
        raise SpecError(
            "films and strips need a model of grey or RGB pixels; this one observes "
            f"{shown.real.dtype} {shown.real.shape[2:]}"
        )
    films = {"real": shown.real, "filtered": shown.filtered, "imagined": shown.imagined}
    if number := len(shown.dreams):
        for i, film in enumerate(shown.dreams[:_SHOWN_DREAMS]):
            films[f"dream {i + 1}"] = film
        steps = np.round(_SPREAD_STEPS * shown.spread.mean(-1)) / _SPREAD_STEPS
        rgba = np.asarray(SPREAD_COLOURS.to_rgba(steps.ravel(), bytes=True))
        films[f"spread of {number}"] = rgba[:, :3].reshape(*steps.shape, 3)
    ended = ~shown.recorded
    for title, film in films.items():
        colour = film.repeat(3 // film.shape[-1], -1)
        colour[ended] = 0
        films[title] = colour
    return films
