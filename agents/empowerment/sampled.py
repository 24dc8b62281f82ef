"""Empowerment by a Gaussian channel that is fitted to random actions instead of linearised.

Near a wall that reflects, pushing against it and pushing away end in the same place: actions lose
nothing of their size there, which is all that a Jacobian sees, but something of their difference.
Here many random action sequences are followed from a state, what is sensed at the end is regressed
on them, and what the regression does not explain counts as noise. For a Gaussian source this is a
lower bound on what actions and observations share, since no noise of a given covariance hides more
than Gaussian noise does; on linear systems it is exact.

Source: Hassibi and Hochwald 2003, "How Much Training Is Needed in Multiple-Antenna Wireless
Links?", theorem 1 (worst-case noise). Differs: actions are uniform, so that none is out of range,
which makes the bound approximate.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from agents.empowerment.dynamics import Dynamics
from agents.empowerment.gaussian import Noise
from worldmodel.errors import ConfigError, require_at_least


class SampledEmpowerment:
    """States in, nats out. The source is uniformly random actions; it is not optimised.

    All states are judged by the same action sequences and process noise, so that differences
    between states are not those between draws.

    Args:
        dynamics: The system.
        steps: Actions in a sequence.
        noise: Which noise counts.
        samples: Action sequences, even: every sequence comes with its mirror image. More than twice
            as many as a sequence has numbers, or nothing is left to judge the regression by.
        seed: Of the sequences.

    Raises:
        ConfigError: ``samples`` is odd or too small, or ``steps`` is less than ``noise.frames``.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        steps: int = 15,
        noise: Noise = Noise(),
        samples: int = 128,
        seed: int = 0,
    ) -> None:
        require_at_least(noise.frames, steps=steps)
        require_fit(samples, steps * len(dynamics.low))
        self.dynamics, self.steps, self.noise = dynamics, steps, noise
        low = dynamics.low
        self.sequences = mirrored_sequences(samples, steps, len(low), seed).to(low)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(steps, samples, dynamics.noise_size, generator=generator)
        self.drawn = noise.process * drawn.to(low)

    @torch.no_grad()
    def __call__(self, states: Float[Tensor, "n state"]) -> Float[Tensor, " n"]:
        """Empowerment of each state, nats."""
        return torch.cat([self._judge(part) for part in states.split(64)])

    def _judge(self, states: Tensor) -> Tensor:
        return fitted_nats(self._sense(states) / self.noise.sensor, self.sequences)

    def _sense(self, states: Tensor) -> Float[Tensor, "n samples sensed"]:
        """Last observations of every state under every sequence."""
        d, count, samples = self.dynamics, len(states), len(self.sequences)
        states, seen = states.repeat_interleave(samples, 0), []
        for t in range(self.steps):
            action = d.middle + d.half * self.sequences[:, t]
            states = d.step(states, action.repeat(count, 1), self.drawn[t].repeat(count, 1))
            if t >= self.steps - self.noise.frames:
                seen.append(d.observe(states).view(count, samples, -1))
        return torch.cat(seen, 2)


def require_fit(samples: int, inputs: int) -> None:
    """Raise a ConfigError if so many samples cannot judge a regression on so many inputs."""
    if samples % 2 or samples <= 2 * inputs:
        raise ConfigError(f"samples must be even and above {2 * inputs}, got {samples}")


def mirrored_sequences(
    samples: int, steps: int, act: int, seed: int
) -> Float[Tensor, "samples steps act"]:
    """Uniformly random action sequences in [-1, 1], every one with its mirror image."""
    generator = torch.Generator().manual_seed(seed)
    half = 2 * torch.rand(samples // 2, steps, act, generator=generator) - 1
    return torch.cat([half, -half])


def fitted_nats(
    sensed: Float[Tensor, "n samples sensed"], sequences: Float[Tensor, "samples steps act"]
) -> Float[Tensor, " n"]:
    """What observations tell of the actions that led to them, by linear regression.

    Args:
        sensed: In units of the sensor noise's standard deviation.
        sequences: The actions, of mean 0.

    Returns:
        Half the logarithm of the ratio of the observations' generalised variances, before and after
        the regression; nats.
    """
    basis = torch.linalg.qr(sequences.flatten(1))[0]
    samples, inputs = basis.shape
    sensed = sensed - sensed.mean(1, keepdim=True)
    left = sensed - basis @ (basis.mT @ sensed)
    return 0.5 * (_log_volume(sensed, samples) - _log_volume(left, samples - inputs))


def _log_volume(spread: Float[Tensor, "n samples sensed"], freedom: int) -> Float[Tensor, " n"]:
    """ln det of noise of variance 1 plus the covariance, by its smaller Gram matrix."""
    rows = spread if spread.shape[1] < spread.shape[2] else spread.mT
    one = torch.eye(rows.shape[1], dtype=spread.dtype, device=spread.device)
    return torch.linalg.slogdet(one + rows @ rows.mT / freedom).logabsdet
