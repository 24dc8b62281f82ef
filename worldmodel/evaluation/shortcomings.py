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
# Of the error of knowing nothing: as good as that.
_NOTHING = 0.95
# By how much others' actions must mislead at least.
_OWED = 1.02
# What a second frame must tell beyond the first, of what that leaves open, before a velocity is
# asked for, and how far from a still frame's the error of a model that holds one is.
_REMEMBERED, _MOVED = 0.3, 0.5
# R^2 from which on a variable is held well enough that a filter ought to come back to it.
_HELD = 0.5
# R^2 that the live filter may lose between stretches, or lack of what two frames show.
_LOST = 0.2


def unlearned(
    learned: dict[str, Any], controlled: bool = True, collected: bool = True
) -> list[str]:
    """Whether the model has learned nothing at all, or nothing of actions or velocities.

    Args:
        learned: As ``evaluation.learned.learned`` gives it.
        controlled: Whether actions should have an effect.
        collected: Whether ``worldmodel collect`` can record more, so that its flags help.
    """
    error, mean = learned["prediction"], learned["mean_frame"]
    if mean is None:
        return ["NOTHING LEARNED: all frames are the same; look at what the environment shows"]
    if error is None or error >= _NOTHING * mean:
        by = "are not finite" if error is None else f"err by {error:.0%} of the frames' variance"
        return [
            f"NOTHING LEARNED: predictions {by}; the mean frame errs by {mean:.0%}, the last frame "
            f"by {learned['last_frame']:.0%}: train longer (--updates, --minutes), record more, "
            "see what is suspicious in the data ('worldmodel data show'), and look at "
            "--model.latent-size and --learning-rate"
        ]
    idle = _idle(error, learned["exchanged_actions"], collected) if controlled else []
    return idle + _still(learned)


def _idle(error: float, exchanged: list[float], collected: bool) -> list[str]:
    """Unless errors under others' actions are greater, and by more than chance."""
    other = sum(exchanged) / max(1, len(exchanged))
    if not exchanged or (error < min(exchanged) and error * _OWED < other):
        return []
    held = " (collect --process held, --frame-skip)" if collected else ""
    return [
        f"NO EFFECT OF ACTIONS: predictions err by {error:.1%} of the variance under the recorded "
        f"actions, by {other:.1%} under those of other episodes: an agent will find nothing to do; "
        f"see that the environment uses what it is given, hold actions for longer{held}, and train "
        "longer (--updates)"
    ]


def _still(learned: dict[str, Any]) -> list[str]:
    """Unless the frames before the last one are of use, or nothing is left for them to tell."""
    ahead, one, more = (learned[k] for k in ("next_frame", "next_frame_of_one", "memory"))
    if None in (ahead, one, more) or more < _REMEMBERED or ahead < _NOTHING * one:
        return []
    if ahead < _MOVED * learned["next_frame_still"]:
        return []
    return [
        f"NO VELOCITY: the next frame is predicted no better from all frames ({ahead:.1%} of the "
        f"variance) than from one ({one:.1%}), though in the data a second frame tells {more:.0%} "
        "of what one leaves open; train longer (--updates), with less looked at "
        "(--dropout-fraction), or with more room (--model.latent-size)"
    ]


def shortcomings(
    metrics: dict[str, Any], controlled: bool = True, collected: bool = True
) -> list[str]:
    """What a user should know before anything is built on the model; usually nothing.

    Args:
        metrics: Of an ``Evaluation``.
        controlled: Whether actions should have an effect.
        collected: Whether ``worldmodel collect`` can record more, so that its flags help.
    """
    found = unlearned(metrics["learned"], controlled, collected) if "learned" in metrics else []
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
    return found + _unheld(metrics) + _unrecovered(metrics, collected)


def _unheld(metrics: dict[str, Any]) -> list[str]:
    """What two neighbouring frames show and the live filter does not hold, late in episodes."""
    missed = []
    for name, shown in (metrics.get("ceiling") or {}).items():
        told = [metrics[by][name] for by in ("tracking", "tracking_network") if metrics.get(by)]
        for stretch, ceiling in reversed(shown.items()):
            held = [by[stretch] for by in told if by.get(stretch) is not None]
            if ceiling is None or not held:
                continue
            if ceiling > _HELD and max(held) < ceiling - _LOST:
                missed.append(f"{name} (R² {max(held):.2f}, from two frames {ceiling:.2f})")
            break
    if not missed:
        return []
    return [
        f"frames show what the live filter does not hold: {', '.join(missed)}; record more "
        "episodes (each with a start of its own), train longer (--updates), or give it more room "
        "(--model.latent-size 16)"
    ]


def _unrecovered(metrics: dict[str, Any], collected: bool) -> list[str]:
    """What the live filter does not come back from."""
    recovery = metrics.get("recovery", {})
    if recovery is None:
        longer = " (collect --test-steps)" if collected else ""
        return [
            "whether the live filter comes back after it was led astray is not measured: most test "
            f"episodes are shorter than {SHORTEST} steps; record longer ones{longer}, where the "
            "system lets them last"
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
