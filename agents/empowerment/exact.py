"""Exact empowerment of small discrete worlds, by the Blahut-Arimoto algorithm."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.errors import ConvergenceError, ShapeError


def blahut_arimoto(
    channel: Float[Tensor, "*batch inputs outputs"],
    tolerance: float = 1e-6,
    max_iterations: int = 100_000,
) -> Float[Tensor, "*batch"]:
    """Capacity of discrete memoryless channels.

    Args:
        channel: p(s' | a): rows are distributions.
        tolerance: Nats. Iteration stops when the capacity's upper bound is this close to its lower
            bound in every channel; what is returned lies between the two.
        max_iterations: At most.

    Returns:
        Nats, >= 0, in 64 bits.

    Raises:
        ShapeError: A row is no distribution.
        ConvergenceError: The bounds did not meet in time; the message says how far apart they are.

    Source: Blahut 1972 and Arimoto 1972; the bounds are Blahut's theorem 2.
    """
    p = channel.double()
    if p.ndim < 2 or (p < 0).any() or ((p.sum(-1) - 1).abs() > 1e-6).any():
        raise ShapeError(
            "channel must be (..., inputs, outputs) with rows >= 0 that sum to 1, got "
            f"{tuple(p.shape)} with sums {p.sum(-1) if p.ndim else p}"
        )
    entropy = torch.xlogy(p, p).sum(-1)
    gap = math.inf
    source = torch.full_like(p[..., 0], 1 / p.shape[-2])
    for _ in range(max_iterations):
        outputs = (source.unsqueeze(-2) @ p).squeeze(-2)
        # What no source reaches is reached by no row that has weight: its logarithm never counts.
        gain = entropy - (p * outputs.clamp_min(1e-300).log().unsqueeze(-2)).sum(-1)
        least, greatest = (source * gain).sum(-1), gain.amax(-1)
        gap = (greatest - least).amax().item()
        if gap < tolerance:
            return least.clamp_min(0)
        source = (source.log() + gain).softmax(-1)
    raise ConvergenceError(
        f"after {max_iterations} iterations the capacity is known to {gap:.2g} nats only, "
        f"{tolerance} were asked for"
    )


def sequence_channel(
    transitions: Float[Tensor, "actions states states"], steps: int
) -> Float[Tensor, "states sequences states"]:
    """The channel from open-loop action sequences to the state they lead to, from every state.

    Args:
        transitions: p(s' | s, a), first axis the action.
        steps: Actions in a sequence; there are ``actions ** steps`` sequences.

    Returns:
        p(s_n | s_0, a_1 ... a_n), for ``blahut_arimoto``.
    """
    reached = torch.eye(transitions.shape[1], dtype=transitions.dtype).unsqueeze(1)
    for _ in range(steps):
        # Sequences so far times one more action each.
        reached = torch.einsum("sqi,aij->sqaj", reached, transitions).flatten(1, 2)
    return reached
