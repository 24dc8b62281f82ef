"""Where imagined episodes begin: at what the filter believed along recorded ones."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.types import Batch, Belief
from worldmodel.world.world import World

# Recorded episodes that are filtered at a time.
_AT_ONCE = 256


def recorded_beliefs(world: World, episodes: Batch, prefix: int = 1) -> Belief:
    """Beliefs (n, latent) at all recorded frames after which an episode went on.

    Args:
        world: Whose filter looks.
        episodes: As they were recorded.
        prefix: Leading frames that first beliefs are read from; 1 is a live cold start.
    """
    means, scales = [], []
    for part in episodes.parts(_AT_ONCE):
        part = part.to(world.model.device)
        beliefs = world.model.filter_beliefs(part.observations, part.actions, prefix, part.seen)
        kept = part.mask & part.frame_mask[:, :-1]
        means.append(beliefs.mean[:, :-1][kept])
        scales.append(beliefs.scale[:, :-1][kept])
    return Belief(torch.cat(means), torch.cat(scales))


def known_states(world: World) -> Belief:
    """The same of the states that the support remembers of the training data."""
    states = world.support.states
    return Belief(states, torch.zeros_like(states))


def sample_states(beliefs: Belief, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
    """States drawn from beliefs that are drawn alike."""
    device = beliefs.mean.device
    rows = torch.randint(len(beliefs.mean), (n,), generator=generator, device=device)
    noise = torch.randn(n, beliefs.mean.shape[1], generator=generator, device=device)
    return beliefs.mean[rows] + beliefs.scale[rows] * noise
