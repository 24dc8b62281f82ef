"""A dream that is kept where the data are.

Where a prediction is uncertain a model's best single guess is an average, and an average of states
need not be a state: between a pendulum that falls to the left and one that falls to the right lies
none at all. Step by step such a dream shrinks away from the data, and what actions do to it shrinks
too. A denoiser, which has learned to undo small noise on the data's states, leads it back.

Source: Alain and Bengio 2014, "What Regularized Auto-Encoders Learn from the Data-Generating
Distribution": what the best denoiser moves a point by is the gradient of the data's log density.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from rich.progress import track
from torch import Tensor, nn

from agents.empowerment.dynamics import Dynamics
from worldmodel.errors import ConfigError, require_at_least


@dataclass(frozen=True)
class DenoiserConfig:
    """How a denoiser is fitted.

    Attributes:
        noise: Greatest standard deviation of the noise that it learns to undo, in standard
            deviations of the states. The more, the further it reaches, and the more it also pulls
            the states themselves to where they are many.
        updates: Gradient updates.
        hidden: Units of each of two hidden layers.
        seed: Of initial weights, batches and noise.
    """

    noise: float = 0.2
    updates: int = 2000
    hidden: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, updates=self.updates, hidden=self.hidden)
        if not 0 < self.noise < math.inf:
            raise ConfigError(f"noise must be finite and > 0, got {self.noise}")


class Denoiser(nn.Module):
    """States (n, state) beside the data to states on them; differentiable."""

    def __init__(self, shift: Tensor, spread: Tensor, hidden: int) -> None:
        super().__init__()
        self.shift, self.spread = shift, spread
        self.network = nn.Sequential(
            nn.Linear(len(shift), hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, len(shift)),
        )

    def forward(self, states: Float[Tensor, "n state"]) -> Float[Tensor, "n state"]:
        """What the states were before noise was added, as far as can be told."""
        return states + self.spread * self.network((states - self.shift) / self.spread)


def fit_denoiser(
    states: Float[Tensor, "n state"],
    config: DenoiserConfig = DenoiserConfig(),
    progress: bool = True,
) -> Denoiser:
    """Learn to undo noise on states of the data.

    Args:
        states: A thousand or more.
        config: How.
        progress: Whether to show a progress bar.
    """
    states = states.detach()
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        denoiser = Denoiser(states.mean(0), states.std(0), config.hidden)
    optimizer = torch.optim.Adam(denoiser.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.updates)
    for _ in track(range(config.updates), "denoiser", disable=not progress):
        clean = states[torch.randint(len(states), (256,), generator=generator)]
        scale = config.noise * torch.rand(len(clean), 1, generator=generator) * denoiser.spread
        noisy = clean + scale * torch.randn(clean.shape, generator=generator)
        with torch.enable_grad():
            loss = ((denoiser(noisy) - clean) / denoiser.spread).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return denoiser.requires_grad_(False).eval()


def denoised(dynamics: Dynamics, denoiser: Callable[[Tensor], Tensor]) -> Dynamics:
    """The same system, led back to its data after every step."""
    return replace(
        dynamics,
        step=lambda state, action, noise: denoiser(dynamics.step(state, action, noise)),
    )
