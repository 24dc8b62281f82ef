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

    def unevenness(self, state: Float[Tensor, "batch latent"]) -> Float[Tensor, ""]:
        """Relative variance, over states, of the mean's squared Jacobian norm.

        Zero where a step of given length in latent space changes the observation by the same
        amount everywhere. Source: Chen et al. 2020, "Learning Flat Latent Manifolds with VAEs".
        Differs: the norm of the Jacobian alone is made constant, since directions that do not show
        in one frame, such as velocities, must stay free; and it is taken by finite differences.
        """
        reach = 0.05
        base = self.mean(state)
        axes = reach * torch.eye(state.shape[1], dtype=state.dtype, device=state.device)
        moved = self.mean(state.unsqueeze(1) + axes)
        norm = (moved - base.unsqueeze(1)).square().sum((1, 2))
        return norm.var(correction=0) / norm.mean().square()
