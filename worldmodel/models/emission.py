"""Emission p(x_t | z_t): a Gaussian with one learned standard deviation.

Source: Karl et al. 2017, appendix B.3.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from worldmodel.models.networks import mlp


class GaussianEmission(nn.Module):
    """N(mu(z), sigma) over the flat, scaled observation.

    Args:
        latent_size: Dimensions of the state.
        observation_size: Scalars in one flat observation.
        hidden: Hidden units.
    """

    def __init__(self, latent_size: int, observation_size: int, hidden: int) -> None:
        super().__init__()
        self.size = observation_size
        self.mean = mlp(latent_size, hidden, observation_size)
        self.log_scale = nn.Parameter(torch.tensor(-2.0))

    def forward(self, state: Float[Tensor, "*batch latent"]) -> Normal:
        """Distribution over the flat, scaled observation."""
        return Normal(self.mean(state), self.log_scale.exp())

    def squared_error(
        self, state: Float[Tensor, "*batch latent"], observed: Float[Tensor, "*batch size"]
    ) -> Float[Tensor, "*batch"]:
        """Squared distance of the mean from the observation, summed over it."""
        return (observed - self.mean(state)).square().sum(-1)

    def log_likelihood(self, squared_error: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """ln p(x | z) in nats, from the squared error: all that a Gaussian needs of x."""
        constant = self.size * (self.log_scale + 0.5 * math.log(2 * math.pi))
        return -0.5 * squared_error * (-2 * self.log_scale).exp() - constant

    def unevenness(
        self, state: Float[Tensor, "n latent"], motion: Float[Tensor, "n latent"]
    ) -> Float[Tensor, ""]:
        """Relative variance, over states, of how strongly motion shows in the observation.

        With J the mean's Jacobian and d the motion, the direction in which the observation moves
        is J d. The strength is |J^T J d|^2 / |J d|^2, the squared gradient along that direction: a
        speed, but blind to the motion's invisible part, such as a change of velocity. It is zero
        where a visible step of given length in latent space changes the observation by the same
        amount everywhere, along the data. States weigh by |J d|.

        Source: Chen et al. 2020, "Learning Flat Latent Manifolds with VAEs". Differs: J^T J is made
        even along the data's motion alone. Across, nothing is known, and an even norm of J could
        be had by changes that no data ever show.

        Args:
            state: Where the Jacobian is taken, by finite differences.
            motion: The direction in which each state moves.
        """
        reach = 0.05
        base = self.mean(state)
        axes = reach * torch.eye(state.shape[1], dtype=state.dtype, device=state.device)
        transposed = (self.mean(state.unsqueeze(1) + axes) - base.unsqueeze(1)) / reach
        shown = motion.unsqueeze(1) @ transposed
        squared = shown.square().sum((1, 2))
        strength = (transposed @ shown.mT).square().sum((1, 2)) / (squared + 1e-12)
        weight = squared.detach().sqrt()
        weight = weight / (weight.sum() + 1e-12)
        mean = (weight * strength).sum()
        return (weight * (strength - mean).square()).sum() / (mean.square() + 1e-12)
