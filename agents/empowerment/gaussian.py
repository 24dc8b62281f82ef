"""Empowerment by a linearised Gaussian channel.

Around the trajectory that the middle action leads to, the last observations are linear in the
actions and in the process noise. With Gaussian noise this is a vector Gaussian channel, whose
capacity is known: water-filling over the singular values of the whitened channel matrix.

Source: Salge, Glackin and Polani 2013; water-filling: Cover and Thomas 2006, section 9.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacfwd, jacrev, jvp, vmap

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
        by_action, by_noise = (vmap(jacrev(_one(d.step), argnums)) for argnums in (1, 2))
        process = self.noise.process > 0 and d.noise_size > 0
        widths = self.steps * act, self.steps * d.noise_size if process else 0
        # Columns of the state's sensitivity: to all actions so far, then to all noise so far.
        to_actions, to_noise = states.new_zeros(n, size, 0), states.new_zeros(n, size, 0)

        def stepped(rows: Tensor) -> Tensor:
            return d.step(rows, action[: len(rows)], still[: len(rows)])

        seen = []
        for t in range(self.steps):
            carried = _along(stepped, states, torch.cat([to_actions, to_noise], 2))
            to_actions, to_noise = carried.split([to_actions.shape[2], to_noise.shape[2]], 2)
            fresh = by_action(states, action, still) * d.scale
            to_actions = torch.cat([to_actions, fresh], 2)
            if process:
                moved = self.noise.process * by_noise(states, action, still)
                to_noise = torch.cat([to_noise, moved], 2)
            states = d.step(states, action, still)
            if t >= self.steps - self.noise.frames:
                columns = map(_padded, (to_actions, to_noise), widths)
                seen.append(_sensed(d.observe, states, torch.cat(list(columns), 2)))
        return _whiten(torch.stack(seen).sum(0) / self.noise.sensor**2, *widths), widths[0]


def _one(function):
    """The function of single rows that is the given one of batches of one row."""
    return lambda *rows: function(*(row.unsqueeze(0) for row in rows)).squeeze(0)


def _padded(columns: Tensor, width: int) -> Tensor:
    """With zero columns for what has not happened yet."""
    return torch.nn.functional.pad(columns, (0, width - columns.shape[2]))


def _few(states: Tensor, columns: Tensor) -> bool:
    """Whether derivatives along the columns cost less than those along all of the state's axes."""
    return columns.shape[2] < states.shape[1]


def _pushed(function: Callable[[Tensor], Tensor], states: Tensor, columns: Tensor) -> Tensor:
    """J C (n, out, columns) by one derivative for each column."""

    def along(state: Tensor, tangents: Tensor) -> Tensor:
        return vmap(lambda tangent: jvp(_one(function), (state,), (tangent,))[1], 1, 1)(tangents)

    return vmap(along)(states, columns)


def _along(function: Callable[[Tensor], Tensor], states: Tensor, columns: Tensor) -> Tensor:
    """J C (n, out, columns) for the function's Jacobian J at states and columns C."""
    if not columns.shape[2]:
        return columns
    if _few(states, columns):
        return _pushed(function, states, columns)
    return vmap(jacrev(_one(function)))(states) @ columns


def _sensed(observe: Callable[[Tensor], Tensor], states: Tensor, columns: Tensor) -> Tensor:
    """C^T J^T J C (n, columns, columns) for the Jacobian of what is sensed."""
    if _few(states, columns):
        shown = _pushed(observe, states, columns)
        return shown.mT @ shown
    # By the smaller product first: what is sensed may be a million pixels.
    shown = vmap(jacfwd(_one(observe)))(states)
    return columns.mT @ (shown.mT @ shown) @ columns


def _whiten(both: Tensor, inputs: int, noises: int) -> Tensor:
    """A^T S^-1 A for the noise covariance S = I + W W^T, by the matrix inversion lemma.

    Args:
        both: (A W)^T (A W), so that neither A nor W, which have a row per pixel of every frame, is
            needed.
        inputs: Columns of A.
        noises: Columns of W.
    """
    actions = both[:, :inputs, :inputs]
    if not noises:
        return actions
    mixed, noise = both[:, inputs:, :inputs], both[:, inputs:, inputs:]
    inner = noise + torch.eye(noise.shape[1], dtype=noise.dtype, device=noise.device)
    return actions - mixed.mT @ torch.linalg.solve(inner, mixed)
