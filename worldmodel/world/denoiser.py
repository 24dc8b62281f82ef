"""A dream that is kept where the data are.

Where a prediction is uncertain a model's best single guess is an average, and an average of states
need not be a state: between a pendulum that falls to the left and one that falls to the right lies
none at all. Step by step such a dream leaves the sheet in latent space that the data lie on, and
beside it nothing was learned. A denoiser, which has learned to undo small noise on the data's
states, leads it back.

Source: Alain and Bengio 2014, "What Regularized Auto-Encoders Learn from the Data-Generating
Distribution": what the best denoiser moves a point by is the gradient of the data's log density.
So it also pulls along the sheet, from where data are few to where they are many; the less noise it
learns to undo, and the smaller the fraction of its move that is made per step, the less.

It would hide from the support's check that a dream leaves its data: what strays is moved back every
time. So how far it has to move a prediction counts as distance too, in units of how far it moves
predictions from states that were filtered from data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from rich.progress import track
from torch import Tensor, nn

from worldmodel.errors import ConfigError, DivergenceError, require_at_least, require_choices
from worldmodel.models.networks import compiled, numbers
from worldmodel.models.program import Builder, Rows


@dataclass(frozen=True)
class DenoiserConfig:
    """How a denoiser is fitted.

    Attributes:
        noise: Greatest standard deviation of the noise that it learns to undo, in standard
            deviations of the states. The more, the further it reaches, and the more it also pulls
            the states themselves to where they are many.
        fraction: How much of its move it makes, in (0, 1].
        updates: Gradient updates.
        hidden: Units of each of two hidden layers.
        activation: Of these: "silu" is smooth, "relu" costs a dream less and fits better.
        seed: Of initial weights, batches and noise.
    """

    noise: float = 0.2
    fraction: float = 1.0
    updates: int = 2000
    hidden: int = 64
    activation: Literal["silu", "relu"] = "silu"
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, updates=self.updates, hidden=self.hidden)
        require_choices(self)
        if not 0 < self.noise < math.inf:
            raise ConfigError(f"noise must be finite and > 0, got {self.noise}")
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"fraction must lie in (0, 1], got {self.fraction}")


class Denoiser(nn.Module):
    """States (n, state) beside the data to states on them, or nearer; differentiable.

    Until it is fitted it leaves them where they are, and until it is calibrated no move is far.

    Args:
        size: Components of a state.
        config: How it is fitted.
    """

    mean: Tensor
    std: Tensor
    limit: Tensor

    def __init__(self, size: int, config: DenoiserConfig = DenoiserConfig()) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.register_buffer("limit", torch.tensor(torch.inf))
        activation = nn.ReLU if config.activation == "relu" else nn.SiLU
        last = nn.Linear(config.hidden, size)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Linear(size, config.hidden),
            activation(),
            nn.Linear(config.hidden, config.hidden),
            activation(),
            last,
        )
        self.requires_grad_(False)

    def forward(self, states: Float[Tensor, "n state"]) -> Float[Tensor, "n state"]:
        """What the states were before noise was added, as far as can be told."""
        return self.lead(states)[0]

    def lead(
        self, states: Float[Tensor, "n state"]
    ) -> tuple[Float[Tensor, "n state"], Float[Tensor, " n"]]:
        """What the states were, and how far from the data that says they are.

        The distance is the length of the move, the fraction of it that is made, in standard
        deviations of the states and units of ``limit``: up to 1 as for predictions from data.
        """
        move = self.config.fraction * self._move(states)
        return torch.addcmul(states, self.std, move), move.norm(dim=1) / self.limit

    @torch.no_grad()
    def calibrate(
        self,
        predictions: Float[Tensor, "n state"],
        quantile: float = 0.999,
    ) -> None:
        """Say how far honest predictions are moved; as ``Support.fit`` says how far data stray.

        Without a margin: a move tells that the model strays long before the states do.

        Args:
            predictions: Made of states that were filtered from data it was not fitted to.
            quantile: Fraction of ``predictions`` that must be near.
        """
        self.limit.fill_(1.0)
        self.limit.copy_(self.lead(predictions)[1].quantile(quantile))

    def compiled(self, builder: Builder, states: Rows) -> tuple[Rows, Rows]:
        """Instructions of ``lead``; its distance is squared."""
        mean, std = numbers(self.mean), numbers(self.std)
        standard = builder.affine(states, 1 / std, -mean / std)
        move = compiled(self.network, builder, standard, scale=self.config.fraction)
        away = builder.nearest(builder.affine(move, 1 / self.limit.item()), np.zeros((1, len(std))))
        return builder.add(states, builder.affine(move, std)), away

    def _move(self, states: Tensor) -> Tensor:
        return self.network((states - self.mean) / self.std)

    def fit(self, states: Float[Tensor, "n state"], progress: bool = True) -> None:
        """Learn to undo noise on states of the data, from the beginning.

        Args:
            states: A thousand or more.
            progress: Whether to show a progress bar.

        Raises:
            DivergenceError: States are not finite.
        """
        c, states = self.config, states.detach()
        if not torch.isfinite(states).all():
            raise DivergenceError("the states to be denoised are not finite")
        self.mean.copy_(states.mean(0))
        self.std.copy_(states.std(0).clamp_min(1e-6))
        device = states.device
        generator = torch.Generator(device).manual_seed(c.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(c.seed)
            for layer in self.network:
                if isinstance(layer, nn.Linear):
                    layer.reset_parameters()
        self.requires_grad_(True)
        optimizer = torch.optim.Adam(self.parameters(), 3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, c.updates)
        for _ in track(range(c.updates), "denoiser", disable=not progress):
            chosen = torch.randint(len(states), (256,), generator=generator, device=device)
            clean = states[chosen]
            scale = torch.rand(len(clean), 1, generator=generator, device=device) * self.std
            noise = torch.randn(clean.shape, generator=generator, device=device)
            noisy = clean + c.noise * scale * noise
            with torch.enable_grad():
                missing = (clean - noisy) / self.std
                loss = (self._move(noisy) - missing).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self.requires_grad_(False)


def fit_denoiser(
    states: Float[Tensor, "n state"],
    config: DenoiserConfig = DenoiserConfig(),
    progress: bool = True,
) -> Denoiser:
    """A denoiser of these states; arguments as for ``Denoiser`` and its ``fit``."""
    denoiser = Denoiser(states.shape[1], config).to(states)
    denoiser.fit(states, progress)
    return denoiser.eval()
