"""Is this latent state still inside what the data showed?

The support of the data is covered by balls around a few hundred of its latent states, in units
that make each latent dimension's spread one. The radius is read off states that the centres were
not chosen from, so it says how far honest data strays.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldmodel.models.networks import numbers
from worldmodel.models.program import Builder, Rows
from worldmodel.world.strays import strays


class Support(nn.Module):
    """Union of balls around data states; buffers travel with the model's checkpoint.

    Before ``fit`` everything is inside and the bounds are infinite.

    Args:
        latent_size: Dimensions of the latent state.
        centres: How many balls cover the data.
    """

    centres: Tensor
    scale: Tensor
    radius: Tensor
    states: Tensor

    def __init__(self, latent_size: int, centres: int = 256) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(centres, latent_size))
        self.register_buffer("scale", torch.ones(latent_size))
        self.register_buffer("radius", torch.tensor(torch.inf))
        self.register_buffer("states", torch.zeros(1024, latent_size))

    @property
    def fitted(self) -> bool:
        """Whether ``fit`` was called."""
        return bool(torch.isfinite(self.radius))

    @torch.no_grad()
    def fit(
        self,
        states: Float[Tensor, "n latent"],
        held_out: Float[Tensor, "m latent"],
        margin: float = 1.25,
        quantile: float = 0.999,
    ) -> None:
        """Cover ``states`` and calibrate the radius on ``held_out``.

        Centres are chosen by farthest-point sampling (Gonzalez 1985), which covers rare states as
        well as common ones. Strays (``world/strays.py``) do not count.

        Args:
            states: Latent states of the training data.
            held_out: Latent states of other data from the same source.
            margin: Factor on the radius that holds ``quantile`` of ``held_out``.
            quantile: Share of ``held_out`` that must be inside before the margin.
        """
        states, held_out = (_kept(states, each) for each in (states, held_out))
        self.scale.copy_(states.std(0).clamp_min(1e-6))
        points = states / self.scale
        distance = torch.full((len(points),), torch.inf, device=points.device)
        index = (points - points.mean(0)).square().sum(1).argmin()
        for i in range(len(self.centres)):
            self.centres[i] = points[index]
            distance = torch.minimum(distance, (points - points[index]).square().sum(1))
            index = distance.argmax()
        self.radius.fill_(1.0)
        self.radius.copy_(margin * self.distance(held_out).quantile(quantile))
        self._order(points)
        last, device = len(states) - 1, states.device
        chosen = torch.linspace(0, last, len(self.states), device=device).long()
        self.states.copy_(states[chosen])

    def _order(self, points: Float[Tensor, "n latent"]) -> None:
        """Put centres first that cover most of what those before them leave (greedy set cover)."""
        covers = (torch.cdist(points, self.centres) <= self.radius).to(points.dtype)
        left, order = points.new_ones(len(points)), []
        for _ in range(len(self.centres)):
            gain = left @ covers
            gain[order] = -1
            order.append(int(gain.argmax()))
            left = left * (1 - covers[:, order[-1]])
        self.centres.copy_(self.centres[order])

    def distance(self, state: Float[Tensor, "batch latent"]) -> Float[Tensor, " batch"]:
        """Distance to the nearest centre, in radii: inside up to 1."""
        return torch.cdist(state / self.scale, self.centres).amin(1) / self.radius

    def compiled(self, builder: Builder, state: Rows) -> Rows:
        """One register: at most one where the state is inside."""
        points = builder.affine(state, numbers(1 / (self.scale * self.radius)))
        return builder.nearest(points, numbers(self.centres / self.radius))

    def inside(self, state: Float[Tensor, "batch latent"]) -> Bool[Tensor, " batch"]:
        """Whether each state lies within the data's support; False where not finite."""
        return self.distance(state) <= 1

    def bounds(self) -> tuple[Float[Tensor, " latent"], Float[Tensor, " latent"]]:
        """Least and greatest latent values that can be inside."""
        reach = self.radius * self.scale
        return (
            (self.centres.amin(0) * self.scale) - reach,
            (self.centres.amax(0) * self.scale) + reach,
        )


def _kept(states: Tensor, others: Tensor) -> Tensor:
    """Those that are no strays; all of them if there are no others."""
    lost = strays(states, others)
    return others if lost.all() else others[~lost]
