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
        noise: Noise = Noise(),  # noqa: B008 (frozen)
        samples: int = 128,
        seed: int = 0,
    ) -> None:
        require_at_least(noise.frames, steps=steps)
        inputs = steps * len(dynamics.low)
        if samples % 2 or samples <= 2 * inputs:
            raise ConfigError(f"samples must be even and above {2 * inputs}, got {samples}")
        self.dynamics, self.steps, self.noise = dynamics, steps, noise
        generator = torch.Generator().manual_seed(seed)
        half = 2 * torch.rand(samples // 2, steps, len(dynamics.low), generator=generator) - 1
        # In units of the half-range, (samples, steps, act).
        self.sequences = torch.cat([half, -half]).to(dynamics.low)
        shape = (steps, samples, dynamics.noise_size)
        self.drawn = noise.process * torch.randn(shape, generator=generator).to(dynamics.low)
        self._explained = torch.linalg.qr(self.sequences.flatten(1))[0]

    @torch.no_grad()
    def __call__(self, states: Float[Tensor, "n state"]) -> Float[Tensor, " n"]:
        """Empowerment of each state, nats."""
        return torch.cat([self._judge(part) for part in states.split(64)])

    def _judge(self, states: Tensor) -> Tensor:
        sensed = self._sense(states)
        sensed = sensed - sensed.mean(1, keepdim=True)
        samples, inputs = self._explained.shape
        left = sensed - self._explained @ (self._explained.mT @ sensed)
        whole, rest = (
            torch.linalg.slogdet(
                torch.eye(samples, dtype=sensed.dtype) + spread @ spread.mT / freedom
            ).logabsdet
            for spread, freedom in ((sensed, samples), (left, samples - inputs))
        )
        return 0.5 * (whole - rest)

    def _sense(self, states: Tensor) -> Float[Tensor, "n samples sensed"]:
        """Last observations over the sensor noise, of every state under every sequence."""
        d, count, samples = self.dynamics, len(states), len(self.sequences)
        states, seen = states.repeat_interleave(samples, 0), []
        for t in range(self.steps):
            action = d.middle + (d.high - d.low) / 2 * self.sequences[:, t]
            states = d.step(states, action.repeat(count, 1), self.drawn[t].repeat(count, 1))
            if t >= self.steps - self.noise.frames:
                seen.append(d.observe(states).view(count, samples, -1))
        return torch.cat(seen, 2) / self.noise.sensor
