"""Empowerment by a linearised Gaussian channel.

Around the trajectory that the middle action leads to, the last observations are linear in the
actions and in the process noise. With Gaussian noise this is a vector Gaussian channel, whose
capacity is known: water-filling over the singular values of the whitened channel matrix.

Source: Salge, Glackin and Polani 2013; water-filling: Cover and Thomas 2006, section 9.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacfwd, jacrev, vmap

from agents.empowerment.dynamics import Dynamics
from worldmodel.errors import ConfigError, require_at_least, require_finite


def water_filling(
    gains: Float[Tensor, "*batch channels"], power: float | Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Capacity of parallel Gaussian channels y_i = g_i x_i + noise of variance 1, sum E x_i^2 <= P.

    Args:
        gains: Singular values g_i, of either sign.
        power: P > 0.

    Returns:
        Nats; differentiable in gains and power.
    """
    return capacity(gains.square(), torch.as_tensor(power, dtype=gains.dtype, device=gains.device))


def capacity(squared: Tensor, power: Tensor) -> Tensor:
    """Water-filling from squared gains."""
    # So weak a channel gets no water before the others drown.
    strong = squared.clamp_min(1e-30).sort(-1, descending=True).values
    floor = 1 / strong
    count = torch.arange(1, strong.shape[-1] + 1, dtype=strong.dtype, device=strong.device)
    level = (power.unsqueeze(-1) + floor.cumsum(-1)) / count
    # The level if the best k channels are used; as many are as stand under their own level.
    used = (level > floor).sum(-1, keepdim=True)
    level = level.gather(-1, used - 1)
    return 0.5 * torch.where(count <= used, (level * strong).log(), 0.0).sum(-1)


@dataclass(frozen=True)
class Noise:
    """Which noise makes the channel's capacity finite; it decides which states are preferred.

    Latent units mean nothing by themselves, so capacity is only comparable between models if the
    noise lives where units mean something: in the observation.

    Attributes:
        sensor: Standard deviation of the noise on every scalar of the observations that are
            sensed, in their units (pixels: fraction of full brightness). Above 0, for without noise
            the capacity is infinite.
        frames: How many final observations are sensed; two show velocities, where one does not.
        process: Factor on the system's own process noise in every step; 0 leaves it out.
    """

    sensor: float = 1.0
    frames: int = 2
    process: float = 0.0

    def __post_init__(self) -> None:
        require_at_least(1, frames=self.frames)
        if not 0 < self.sensor < math.inf:
            raise ConfigError(f"sensor must be finite and > 0, got {self.sensor}")
        require_finite(0, process=self.process)


class GaussianEmpowerment:
    """States in, nats out; differentiable in the states.

    The source's power is that of uniformly random actions: in units of their standard deviation,
    one per step and action component.

    Args:
        dynamics: The system.
        steps: Actions in a sequence, n.
        noise: Which noise counts.

    Raises:
        ConfigError: ``steps`` is less than ``noise.frames``.
    """

    def __init__(self, dynamics: Dynamics, steps: int = 10, noise: Noise = Noise()) -> None:
        require_at_least(noise.frames, steps=steps)
        self.dynamics, self.steps, self.noise = dynamics, steps, noise

    def __call__(self, states: Float[Tensor, "n state"]) -> Float[Tensor, " n"]:
        """Empowerment of each state, nats."""
        information, power = self.information(states)
        return capacity(torch.linalg.eigvalsh(information), states.new_tensor(float(power)))

    def information(self, states: Float[Tensor, "n state"]) -> tuple[Tensor, int]:
        """H^T Sigma^-1 H (n, inputs, inputs) of the channel H from unit-variance actions, and P."""
        d, n = self.dynamics, len(states)
        act, size = len(d.low), states.shape[1]
        action = d.middle.expand(n, act)
        still = states.new_zeros(n, d.noise_size)
        by_state, by_action, by_noise = (
            vmap(jacrev(_one(d.step), argnums)) for argnums in (0, 1, 2)
        )
        process = self.noise.process > 0 and d.noise_size > 0
        # Columns of the state's sensitivity: to all actions so far, then to all noise so far.
        to_actions, to_noise = states.new_zeros(n, size, 0), states.new_zeros(n, size, 0)
        terms = []
        for t in range(self.steps):
            carry = by_state(states, action, still)
            fresh = by_action(states, action, still) * d.scale
            to_actions = torch.cat([carry @ to_actions, fresh], 2)
            if process:
                moved = self.noise.process * by_noise(states, action, still)
                to_noise = torch.cat([carry @ to_noise, moved], 2)
            states = d.step(states, action, still)
            if t >= self.steps - self.noise.frames:
                shown = vmap(jacfwd(_one(d.observe)))(states) / self.noise.sensor
                metric = shown.mT @ shown
                terms.append(
                    (
                        metric,
                        _padded(to_actions, self.steps * act),
                        _padded(to_noise, self.steps * d.noise_size if process else 0),
                    )
                )
        return _whiten(terms), self.steps * act


def _one(function):
    """The function of single rows that is the given one of batches of one row."""
    return lambda *rows: function(*(row.unsqueeze(0) for row in rows)).squeeze(0)


def _padded(columns: Tensor, width: int) -> Tensor:
    """With zero columns for what has not happened yet."""
    return torch.nn.functional.pad(columns, (0, width - columns.shape[2]))


def _whiten(terms: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """A^T S^-1 A for the noise covariance S = I + W W^T, by the matrix inversion lemma.

    Only products over latent dimensions are formed: A and W, which have a row per pixel of every
    frame, never are.
    """
    actions = torch.stack([a.mT @ m @ a for m, a, _ in terms]).sum(0)
    if not terms[0][2].shape[2]:
        return actions
    mixed = torch.stack([w.mT @ m @ a for m, a, w in terms]).sum(0)
    noise = torch.stack([w.mT @ m @ w for m, _, w in terms]).sum(0)
    inner = noise + torch.eye(noise.shape[1], dtype=noise.dtype, device=noise.device)
    return actions - mixed.mT @ torch.linalg.solve(inner, mixed)
