"""What a model has learned at all: beside predictions that know nothing, and what they owe to.

All errors are fractions of the frames' variance, which is what the mean frame errs by.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from worldmodel.data.influence import memory
from worldmodel.evaluation.prediction import baseline_errors, frame_variance, open_loop_error
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.types import Batch
from worldmodel.world.world import World

# Exchanges of actions between episodes, at most.
_EXCHANGES = 9


def standing(model: StateSpaceModel, batch: Batch, filtered: int) -> dict[str, float]:
    """Mean errors over the horizons of what knows nothing, as fractions of the frames' variance.

    Args:
        model: Whose scaling is used, and nothing else.
        batch: Episodes.
        filtered: Frames before the prediction starts.

    Returns:
        ``last_frame``, ``mean_frame``, and ``variance``, the unit; NaN if no frame differs from
        another.
    """
    variance = frame_variance(model, batch)
    errors = baseline_errors(model, batch, filtered)
    fractions = {
        name: error.mean().item() / (variance or math.nan) for name, error in errors.items()
    }
    return {**fractions, "variance": variance or math.nan}


@torch.no_grad()
def learned(world: World, batch: Batch, filtered: int) -> dict[str, Any]:
    """What predictions owe to actions and to the frames before the last one.

    Args:
        world: Of any model.
        batch: Held-out episodes.
        filtered: Frames before the prediction starts.

    Returns:
        ``prediction``, ``last_frame`` and ``mean_frame``; ``exchanged_actions``, errors under the
        actions of other episodes of about the same length, in several draws; ``next_frame`` and
        ``next_frame_still``, the errors of the model one step ahead and of the last frame;
        ``next_frame_of_one``, the model's from one frame alone, and ``memory``, how much more two
        frames tell than one (``memory`` of ``worldmodel.data.influence``); None where something is
        not known, or not finite.
    """
    model = world.model
    known = standing(model, batch, filtered)
    variance = known.pop("variance")

    def error(of: Batch, after: int) -> float | None:
        mean = open_loop_error(world, of, after).mean().item() / variance
        return mean if math.isfinite(mean) else None

    order = batch.mask.sum(1).argsort(stable=True)
    exchanged = (
        error(replace(batch, actions=_rolled(batch.actions, order, k)), filtered)
        for k in range(1, min(_EXCHANGES + 1, len(batch)))  # by their number: each has its own
    )
    near, remembers = batch.window(0, filtered), filtered > 1 and batch.seen is None
    still = baseline_errors(model, near, filtered)["last_frame"].item() / variance
    numbers = {**known, "next_frame_still": still}
    return {
        "prediction": error(batch, filtered),
        **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
        "exchanged_actions": [value for value in exchanged if value is not None],
        "next_frame": error(near, filtered),
        "next_frame_of_one": error(batch.window(filtered - 1, 1), 1) if remembers else None,
        "memory": _memory(world, batch),
    }


def _rolled(actions: Tensor, order: Tensor, by: int) -> Tensor:
    """Each episode's replaced by those of the episode ``by`` places on in this order."""
    found = torch.empty_like(actions)
    found[order] = actions[order.roll(by)]
    return found


def _memory(world: World, batch: Batch) -> float | None:
    whole = batch.frame_mask.all(1)
    frames = world.model.scale_observations(batch.observations)[whole]
    if not len(frames):
        return None
    return memory(frames.float().cpu().numpy(), batch.actions[whole].cpu().numpy())
