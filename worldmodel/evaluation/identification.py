"""Is the true state in the latent state? Ordinary least squares from one to the other.

Source: Karl et al. 2017, table 1: sampled latents of the test set, all time steps pooled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from worldmodel.errors import ShapeError


@dataclass(frozen=True)
class Regression:
    """Fit of each ground-truth variable.

    Attributes:
        prediction: (n, targets), the fitted values.
        r2: (targets,), coefficient of determination.
        log_likelihood: (targets,), nats summed over the n samples, at the residuals' own variance.
    """

    prediction: Float[np.ndarray, "n targets"]
    r2: Float[np.ndarray, "targets"]
    log_likelihood: Float[np.ndarray, "targets"]


def regress(
    latents: Float[np.ndarray, "n latent"], targets: Float[np.ndarray, "n targets"]
) -> Regression:
    """Ordinary least squares with intercept, in float64.

    Args:
        latents: Samples of the latent state.
        targets: Ground truth at the same times.

    Raises:
        ShapeError: The two differ in length, or there are fewer samples than coefficients.
    """
    if len(latents) != len(targets) or len(latents) <= latents.shape[1] + 1:
        raise ShapeError(
            f"need as many targets as latents and more than {latents.shape[1] + 1}, "
            f"got {latents.shape} and {targets.shape}"
        )
    design = np.column_stack([latents, np.ones(len(latents))]).astype(np.float64)
    truth = targets.astype(np.float64)
    prediction = design @ np.linalg.lstsq(design, truth, rcond=None)[0]
    residual = ((truth - prediction) ** 2).mean(0)
    total = truth.var(0)
    log_likelihood = -0.5 * len(truth) * (np.log(2 * np.pi * residual) + 1)
    return Regression(prediction, 1 - residual / total, log_likelihood)


def pendulum_targets(states: Float[np.ndarray, "*n 2"]) -> dict[str, Float[np.ndarray, "*n"]]:
    """sin, cos and velocity of pendulum states (angle in rad, velocity in rad/s)."""
    angle, velocity = states[..., 0], states[..., 1]
    return {"sin": np.sin(angle), "cos": np.cos(angle), "velocity": velocity}
