"""Vectors: each component minus its mean over its deviation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from worldmodel.models.codec.config import CodecConfig
from worldmodel.models.codec.emission import Emission, GaussianEmission
from worldmodel.models.codec.stream import StreamCodec
from worldmodel.models.networks import mlp, normalised, numbers
from worldmodel.models.program import Builder, Rows
from worldmodel.spaces import Stream

# A component is constant if it varies by no more than so many steps of its floating-point type.
_STEPS = 8


class VectorCodec(StreamCodec):
    """Every component that varies weighs one.

    Of what is recorded in double precision, such as time stamps and map coordinates, the mean is
    taken away before it becomes single, so that nothing is lost.
    """

    mean: Tensor
    std: Tensor
    varies: Tensor

    def __init__(self, stream: Stream, config: CodecConfig) -> None:
        super().__init__(stream, config)
        kept = getattr(torch, stream.dtype)
        self.register_buffer("mean", torch.zeros(stream.size, dtype=kept))
        self.register_buffer("std", torch.ones(stream.size, dtype=kept))
        self.register_buffer("varies", torch.ones(stream.size, dtype=torch.bool))

    @torch.no_grad()
    def calibrate(self, values: Shaped[Tensor, "n ..."], lengths: Sequence[int] = ()) -> None:
        """Means and deviations; a component that never varied keeps its unit."""
        resolution = torch.finfo(values.dtype if values.is_floating_point() else torch.float32).eps
        recorded = values.double()
        largest = recorded.abs().amax(0)
        # In units of a power of 2, which rounds nothing, so that no square overflows; and about a
        # value of their own, so that no square of an offset is taken.
        unit = torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent - 1)
        recorded = recorded / unit
        base = recorded[0]
        mean = (recorded - base).mean(0) + base
        std = (recorded - mean).square().mean(0).sqrt()
        self.varies.copy_(std > _STEPS * resolution * (largest / unit))
        self.mean.copy_(mean * unit)
        # Its first change would otherwise look enormous.
        self.std.copy_(torch.where(self.varies, std * unit, 1.0))

    @property
    def weight(self) -> float:
        """Number of components that vary."""
        return float(self.varies.sum())

    @property
    def log_volume(self) -> float:
        """Densities are those of standard units: components may be of different kinds."""
        return 0.0

    def scale(self, values: Shaped[Tensor, "..."]) -> Float[Tensor, "*batch size"]:
        """See the class."""
        return (values.to(self.mean.dtype) - self.mean).div_(self.std)

    def compiled(self, builder: Builder, encoded: Rows) -> Rows:
        """See the base class."""
        return builder.affine(encoded, numbers(1 / self.std))

    @property
    def offset(self) -> np.ndarray:
        """The mean."""
        return numbers(self.mean.double())

    def unscale(self, flat: Float[Tensor, "*batch size"]) -> Shaped[Tensor, "..."]:
        """In the recorded precision; whole numbers are not rounded, for this is a mean."""
        return torch.addcmul(self.mean, flat.to(self.mean.dtype), self.std)

    def plausible(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """As they are: bounds are seldom tight."""
        return flat

    def natural(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch scalars"]:
        """As they are: deviations are the units that components have in common."""
        return flat

    def encoder(self) -> tuple[nn.Module, int]:
        """Hidden layers if there are to be several."""
        c, size = self.config, self.stream.size
        if c.depth == 1:
            return nn.Identity(), size
        return nn.Sequential(*normalised(size, *[c.hidden] * (c.depth - 1))), c.hidden

    def emission(self, latent_size: int) -> Emission:
        """Gaussian of one scale."""
        c, size = self.config, self.stream.size
        return GaussianEmission(mlp(latent_size, c.hidden, size, depth=c.depth), size)


CODEC = VectorCodec
