"""What an evaluation shows to be wrong with a model, in words: a bad one must not look good."""

from __future__ import annotations

from typing import Any

from worldmodel.evaluation.recovery import BLIND, SHORTEST, WITHIN

_DISTURBANCES = {
    "blind": f"{BLIND} that it did not see",
    "kidnapped": "its belief was put where another episode is",
}
# Of the frames' variance, one step ahead: beyond it a model knows next to nothing.
_BLIND = 0.5
# R^2 from which on a variable is held well enough that a filter ought to come back to it.
_HELD = 0.5
# R^2 that the live filter may lose between stretches of an episode.
_LOST = 0.2


def shortcomings(metrics: dict[str, Any]) -> list[str]:
    """What a user should know before anything is built on the model; usually nothing.

    Args:
        metrics: Of an ``Evaluation``.
    """
    found = []
    error = metrics["prediction_mse"][0] / metrics["prediction_variance"]
    if error > _BLIND:
        found.append(
            f"one step ahead the model errs by {error:.0%} of the frames' variance: it has learned "
            "next to nothing; train longer, or look at what 'worldmodel train --help' says of "
            "--model.latent-size, --model.recognition.kind and --learning-rate"
        )
    elif metrics["prediction_mse"][0] > metrics["prediction_mse_baseline"]["last_frame"][0]:
        found.append("one step ahead a frame that stands still is a better prediction")
    for name, stretches in metrics.get("tracking", {}).items():
        first, *later = stretches.values()
        for stretch, r2 in zip(list(stretches)[1:], later, strict=True):
            if r2 < first - _LOST:
                found.append(
                    f"the live filter loses {name}: R² {first:.2f} in its first frames, {r2:.2f} "
                    f"in frames {stretch}; record longer episodes, or try "
                    "--model.recognition.kind fusion, if it is not that"
                )
                break
    return found + _unrecovered(metrics)


def _unrecovered(metrics: dict[str, Any]) -> list[str]:
    """What the live filter does not come back from."""
    recovery = metrics.get("recovery", {})
    if recovery is None:
        return [
            "whether the live filter comes back after it was led astray is not measured: most test "
            f"episodes are shorter than {SHORTEST} steps; record longer ones by --test-steps, "
            "where the system lets them last"
        ]
    found = []
    for disturbance, after in _DISTURBANCES.items():
        lost = [
            name
            for name, frames in recovery.get(disturbance, {}).items()
            if frames is None and recovery["level"][name] > _HELD
        ]
        if lost:
            found.append(
                f"the live filter does not come back to {', '.join(lost)} within {WITHIN} frames "
                f"after {after}; record longer episodes, or try --model.recognition.kind fusion, "
                "if it is not that"
            )
    return found
