"""Dynamics that are kept on their data; see ``worldmodel/models/denoiser.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from agents.empowerment.dynamics import Dynamics


def denoised(dynamics: Dynamics, denoiser: Callable[[Tensor], Tensor]) -> Dynamics:
    """The same system, led back to its data after every step."""
    return replace(
        dynamics,
        step=lambda state, action, noise: denoiser(dynamics.step(state, action, noise)),
    )
