"""What a model is worth on data that it was not trained on."""

from __future__ import annotations

import math

import torch

from worldmodel.evaluation.prediction import open_loop_error
from worldmodel.models.learned import LearnedModel
from worldmodel.types import Batch
from worldmodel.world.world import World


@torch.no_grad()
def validate(model: LearnedModel, batch: Batch, seed: int) -> dict[str, float]:
    """Measure; the model is switched to evaluation mode.

    The criterion, "validation/prediction_mse", is the error of predicting the second half of each
    window after filtering the first: the bound does not tell models that predict from models that
    do not. It is infinite where it is not a number, which would never be improved on.

    Args:
        model: Where the batch is.
        batch: Windows of the validation split.
        seed: Of the sampled latents.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    terms = model.eval().terms(batch, generator)
    half = max(1, batch.steps // 2)
    error = open_loop_error(World(model), batch, filtered=half).mean().item()
    logs = {
        "validation/prediction_mse": math.inf if math.isnan(error) else error,
        "validation/reconstruction": terms.reconstruction.sum(1).mean().item(),
        "validation/kl": terms.rate.sum(1).mean().item(),
    }
    if model.knows_reward:
        logs["validation/reward"] = terms.reward.mean().item()
    if model.is_bound:
        bound = (terms.reconstruction - terms.rate).sum(1).mean().item()
        logs["validation/lower_bound"] = bound
    return logs
