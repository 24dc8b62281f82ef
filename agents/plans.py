"""What a planner remembers, and how its noise is correlated in time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Plan(NamedTuple):
    """What a planner remembers from one step to the next.

    Attributes:
        mean: (n, horizon, act); of choices their probabilities.
        kept: (n, k, horizon, act), sequences that were among the best.
        calls: How many steps were planned: which random numbers come next.
    """

    mean: Float[np.ndarray, "n horizon act"]
    kept: Float[np.ndarray, "n k horizon act"]
    calls: int


def colouring(horizon: int, exponent: float) -> Float[np.ndarray, "horizon horizon"]:
    """White noise (..., horizon) times this has a power of 1 / frequency^exponent, and variance 1.

    Source: Timmer and Koenig 1995, "On generating power law noise", as a linear map. The lowest
    frequency has the power of the next.
    """
    frequency = np.fft.rfftfreq(horizon)
    frequency[0] = frequency[1] if horizon > 1 else 1.0
    kernel = np.fft.irfft(frequency ** (-exponent / 2), horizon)
    kernel /= np.linalg.norm(kernel)
    return np.stack([np.roll(kernel, t) for t in range(horizon)]).astype(np.float32)


def shifted(plans: Float[np.ndarray, "*n horizon act"], last: np.ndarray) -> np.ndarray:
    """A step later: the first action was taken, and another comes last."""
    end = np.broadcast_to(last, plans[..., :1, :].shape)
    return np.concatenate([plans[..., 1:, :], end], -2).astype(np.float32)
