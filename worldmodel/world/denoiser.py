"""A dream that is kept where the data are.

Where a prediction is uncertain a model's best single guess is an average, and an average of states
need not be a state: between a pendulum that falls to the left and one that falls to the right lies
none at all. Step by step such a dream leaves the sheet in latent space that the data lie on, and
beside it nothing was learned. A denoiser, which has learned to undo small noise on the data's
states, leads it back.

Source: Alain and Bengio 2014, "What Regularized Auto-Encoders Learn from the Data-Generating
Distribution": what the best denoiser moves a point by is the gradient of the data's log density.
So it also pulls along the sheet, from where data are few to where they are many; the less noise it
learns to undo, and the smaller the share of its move that is made per step, the less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from rich.progress import track
from torch import Tensor, nn

from worldmodel.errors import ConfigError, DivergenceError, require_at_least


@dataclass(frozen=True)
class DenoiserConfig:
    """How a denoiser is fitted.

    Attributes:
        noise: Greatest standard deviation of the noise that it learns to undo, in standard
            deviations of the states. The more, the further it reaches, and the more it also pulls
            the states themselves to where they are many.
        share: How much of its move it makes, in (0, 1].
        updates: Gradient updates.
        hidden: Units of each of two hidden layers.
        seed: Of initial weights, batches and noise.
    """

    noise: float = 0.2
    share: float = 1.0
    updates: int = 2000
    hidden: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, updates=self.updates, hidden=self.hidden)
        if not 0 < self.noise < math.inf:
            raise ConfigError(f"noise must be finite and > 0, got {self.noise}")
        if not 0 < self.share <= 1:
            raise ConfigError(f"share must lie in (0, 1], got {self.share}")


class Denoiser(nn.Module):
    """States (n, state) beside the data to states on them, or nearer; differentiable.

    Until it is fitted it leaves them where they are.

    Args:
        size: Components of a state.
        config: How it is fitted.
    """

    shift: Tensor
    spread: Tensor

    def __init__(self, size: int, config: DenoiserConfig = DenoiserConfig()) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("shift", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))
        last = nn.Linear(config.hidden, size)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Linear(size, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            last,
        )
        self.requires_grad_(False)

    def forward(self, states: Float[Tensor, "n state"]) -> Float[Tensor, "n state"]:
        """What the states were before noise was added, as far as can be told."""
        return states + self.config.share * self.spread * self._move(states)

    def _move(self, states: Tensor) -> Tensor:
        return self.network((states - self.shift) / self.spread)

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
        self.shift.copy_(states.mean(0))
        self.spread.copy_(states.std(0).clamp_min(1e-6))
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
            scale = torch.rand(len(clean), 1, generator=generator, device=device) * self.spread
            noise = torch.randn(clean.shape, generator=generator, device=device)
            noisy = clean + c.noise * scale * noise
            with torch.enable_grad():
                missing = (clean - noisy) / self.spread
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
