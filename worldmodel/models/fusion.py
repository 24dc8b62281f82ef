"""Fusion: what follows when a frame's reading meets the transition's prediction.

A network reads a Gaussian over the state off each frame alone. Bayes' rule combines it with what
the transition predicts, in closed form: the noise w ~ N(0, I) moves the prediction to p + w G, the
reading says m +- s, so

    precision = I + G S^-1 G',   mean = precision^-1 G S^-1 (m - p),   S = diag(s^2).

Where a frame tells nearly all of the state, as vectors of a simulator do, the correction is right
by construction, however far the filter has strayed; a network that has only ever seen small errors
does not learn it.

Where a few frames tell so much that the transition foretells the others, the bound gives vague
readings no reason to become sharp, and the filter that follows listens to nearly none: it is right
for as long as windows were in training, and strays after. So readings also learn to say what was
inferred, by its likelihood, which no state feels: then what a frame shows is there to be heard.

In training the noise is inferred at a sampled state, as if that were known. The live filter has a
belief, and what is not known of the state before counts like the noise: it is an extended Kalman
filter (``correct``) of the transition and the readings. By the noise alone, which is small, it
would listen to frames for some steps and drift on for hundreds.

Source: the fusion variant of the authors' later code, where the product of Gaussians is taken over
the state. Differs: over the process noise, so that the bound is the one of Karl et al. 2017.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from worldmodel.models.networks import compiled, compiled_positive, mlp, positive, raw_scale
from worldmodel.models.program import Builder, Rows

# Of what the prior's precision of noise is increased by, as a fraction of the posterior's trace.
# Where a reading is sharp in few directions, rounding in 32 bits would leave others below zero.
# ``world/kernels/fusion.py`` has it, too.
LIFT = 1e-6


def lifted(precision: Float[Tensor, "batch noise noise"]) -> Float[Tensor, "batch noise noise"]:
    """In place: what can be decomposed, next to what is meant; the lift is no one's gradient."""
    diagonal = precision.detach().diagonal(dim1=1, dim2=2)
    precision.diagonal(dim1=1, dim2=2).add_(diagonal.sum(1, keepdim=True), alpha=LIFT)
    return precision


class Fusion(nn.Module):
    """q(w_t | z_t, x_{t+1}, u_t): the diagonal Gaussian closest to the exact posterior.

    Args:
        observation_size: Numbers that describe one frame: its scalars, or features of them.
        latent_size: Dimensions of the state.
        hidden: Hidden units of the network that reads frames.
        reading_scale: Of a reading at first, above 1e-4. A transition with little noise listens to
            sharp readings alone, and those that nobody listens to never become sharp.
    """

    def __init__(
        self, observation_size: int, latent_size: int, hidden: int, reading_scale: float
    ) -> None:
        super().__init__()
        self.reading = mlp(observation_size, hidden, 2 * latent_size)
        with torch.no_grad():
            bias = self.reading[-1].get_parameter("bias")
            bias[latent_size:] = raw_scale(reading_scale)

    def embed(
        self, frame: Float[Tensor, "*batch size"], action: Float[Tensor, "*batch act"]
    ) -> Float[Tensor, "*batch two_latent"]:
        """What frames say of the state, for all steps at once; actions only enter predictions."""
        mean, raw = self.reading(frame).chunk(2, -1)
        return torch.cat([mean, positive(raw)], -1)

    def log_prob(
        self,
        context: Float[Tensor, "*batch two_latent"],
        state: Float[Tensor, "*batch latent"],
    ) -> Float[Tensor, "*batch"]:
        """Likelihood in nats of states under the readings of ``embed``."""
        mean, scale = context.chunk(2, -1)
        return Normal(mean, scale, validate_args=False).log_prob(state).sum(-1)

    def forward(
        self,
        context: Float[Tensor, "batch two_latent"],
        predicted: Float[Tensor, "batch latent"],
        gain: Float[Tensor, "batch noise latent"],
    ) -> tuple[Float[Tensor, "batch noise"], Float[Tensor, "batch noise"]]:
        """Mean and scale of w_t.

        Args:
            context: Of ``embed``.
            predicted: Next state without noise.
            gain: How the noise moves it.
        """
        mean, scale = context.chunk(2, 1)
        weighed = gain / scale.square().unsqueeze(1)
        precision = lifted(
            weighed @ gain.mT + torch.eye(gain.shape[1], device=gain.device, dtype=gain.dtype)
        )
        pull = weighed @ (mean - predicted).unsqueeze(2)
        factor = torch.linalg.cholesky(precision)
        return (
            torch.cholesky_solve(pull, factor).squeeze(2),
            precision.diagonal(dim1=1, dim2=2).rsqrt(),
        )

    def correct(
        self,
        context: Float[Tensor, "batch two_latent"],
        predicted: Float[Tensor, "batch latent"],
        spread: Float[Tensor, "batch any latent"],
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and scale of the next state that a filter believes in, by Kalman's correction.

        Args:
            context: Of ``embed``.
            predicted: Next state without noise.
            spread: It may be off by any standard normal row times this: by what the process noise
                does, and by what was not known before.
        """
        mean, scale = context.chunk(2, 1)
        covariance = spread.mT @ spread
        factor = torch.linalg.cholesky(lifted(covariance + torch.diag_embed(scale.square())))
        gain = torch.cholesky_solve(covariance, factor)
        known, before = (covariance * gain).sum(1), covariance.diagonal(dim1=1, dim2=2)
        # Rounding must not leave less than nothing.
        left = torch.maximum(before - known, LIFT * before)
        moved = ((mean - predicted).unsqueeze(1) @ gain).squeeze(1)
        return predicted + moved, left.sqrt()

    def compiled(self, builder: Builder, frame: Rows) -> tuple[Rows, Rows]:
        """Instructions of ``embed``: mean and scale."""
        out = compiled(self.reading, builder, frame)
        mean, raw = out.split(out.count // 2, out.count // 2)
        return mean, compiled_positive(builder, raw)

    def compiled_correction(
        self, builder: Builder, reading: tuple[Rows, Rows], predicted: Rows, spread: Rows
    ) -> tuple[Rows, Rows]:
        """Instructions of ``correct``."""
        mean, scale = reading
        pull = builder.add(mean, builder.affine(predicted, -1.0))
        moved, left = builder.correct(spread, scale, pull)
        return builder.add(predicted, moved), left
