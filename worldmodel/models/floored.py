"""A transition that is never trusted beyond a floor of process noise.

In a noiseless system the bound is best served by a transition without noise and a posterior that
looks at the first frame only: its filter ignores every later one, and strays as soon as it meets
states or actions that the training windows did not hold. Noise of at least some scale in every
dimension makes frames worth reading, and gives dreams the model error that they have anyway.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.models.networks import numbers
from worldmodel.models.program import Builder, Rows
from worldmodel.models.transition import Transition


class FlooredNoise(Transition):
    """z' = f(z, u) + scale * w, scale >= floor, the same in every state.

    Args:
        mean: Transition f, built for no noise of its own.
        latent_size: Dimensions of the state, and of the noise.
        floor: Least standard deviation per step, in units of the latent state.
    """

    def __init__(self, mean: Transition, latent_size: int, floor: float) -> None:
        super().__init__()
        self.mean, self.floor = mean, floor
        self.excess = nn.Parameter(torch.full((latent_size,), floor).log())

    @property
    def scale(self) -> Float[Tensor, " latent"]:
        """Standard deviation per step of each dimension."""
        return self.floor + self.excess.exp()

    def forward(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"],
        weights: Tensor | None = None,
    ) -> Float[Tensor, "batch latent"]:
        """Next state; see the class."""
        return torch.addcmul(self.mean(state, action, noise[:, :0], weights), noise, self.scale)

    def compiled(self, builder: Builder, state: Rows, action: Rows, noise: Rows) -> Rows:
        """Instructions of ``forward``."""
        none, _ = noise.split(0, noise.count)
        mean = self.mean.compiled(builder, state, action, none)
        return builder.add(mean, builder.affine(noise, numbers(self.scale)))

    def compiled_gain(self, builder: Builder, state: Rows, action: Rows) -> Rows:
        """Instructions of ``gain``."""
        return builder.constant(numbers(self.scale.diag().flatten()))

    def gain(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        weights: Tensor | None = None,
    ) -> Float[Tensor, "batch noise latent"]:
        """The scale, as a diagonal matrix for each state."""
        return self.scale.diag().expand(len(state), -1, -1)

    def draw(self, generator: torch.Generator) -> Tensor | None:
        """Weights of f."""
        return self.mean.draw(generator)

    def weight_kl(self) -> Float[Tensor, ""]:
        """Of the weights of f."""
        return self.mean.weight_kl()
