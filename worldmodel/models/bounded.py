"""A transition whose states stay within bounds.

Where base matrices add up, or a filter meets what training never showed, a state may be stretched
step after step. One such sequence in ten thousand is enough: its gradient overflows, and a filter
that is lost so does not come back. A state at its bound passes no gradient on, and the next frames
can still correct it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.models.program import Builder, Rows
from worldmodel.models.transition import Transition


class Bounded(Transition):
    """z' = f(z, u, w), each component cut off at plus and minus a bound.

    Args:
        inner: Transition f.
        bound: In units of the latent state, whose prior at the first frame is standard normal.
    """

    def __init__(self, inner: Transition, bound: float) -> None:
        super().__init__()
        self.inner, self.bound = inner, bound

    def forward(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"],
        weights: Tensor | None = None,
    ) -> Float[Tensor, "batch latent"]:
        """Next state; see the class."""
        return self.inner(state, action, noise, weights).clamp(-self.bound, self.bound)

    def compiled(self, builder: Builder, state: Rows, action: Rows, noise: Rows) -> Rows:
        """Instructions of ``forward``."""
        free = self.inner.compiled(builder, state, action, noise)
        return builder.clamp(free, -self.bound, self.bound)

    def compiled_gain(self, builder: Builder, state: Rows, action: Rows) -> Rows:
        """That of f."""
        return self.inner.compiled_gain(builder, state, action)

    def gain(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        weights: Tensor | None = None,
    ) -> Float[Tensor, "batch noise latent"]:
        """That of f."""
        return self.inner.gain(state, action, weights)

    def draw(self, generator: torch.Generator) -> Tensor | None:
        """Weights of f."""
        return self.inner.draw(generator)

    def weight_kl(self) -> Float[Tensor, ""]:
        """Of the weights of f."""
        return self.inner.weight_kl()
