"""A Gaussian RSSM as its paper describes it, in plain PyTorch, to measure ours against.

Source: Hafner et al. 2019, "Learning Latent Dynamics for Planning from Pixels". Written from it as
one writes it first: a step at a time, each layer where it is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

FREE = 3.0  # nats


class PlainRSSM(nn.Module):
    """Of vectors, that are standardised already.

    Args:
        observation: Numbers of one observation.
        action: Numbers of one action.
        deterministic: Of h.
        stochastic: Of z.
        hidden: Units of every layer.
    """

    def __init__(
        self, observation: int, action: int, deterministic: int, stochastic: int, hidden: int
    ) -> None:
        super().__init__()
        state = deterministic + stochastic
        self.start = nn.Parameter(torch.zeros(deterministic))
        self.into = nn.Linear(stochastic + action, hidden)
        self.cell = nn.GRUCell(hidden, deterministic)
        self.prior = _layers(deterministic, hidden, 2 * stochastic)
        self.posterior = _layers(deterministic + observation, hidden, 2 * stochastic)
        self.decoder = _layers(state, hidden, observation)
        self.reward = _layers(2 * state + action, hidden, 1)

    def loss(self, observations: Tensor, actions: Tensor, rewards: Tensor) -> Tensor:
        """Of windows (B, T + 1, observation), (B, T, action) and (B, T)."""
        h, z = self.start.tanh().expand(len(actions), -1), None
        states, divergences = [], []
        for t in range(observations.shape[1]):
            if z is not None:
                units = nn.functional.elu(self.into(torch.cat([z, actions[:, t - 1]], 1)))
                h = self.cell(units, h)
            prior = _normal(self.prior(h))
            posterior = _normal(self.posterior(torch.cat([h, observations[:, t]], 1)))
            z = posterior.rsample()
            divergences.append(kl_divergence(posterior, prior))
            states.append(torch.cat([h, z], 1))
        path = torch.stack(states, 1)
        error = (self.decoder(path) - observations).square().sum(-1)
        known = path.detach()
        paid = self.reward(torch.cat([known[:, :-1], actions, known[:, 1:]], -1)).squeeze(-1)
        rate = torch.stack(divergences, 1).clamp_min(FREE)
        return (error.sum() + rate.sum() + (paid - rewards).square().sum()) / len(actions)


def _layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ELU(), nn.Linear(hidden, outputs))


def _normal(raw: Tensor) -> Independent:
    mean, spread = raw.chunk(2, -1)
    return Independent(Normal(mean, nn.functional.softplus(spread) + 0.1), 1)
