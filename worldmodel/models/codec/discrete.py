"""Indices: one-hot vectors, and chances of each value."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from worldmodel.models.codec.emission import CategoricalEmission, Emission
from worldmodel.models.codec.stream import StreamCodec
from worldmodel.models.networks import mlp, normalised
from worldmodel.models.program import Builder, Rows


class DiscreteCodec(StreamCodec):
    """Every index weighs one."""

    def calibrate(self, values: Shaped[Tensor, "n ..."], lengths: Sequence[int] = ()) -> None:
        """Nothing to take: one-hot vectors have a scale."""

    @property
    def weight(self) -> float:
        """Number of indices."""
        return float(len(self.stream.sizes))

    @property
    def log_volume(self) -> float:
        """None: these are chances, not densities."""
        return 0.0

    def scale(self, values: Shaped[Tensor, "..."]) -> Float[Tensor, "*batch size"]:
        """One-hot."""
        groups = [
            nn.functional.one_hot(index.long(), size)
            for index, size in zip(values.unbind(-1), self.stream.sizes, strict=True)
        ]
        return torch.cat(groups, -1).to(torch.get_default_dtype())

    def compiled(self, builder: Builder, encoded: Rows) -> Rows:
        """As they are."""
        return encoded

    def unscale(self, flat: Float[Tensor, "*batch size"]) -> Shaped[Tensor, "..."]:
        """Indices of the likeliest."""
        groups = flat.split(self.stream.sizes, -1)
        return torch.stack([group.argmax(-1) for group in groups], -1)

    def plausible(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Chances."""
        return flat.clamp(0, 1)

    def natural(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch scalars"]:
        """Chances."""
        return flat

    def encoder(self) -> tuple[nn.Module, int]:
        """Hidden layers if there are to be several."""
        c, size = self.config, self.stream.size
        if c.depth == 1:
            return nn.Identity(), size
        return nn.Sequential(*normalised(size, *[c.hidden] * (c.depth - 1))), c.hidden

    def emission(self, latent_size: int) -> Emission:
        """Categorical."""
        c, stream = self.config, self.stream
        network = mlp(latent_size, c.hidden, stream.size, depth=c.depth)
        return CategoricalEmission(network, stream.sizes, self.weight)


CODEC = DiscreteCodec
