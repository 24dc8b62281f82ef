"""Is the true state in the latent state? Ordinary least squares from one to the other.

Source: Karl et al. 2017, table 1: sampled latents of the test set, all time steps pooled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from worldmodel.errors import DivergenceError, ShapeError

# From ground truth (*n, states) to named variables (*n) that a latent state ought to hold.
Targets = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Regression:
    """Fit of each ground-truth variable.

    Attributes:
        coefficients: (latent + 1, targets), the intercept last.
        prediction: (n, targets), the fitted values.
        r2: (targets,), coefficient of determination; 0 for a variable that does not vary.
        log_likelihood: (targets,), nats summed over the n samples, at the residuals' own variance.
    """

    coefficients: Float[np.ndarray, "features targets"]
    prediction: Float[np.ndarray, "n targets"]
    r2: Float[np.ndarray, " targets"]
    log_likelihood: Float[np.ndarray, " targets"]

    def predict(self, latents: Float[np.ndarray, "*n latent"]) -> Float[np.ndarray, "*n targets"]:
        """Values of the targets read off other latents by the same fit."""
        return latents.astype(np.float64) @ self.coefficients[:-1] + self.coefficients[-1]


def regress(
    latents: Float[np.ndarray, "n latent"], targets: Float[np.ndarray, "m targets"]
) -> Regression:
    """Ordinary least squares with intercept, in float64.

    Args:
        latents: Samples of the latent state.
        targets: Ground truth at the same n times.

    Raises:
        ShapeError: The two differ in length, or there are fewer samples than coefficients.
        DivergenceError: Latents are not finite; the message says how many.
    """
    if len(latents) != len(targets) or len(latents) <= latents.shape[1] + 1:
        raise ShapeError(
            f"need as many targets as latents and more than {latents.shape[1] + 1}, "
            f"got {latents.shape} and {targets.shape}"
        )
    if lost := int((~np.isfinite(latents)).any(1).sum()):
        raise DivergenceError(
            f"{lost} of {len(latents)} latent states are not finite: the model's filter diverges"
        )
    design = np.column_stack([latents, np.ones(len(latents))]).astype(np.float64)
    truth = targets.astype(np.float64)
    coefficients = np.linalg.lstsq(design, truth, rcond=None)[0]
    prediction = design @ coefficients
    # A perfect fit leaves rounding errors at best: without a floor its likelihood is infinite.
    floor = np.finfo(np.float64).eps ** 2 * np.maximum((truth**2).mean(0), 1.0)
    residual = np.maximum(((truth - prediction) ** 2).mean(0), floor)
    log_likelihood = -0.5 * len(truth) * (np.log(2 * np.pi * residual) + 1)
    return Regression(coefficients, prediction, r_squared(truth, prediction), log_likelihood)


def r_squared(
    truth: Float[np.ndarray, "n targets"], prediction: Float[np.ndarray, "n targets"]
) -> Float[np.ndarray, " targets"]:
    """Coefficient of determination of any prediction, fitted to these samples or not.

    Returns:
        At most 1; negative where the mean of ``truth`` predicts better; 0 where ``truth`` does
        not vary, or there is none, so that there is nothing to explain.
    """
    if not len(truth):
        return np.zeros(truth.shape[1:])
    residual = ((truth - prediction) ** 2).mean(0)
    total = truth.var(0)
    varies = total > np.finfo(np.float64).eps ** 2 * np.maximum((truth**2).mean(0), 1.0)
    return np.where(varies, 1 - residual / np.where(varies, total, 1.0), 0.0)


def state_targets(states: Float[np.ndarray, "*n states"]) -> dict[str, Float[np.ndarray, "*n"]]:
    """Every component of the state as it is: ``state_0``, ``state_1`` and so on."""
    return {f"state_{i}": states[..., i] for i in range(states.shape[-1])}


def named(*names: str) -> Targets:
    """Every component of the state under a name of its own."""

    def targets(states: Float[np.ndarray, "*n states"]) -> dict[str, Float[np.ndarray, "*n"]]:
        if states.shape[-1] != len(names):
            return state_targets(states)
        return {name: states[..., i] for i, name in enumerate(names)}

    return targets
