"""How well a model foresees the end of an episode."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodel.types import Batch
from worldmodel.world.world import World

# Draws of the process noise that a chance is the mean over.
_DRAWS = 8
_BINS = 10


@torch.no_grad()
def predicted_ends(
    world: World, batch: Batch, seed: int = 0
) -> tuple[Float[Tensor, "draws steps"], Bool[Tensor, " steps"]]:
    """Logits of the model's own that each recorded step ends an episode, and whether it did.

    As a dream does it: from the filtered belief and the action, with noise, before the frame that
    shows the end.

    Args:
        world: Of any model.
        batch: Episodes; padded steps do not count.
        seed: Of the noise.
    """
    model, mask = world.model, batch.mask
    beliefs = model.filter_beliefs(batch.observations, batch.actions, seen=batch.seen)
    state, action = beliefs.mean[:, :-1][mask], batch.actions[mask]
    generator = torch.Generator(model.device).manual_seed(seed)
    shape = (_DRAWS, len(state), model.noise_size)
    noise = torch.randn(shape, generator=generator, device=model.device, dtype=model.dtype)
    logits = [model.termination(world.transition(state, action, drawn)) for drawn in noise]
    return torch.stack(logits), batch.terminated[mask]


@torch.no_grad()
def termination_quality(world: World, batch: Batch) -> dict[str, float]:
    """Judge the predicted chance that the next step ends the episode (``predicted_ends``).

    Args:
        world: Of any model.
        batch: Episodes; padded steps do not count.

    Returns:
        ``fraction`` of steps that ended an episode; ``brier``, the mean squared error of the
        predicted chance, and ``brier_baseline``, that of always predicting the fraction; ``auc``,
        the chance that a step which ended an episode was held likelier to than one that did not (a
        half is guessing); ``recall`` and ``false_alarms``, the fractions of ending and of other
        steps at which a dream ends, which draws; ``precision``, the fraction of its ends that are
        some; ``calibration_error``, by how much chances and frequencies differ, over ten equal
        ranges of the chance (Guo et al. 2017, "On Calibration of Modern Neural Networks");
        ``ends`` and ``ends_predicted``, how many there are and are expected. Empty unless some
        steps ended an episode and some did not.
    """
    ended = batch.terminated[batch.mask].cpu().numpy()
    if ended.all() or not ended.any():
        return {}
    logit, _ = predicted_ends(world, batch)
    chance = world.ends(logit).sigmoid().mean(0).cpu().numpy().astype(np.float64)
    fraction = ended.mean()
    return {
        "fraction": float(fraction),
        "brier": float(np.square(chance - ended).mean()),
        "brier_baseline": float(fraction * (1 - fraction)),
        "auc": _rank_statistic(chance[ended], chance[~ended]),
        "recall": float(chance[ended].mean()),
        "false_alarms": float(chance[~ended].mean()),
        "precision": float(chance[ended].sum() / max(chance.sum(), np.finfo(float).tiny)),
        "calibration_error": calibration_error(chance, ended),
        "ends": float(ended.sum()),
        "ends_predicted": float(chance.sum()),
    }


def calibration_error(chance: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"]) -> float:
    """By how much chances and frequencies differ in the mean over ranges of the chance."""
    bins = np.minimum((chance * _BINS).astype(int), _BINS - 1)
    off = np.bincount(bins, chance - happened, _BINS)
    return float(np.abs(off).sum() / len(chance))


def _rank_statistic(higher: np.ndarray, lower: np.ndarray) -> float:
    """Probability that a value of the first kind exceeds one of the second; ties count half."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.mean() / (2 * len(lower)))
