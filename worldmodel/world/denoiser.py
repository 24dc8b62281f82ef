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

What every step of every dream passes had better be small. But a small network that is fitted to
noise leaves rare states, such as upright pendulums, to chance, even where its loss is no greater. A
large one does not, and what it has learned holds no noise, so that few units can be taught it.

It would hide from the support's check that a dream leaves its data: what strays is moved back every
time. So how far it has to move a prediction counts as distance too, in units of how far it moves
predictions from states that were filtered from data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.errors import ConfigError, DivergenceError, require_at_least
from worldmodel.models.networks import compiled, numbers
from worldmodel.models.program import Builder, Rows
from worldmodel.progress import track

# Noise on the states that a small network is taught at, in units of what the large one learned at:
# a dream comes further out than most states of those do.
_REACH = 2.0


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
        distilled: Units of each of two rectified layers that are then taught what those do, and
            take their place: dreams are the faster for it. 0 leaves those.
        seed: Of initial weights, batches and noise.
    """

    noise: float = 0.2
    fraction: float = 1.0
    updates: int = 2000
    hidden: int = 64
    distilled: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, updates=self.updates, hidden=self.hidden)
        require_at_least(0, distilled=self.distilled, seed=self.seed)
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
        small = config.distilled > 0
        self.network = _layers(size, config.distilled or config.hidden, small)
        self.requires_grad_(False)
        for parameter in self.network[-1].parameters():
            parameter.zero_()

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
        far = builder.affine(move, 1 / self.limit.item())
        away = builder.contract(far, far)
        return builder.add(states, builder.affine(move, std)), away

    def _move(self, states: Tensor, network: nn.Module | None = None) -> Tensor:
        network = self.network if network is None else network
        return network((states - self.mean) / self.std)

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
        generator = torch.Generator(states.device).manual_seed(c.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(c.seed)
            learned = _layers(states.shape[1], c.hidden, rectified=False).to(states)
            small = _layers(states.shape[1], c.distilled or 1, rectified=True).to(states)

        def missing(clean: Tensor, noisy: Tensor) -> Tensor:
            return (clean - noisy) / self.std

        def taught(_: Tensor, noisy: Tensor) -> Tensor:
            return self._move(noisy, learned)

        self._learn(learned, missing, states, c.noise, generator, progress)
        if c.distilled:
            self._learn(small, taught, states, _REACH * c.noise, generator, progress)
        self.network.load_state_dict((small if c.distilled else learned).state_dict())

    def _learn(
        self,
        network: nn.Module,
        wanted: Callable[[Tensor, Tensor], Tensor],
        states: Tensor,
        noise: float,
        generator: torch.Generator,
        progress: bool,
    ) -> None:
        """Fit a network to the moves that are wanted of states without and with noise."""
        updates, device = self.config.updates, states.device
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
        for _ in track(range(updates), "denoiser", disable=not progress):
            chosen = torch.randint(len(states), (256,), generator=generator, device=device)
            clean = states[chosen]
            scale = torch.rand(len(clean), 1, generator=generator, device=device) * self.std
            drawn = torch.randn(clean.shape, generator=generator, device=device)
            noisy = clean + noise * scale * drawn
            with torch.no_grad():
                moves = wanted(clean, noisy)
            with torch.enable_grad():
                loss = (self._move(noisy, network) - moves).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _layers(size: int, hidden: int, rectified: bool) -> nn.Sequential:
    activation = nn.ReLU if rectified else nn.SiLU
    return nn.Sequential(
        nn.Linear(size, hidden),
        activation(),
        nn.Linear(hidden, hidden),
        activation(),
        nn.Linear(hidden, size),
    )


def fit_denoiser(
    states: Float[Tensor, "n state"],
    config: DenoiserConfig = DenoiserConfig(),
    progress: bool = True,
) -> Denoiser:
    """A denoiser of these states; arguments as for ``Denoiser`` and its ``fit``."""
    denoiser = Denoiser(states.shape[1], config).to(states)
    denoiser.fit(states, progress)
    return denoiser.eval()
