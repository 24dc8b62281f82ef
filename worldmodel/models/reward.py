"""Reward and termination heads, learned from what was recorded.

Their gradient stops at the latent states: the state space is learned from frames and actions
alone, as in the paper, and no task leaks into it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldmodel.models.networks import compiled, mlp
from worldmodel.models.program import Builder, Rows

# Times their deviation that further rewards must vary by, for theirs to become the unit.
_LEAP = 4.0


class RewardHead(nn.Module):
    """N(r; mu(z, u, z'), sigma) over standardised rewards.

    Args:
        latent_size: Dimensions of the state.
        action_size: Components of one (scaled) action.
        hidden: Hidden units.
    """

    mean: Tensor
    std: Tensor
    min: Tensor
    max: Tensor

    def __init__(self, latent_size: int, action_size: int, hidden: int) -> None:
        super().__init__()
        self.network = mlp(2 * latent_size + action_size, hidden, 1)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.register_buffer("min", torch.tensor(-torch.inf))
        self.register_buffer("max", torch.tensor(torch.inf))

    @torch.no_grad()
    def calibrate(self, rewards: Float[Tensor, "n"]) -> None:
        """Take scaling and range from recorded rewards; a constant reward keeps unit deviation.

        Constant is what varies by no more than rounding does.
        """
        recorded = rewards.double()
        mean = recorded.mean()
        std = (recorded - mean).square().mean().sqrt()
        rounding = 8 * torch.finfo(rewards.dtype).eps * recorded.abs().max()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > rounding, std, 1.0))
        self.min.copy_(rewards.min())
        self.max.copy_(rewards.max())

    @torch.no_grad()
    def widen(self, rewards: Float[Tensor, "n"]) -> None:
        """Let the range hold others, too."""
        self.min.copy_(torch.minimum(self.min, rewards.min().to(self.min)))
        self.max.copy_(torch.maximum(self.max, rewards.max().to(self.max)))

    @torch.no_grad()
    def adapt(self, rewards: Float[Tensor, "n"]) -> None:
        """The same; and the unit grows where they vary by much more, while predictions stay.

        Otherwise a rare reward, thousands of deviations of the first data away, would be all that
        is learned.

        Source: van Hasselt et al. 2016, "Learning values across many orders of magnitude"
        (Pop-Art, whose outputs are preserved likewise). Differs: the unit moves in leaps, and up.
        """
        self.widen(rewards)
        std = rewards.double().std(correction=0).to(self.std)
        if std > _LEAP * self.std:
            last, factor = self.network[-1], self.std / std
            last.get_parameter("weight").mul_(factor)
            last.get_parameter("bias").mul_(factor)
            self.log_scale.add_(factor.log())
            self.std.copy_(std)

    @torch.no_grad()
    def silence(self) -> None:
        """None were recorded: every reward is 0, and so is their deviation."""
        for value in (self.mean, self.std, self.min, self.max):
            value.zero_()

    def forward(
        self,
        state: Float[Tensor, "*batch latent"],
        action: Float[Tensor, "*batch act"],
        next_state: Float[Tensor, "*batch latent"],
    ) -> Float[Tensor, "*batch"]:
        """Mean reward in the environment's units."""
        inputs = torch.cat([state, action, next_state], -1)
        return torch.addcmul(self.mean, self.network(inputs).squeeze(-1), self.std)

    def compiled(self, builder: Builder, state: Rows, action: Rows, next_state: Rows) -> Rows:
        """Instructions of ``forward``."""
        inputs = builder.join(state, action, next_state)
        return compiled(self.network, builder, inputs, self.std, self.mean.item())

    def log_prob(
        self, predicted: Float[Tensor, "*batch"], recorded: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """ln p(recorded) in nats, in standardised units."""
        error = (recorded - predicted) / (self.std * self.log_scale.exp())
        return -0.5 * error.square() - self.log_scale - 0.5 * math.log(2 * math.pi)


class TerminationHead(nn.Module):
    """Logit of the probability that the episode ends on arrival in z'.

    Args:
        latent_size: Dimensions of the state.
        hidden: Hidden units.
    """

    seen: Tensor

    def __init__(self, latent_size: int, hidden: int) -> None:
        super().__init__()
        self.logit = mlp(latent_size, hidden, 1)
        self.register_buffer("seen", torch.tensor(False))

    def forward(self, next_state: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """Logit; large and negative if no recorded episode ever ended."""
        logit = self.logit(next_state).squeeze(-1)
        return torch.where(self.seen, logit, logit.new_tensor(-30.0))

    def compiled(self, builder: Builder, next_state: Rows) -> Rows:
        """Instructions of ``forward``, for a head that has seen an episode end."""
        return compiled(self.logit, builder, next_state)

    def log_prob(
        self, next_state: Float[Tensor, "*batch latent"], ended: Bool[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """ln p(ended) in nats."""
        return -nn.functional.binary_cross_entropy_with_logits(
            self(next_state), ended.to(next_state.dtype), reduction="none"
        )
