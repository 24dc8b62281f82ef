"""What an evaluation shows to be wrong with a model, in words: a bad one must not look good."""

from __future__ import annotations

from typing import Any

# Of the frames' variance, one step ahead: beyond it a model knows next to nothing.
_BLIND = 0.5
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
                    "--model.recognition.kind fusion"
                )
                break
    return found
