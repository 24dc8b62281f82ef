"""Empowerment by a variational bound, for dynamics that are not linear.

With a source w(u|z) over n-step action sequences and a planner q(u|z, x') that guesses from what is
sensed afterwards which actions were taken,

    E[ln q(u|z, x') - ln w(u|z)]  <=  I(u; x' | z)  <=  empowerment of z.

Both are trained to raise the left side, through the differentiable dynamics.

Source: Karl et al. 2019, "Unsupervised Real-Time Control through Variational Empowerment". Differs:
full covariances, since the best source of even a linear channel correlates its actions; and the
source's mean power is bounded to that of uniformly random actions, without which the capacity of a
channel with unbounded inputs is infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.empowerment.dynamics import Dynamics
from agents.empowerment.gaussian import Noise
from worldmodel.errors import ConfigError, require_at_least, require_finite
from worldmodel.progress import track


@dataclass(frozen=True)
class VariationalConfig:
    """Sizes and training.

    Attributes:
        updates: Gradient updates of source and planner together.
        batch_size: States per update.
        learning_rate: Of Adam; it decays to nothing by half a cosine.
        hidden: Units of the hidden layer of either network.
        least_scale: Least scale of the planner, in units of the actions' standard deviation. A
            planner that may be certain drives the bound to infinity where actions are recovered
            almost exactly, and its gradient with it; what it may know is bounded instead.
        samples: Action sequences per state when the bound is evaluated.
        seed: Of everything random.
    """

    updates: int = 1500
    batch_size: int = 256
    learning_rate: float = 3e-3
    hidden: int = 64
    least_scale: float = 0.01
    samples: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("updates", "batch_size", "hidden", "samples")
        require_at_least(1, **{name: getattr(self, name) for name in counts})
        require_at_least(0, seed=self.seed)
        require_finite(0, learning_rate=self.learning_rate)
        if not 0 < self.least_scale < 1:
            raise ConfigError(f"least_scale must lie in (0, 1), got {self.least_scale}")


class VariationalEmpowerment:
    """States in, nats out, once ``fit`` was called.

    Args:
        dynamics: The system. Its process noise is drawn as it is, ``noise.process`` scales it.
        steps: Actions in a sequence.
        noise: Which noise counts; as for ``GaussianEmpowerment``.
        config: Sizes and training.
        state_size: Dimensions of the state.
        observed_size: Scalars in one observation.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        state_size: int,
        observed_size: int,
        steps: int = 10,
        noise: Noise = Noise(),
        config: VariationalConfig = VariationalConfig(),
    ) -> None:
        require_at_least(noise.frames, steps=steps)
        self.dynamics, self.steps, self.noise, self.config = dynamics, steps, noise, config
        self.inputs = steps * len(dynamics.low)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.source = _Gaussian(state_size, self.inputs, config.hidden, 0.0)
            sensed = state_size + noise.frames * observed_size
            self.planner = _Gaussian(sensed, self.inputs, config.hidden, config.least_scale)
        for network in (self.source, self.planner):
            network.to(dynamics.low.device)
        self._generator = torch.Generator().manual_seed(config.seed)

    def fit(self, states: Float[Tensor, "n state"], progress: bool = True) -> list[float]:
        """Train source and planner on random rows of ``states``.

        Returns:
            The mean bound of every update, nats.
        """
        networks = nn.ModuleList([self.source, self.planner])
        optimizer = torch.optim.Adam(networks.parameters(), self.config.learning_rate)
        updates = self.config.updates
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
        history = []
        for _ in track(range(updates), "empowerment", disable=not progress):
            size = (self.config.batch_size,)
            rows = torch.randint(len(states), size, generator=self._generator).to(states.device)
            bound = self._bound(states[rows]).mean()
            optimizer.zero_grad()
            (-bound).backward()
            nn.utils.clip_grad_norm_(networks.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            history.append(bound.item())
        return history

    @torch.no_grad()
    def __call__(self, states: Float[Tensor, "n state"]) -> Float[Tensor, " n"]:
        """The bound at each state, the mean over ``samples`` action sequences, nats."""
        return self.samples(states).mean(0)

    @torch.no_grad()
    def samples(self, states: Float[Tensor, "n state"]) -> Float[Tensor, "samples n"]:
        """Single draws of the bound, whose spread says how sure their mean is."""
        many = self.config.samples
        return self._bound(states.repeat(many, 1)).view(many, len(states))

    def _bound(self, states: Tensor) -> Tensor:
        mean, factor = self.source(states)
        # E|u|^2 = |mean|^2 + |factor|^2, brought down to the power of random actions.
        power = mean.square().sum(1) + factor.square().sum((1, 2))
        shrink = (self.inputs / power).clamp_max(1).sqrt()
        mean, factor = mean * shrink[:, None], factor * shrink[:, None, None]
        draw = self._draw(len(states), self.inputs)
        sequence = mean + (factor @ draw.unsqueeze(2)).squeeze(2)
        sensed = self._sense(states, sequence)
        guess = self.planner(torch.cat([states, sensed], 1))
        return _log_prob(sequence, *guess) - _log_prob(sequence, mean, factor)

    def _sense(self, states: Tensor, sequence: Tensor) -> Tensor:
        d, noise, seen = self.dynamics, self.noise, []
        for t, action in enumerate(sequence.unflatten(1, (self.steps, -1)).unbind(1)):
            drawn = noise.process * self._draw(len(states), d.noise_size)
            states = d.step(states, d.middle + d.scale * action, drawn)
            if t >= self.steps - noise.frames:
                seen.append(d.observe(states))
        shown = torch.cat(seen, 1)
        # Scaled to the noise, so that the planner's inputs are of order one where it matters.
        return shown / noise.sensor + self._draw(*shown.shape)

    def _draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator).to(self.dynamics.low)


class _Gaussian(nn.Module):
    """Inputs to mean and Cholesky factor of a Gaussian: a linear map plus a hidden layer."""

    def __init__(self, inputs: int, size: int, hidden: int, least: float) -> None:
        super().__init__()
        self.size, self.least = size, least
        outputs = size + size * (size + 1) // 2
        self.linear = nn.Linear(inputs, outputs)
        self.curved = nn.Sequential(
            nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs)
        )
        for layer in (self.linear, self.curved[2]):
            nn.init.zeros_(layer.get_parameter("weight"))
            nn.init.zeros_(layer.get_parameter("bias"))
        self.rows, self.columns = torch.tril_indices(size, size)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        out = self.linear(inputs) + self.curved(inputs)
        lower = out.new_zeros(len(out), self.size, self.size)
        lower[:, self.rows, self.columns] = out[:, self.size :]
        diagonal = nn.functional.softplus(lower.diagonal(dim1=1, dim2=2) + 0.5413) + self.least
        return out[:, : self.size], lower.tril(-1) + torch.diag_embed(diagonal)


def _log_prob(value: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """ln N(value; mean, factor factor^T), nats."""
    white = torch.linalg.solve_triangular(factor, (value - mean).unsqueeze(2), upper=False)
    scales = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    constant = 0.5 * value.shape[1] * math.log(2 * math.pi)
    return -0.5 * white.square().sum((1, 2)) - scales - constant
