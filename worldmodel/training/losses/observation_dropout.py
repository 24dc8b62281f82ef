"""Observation dropout: which frames the recognition network may look at.

In a random fraction of the sequences, from a random step on, the process noise is drawn without a
look at the frames instead of being inferred: from its prior, at no KL cost, or more narrowly, at a
constant one. The posterior that results is still a distribution over the noise given the frames,
and *any* such distribution gives a lower bound on ln p(x), so the objective stays a bound. What it
changes is who answers for the later frames: not the recognition network, which could overwrite
every state, but the transition.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor


def observation_dropout(
    size: int, frames: int, fraction: float, generator: torch.Generator
) -> Bool[Tensor, "size frames"]:
    """Draw which frames are observed.

    Args:
        size: Number of sequences.
        frames: Frames per sequence, T + 1.
        fraction: Probability that a sequence is cut, in [0, 1].
        generator: Source of the draws.

    Returns:
        True where the noise is inferred from the frame. The first frame always is; a cut sequence
        is True before its cut, which is uniform over frames 1 to T.
    """
    device = generator.device
    cut = torch.randint(1, max(frames, 2), (size,), generator=generator, device=device)
    keep = torch.rand(size, generator=generator, device=device) >= fraction
    cut[keep] = frames
    return torch.arange(frames, device=device) < cut.unsqueeze(1)
