"""What is predicted of a foreign system, also under actions drawn as nothing was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from foreign_systems import Foreign

from worldmodel import data
from worldmodel.data.babble import describe
from worldmodel.evaluation.evaluate import evaluate
from worldmodel.plots.dream import dream_film
from worldmodel.plots.film import write_gif
from worldmodel.plots.imagination import imagine
from worldmodel.types import Batch
from worldmodel.world.world import World

HORIZONS = (1, 5, 10, 30)
FILTERED = 15  # frames before the prediction begins
_FILMED, _FPS = 100, 20.0  # frames of the film, and how many make a second


def fractions(
    metrics: dict[str, Any], test: Batch, enough: int
) -> dict[str, dict[str, float | None]]:
    """Errors as fractions of the frames' variance, of the model and of the baselines.

    Args:
        metrics: Of an evaluation.
        test: What it was made on.
        enough: Episodes that must last; None stands for an error at a frame that fewer reach.
    """
    reached = test.frame_mask.sum(0).tolist()
    errors = {
        "model": metrics["prediction_mse"],
        "predictive_mean": metrics["prediction_mse_averaged"],
        **metrics["prediction_mse_baseline"],
    }

    def told(error: list[float], k: int) -> float | None:
        last = FILTERED + k - 1
        if last >= len(reached) or reached[last] < enough:
            return None
        return error[k - 1] / metrics["prediction_variance"]

    return {name: {str(k): told(error, k) for k in HORIZONS} for name, error in errors.items()}


def under_unseen_actions(world: World, system: Foreign, seed: int) -> dict[str, Any]:
    """Fractions as above by the way that actions are drawn, each with its own recording."""
    found = {}
    for name, process in system.unseen.items():
        splits = {"test": data.SplitConfig(system.held_out, system.steps)}
        source = system.source
        recorded = data.collect(
            source.env_id,
            source.env_kwargs,
            process,
            splits,
            seed + 1000,
            num_envs=1,
            wrapping=source.wrapping,
        )
        metrics = evaluate(world, recorded, seed).metrics
        told = fractions(metrics, recorded.test.padded(), system.enough)
        found[name] = {"process": describe(process), **told}
    return found


def film(world: World, test: Batch, path: Path, episodes: int = 2) -> None:
    """The longest test episodes as they were, were filtered and were dreamt from frame 15 on."""
    longest = np.argsort(-test.mask.sum(1).numpy(), kind="stable")[:episodes].tolist()
    shown = test[longest].window(0, min(_FILMED, test.mask.shape[1]))
    write_gif(dream_film(imagine(world, shown, FILTERED), _FPS), path, _FPS)
