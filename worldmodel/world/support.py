"""Is this latent state still inside what the data showed?

The support of the data is covered by balls around a few hundred of its latent states, in units
that make each latent dimension's spread one. The radius is read off states that the centres were
not chosen from, so it says how far honest data strays.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

# Centres that every state is tested against, before the others are asked about what is left.
_COARSE = 64


class Cover(NamedTuple):
    """The same balls, arranged so that membership of many states is one matrix product.

    With p = z / scale, |p - c|^2 <= r^2 holds exactly if p.c - |c|^2 / 2 - |p|^2 / 2 >= -r^2 / 2,
    and the left side is linear in the features (z, z^2).

    Centres come in order of what they cover, so that the first few already decide most states, and
    only what they leave undecided is tested against all.

    Attributes:
        weights: (2 latent, centres), on the features (z, z^2).
        offsets: (centres,), -|c|^2 / 2.
        threshold: Scalar, -r^2 / 2.
        first: Weights of the first few centres, contiguous.
    """

    weights: Tensor
    offsets: Tensor
    threshold: Tensor
    first: Tensor

    def contains(self, state: Float[Tensor, "batch latent"]) -> Bool[Tensor, " batch"]:
        """Whether each state lies in any ball; False where not finite. No gradient."""
        with torch.no_grad():
            # As rows of features, which are contiguous if the states came from a frozen model.
            rows = state.T
            features = torch.cat([rows, rows * rows])
            few = self.offsets[: self.first.shape[1]]
            inside = torch.addmm(few, features.T, self.first).amax(1) >= self.threshold
            left = (~inside).nonzero().squeeze(1)
            if left.shape[0]:
                undecided = features.index_select(1, left).T
                scores = torch.addmm(self.offsets, undecided, self.weights).amax(1)
                inside.index_copy_(0, left, scores >= self.threshold)
        return inside


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
        well as common ones.

        Args:
            states: Latent states of the training data.
            held_out: Latent states of other data from the same source.
            margin: Factor on the radius that holds ``quantile`` of ``held_out``.
            quantile: Share of ``held_out`` that must be inside before the margin.
        """
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
        chosen = torch.linspace(0, len(states) - 1, len(self.states)).long()
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

    def inside(self, state: Float[Tensor, "batch latent"]) -> Bool[Tensor, " batch"]:
        """Whether each state lies within the data's support; False where not finite."""
        return self.cover().contains(state)

    def cover(self) -> Cover:
        """The balls as they are now, arranged for testing many states fast."""
        linear = (self.centres / self.scale).T
        quadratic = (-0.5 / self.scale.square()).unsqueeze(1).expand_as(linear)
        weights = torch.cat([linear, quadratic])
        offsets = -0.5 * self.centres.square().sum(1)
        first = weights[:, :_COARSE].contiguous()
        return Cover(weights, offsets, -0.5 * self.radius.square(), first)

    def bounds(self) -> tuple[Float[Tensor, " latent"], Float[Tensor, " latent"]]:
        """Least and greatest latent values that can be inside."""
        reach = self.radius * self.scale
        return (
            (self.centres.amin(0) * self.scale) - reach,
            (self.centres.amax(0) * self.scale) + reach,
        )
