"""Random numbers of one batch that several processes share."""

from __future__ import annotations

import torch
from torch import Tensor


class SharedGenerator(torch.Generator):
    """A generator that processes hold alike, and take their own rows of what it draws.

    So that they draw together what one process would draw by itself, and go on alike. Any other
    generator is one process's own.

    Attributes:
        rank: Which of them this is.
        ranks: How many they are.
    """

    rank, ranks = 0, 1

    @classmethod
    def seeded(
        cls, device: torch.device, seed: int, rank: int = 0, ranks: int = 1
    ) -> torch.Generator:
        """A generator on a device; see the class."""
        generator = cls(device)
        generator.manual_seed(seed)
        generator.rank, generator.ranks = rank, ranks
        return generator


def own_rows(drawn: Tensor, generator: torch.Generator, axis: int = 0) -> Tensor:
    """Of what is drawn for the joint batch, the rows of this process.

    Args:
        drawn: As many rows along the axis as all processes have together, a multiple of them.
        generator: What drew it.
        axis: That of the batch.
    """
    if not isinstance(generator, SharedGenerator) or generator.ranks == 1:
        return drawn
    return drawn.chunk(generator.ranks, axis)[generator.rank]


def normal(
    shape: tuple[int, ...],
    generator: torch.Generator,
    axis: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Standard normal draws for this process's rows of a batch.

    Args:
        shape: Of this process's.
        generator: Source of the draws.
        axis: That of the batch.
        device: Of the draws.
        dtype: Likewise.
    """
    joint = list(shape)
    if isinstance(generator, SharedGenerator):
        joint[axis] *= generator.ranks
    drawn = torch.randn(joint, generator=generator, device=device, dtype=dtype)
    return own_rows(drawn, generator, axis)
