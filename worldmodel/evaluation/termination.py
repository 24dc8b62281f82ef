"""How well a model foresees the end of an episode."""

from __future__ import annotations

import numpy as np
import torch

from worldmodel.types import Batch
from worldmodel.world.world import World


@torch.no_grad()
def termination_quality(world: World, batch: Batch) -> dict[str, float]:
    """Judge the predicted chance that the next step ends the episode.

    It is predicted as a dream does it: from the filtered belief and the action, before the frame
    that shows the end.

    Args:
        world: Of any model.
        batch: Episodes; padded steps do not count.

    Returns:
        ``fraction`` of steps that ended an episode; ``brier``, the mean squared error of the
        predicted chance, and ``brier_baseline``, that of always predicting the fraction; ``auc``,
        the chance that a step which ended an episode was held likelier to than one that did not (a
        half is guessing); ``recall`` and ``false_alarms``, the fractions of ending and of other
        steps at which a dream would have ended. Empty unless some steps ended an episode and some
        did not.
    """
    ended = batch.terminated[batch.mask].cpu().numpy()
    if ended.all() or not ended.any():
        return {}
    model = world.model
    beliefs = model.filter_beliefs(batch.observations, batch.actions, seen=batch.seen)
    arrived = world.transition(
        beliefs.mean[:, :-1].flatten(0, 1), batch.actions.flatten(0, 1)
    ).unflatten(0, batch.mask.shape)
    chance = model.termination(arrived)[batch.mask].sigmoid().cpu().numpy().astype(np.float64)
    fraction = ended.mean()
    return {
        "fraction": float(fraction),
        "brier": float(np.square(chance - ended).mean()),
        "brier_baseline": float(fraction * (1 - fraction)),
        "auc": _rank_statistic(chance[ended], chance[~ended]),
        "recall": float((chance[ended] > 0.5).mean()),
        "false_alarms": float((chance[~ended] > 0.5).mean()),
    }


def _rank_statistic(higher: np.ndarray, lower: np.ndarray) -> float:
    """Probability that a value of the first kind exceeds one of the second; ties count half."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.mean() / (2 * len(lower)))
