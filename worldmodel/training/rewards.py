"""What a reward head learns after the model: what is paid between the states of a filter.

Beside the model it learns from sampled states, which move, at the model's pace. Where rewards have
an edge, such as a distance at its goal, that leaves it blunt just where agents go.
"""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor

from worldmodel.models.ssm import StateSpaceModel
from worldmodel.types import Batch

_UPDATES, _BATCH, _RATE = 1000, 512, 3e-3


class _Steps(NamedTuple):
    """(n, ...) each: states, actions, next states, and what was paid."""

    state: Tensor
    action: Tensor
    following: Tensor
    reward: Tensor


@torch.no_grad()
def practise_rewards(
    model: StateSpaceModel,
    train: Batch,
    validation: Batch,
    means: tuple[Tensor, Tensor],
    seed: int,
) -> None:
    """Fit the reward head to what was paid between filtered states.

    It stays as it was unless held-out rewards are told better.

    Args:
        model: Whose head is fitted.
        train: Episodes.
        validation: Likewise.
        means: What a filter believes in on both, (episodes, frames, latent) each.
        seed: Of batches.
    """
    head = model.paying
    if head is None or not model.knows_reward:
        return
    known, held = (_known(*pair) for pair in zip((train, validation), means, strict=True))
    if not len(known.reward) or not len(held.reward):
        return
    before, standing = deepcopy(head.state_dict()), _error(model, held)
    generator = torch.Generator(model.device).manual_seed(seed)
    learns = next(head.parameters()).requires_grad
    head.requires_grad_()
    optimizer = torch.optim.Adam(head.parameters(), _RATE)
    for update in range(_UPDATES):
        rows = torch.randint(len(known.reward), (_BATCH,), generator=generator, device=model.device)
        *step, paid = (each[rows] for each in known)
        with torch.enable_grad():
            loss = -head.log_prob(model.reward(*step), paid).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = _RATE * (1 - update / _UPDATES)
        optimizer.step()
    optimizer.zero_grad()
    head.requires_grad_(learns)
    if not _error(model, held) < standing:
        head.load_state_dict(before)


def _known(batch: Batch, means: Tensor) -> _Steps:
    """Steps of which it is known what they paid; the last of an episode is another matter."""
    # What was paid on the way to a frame that was not seen may not be known either.
    known = batch.mask & batch.frame_mask[:, 1:] & ~batch.terminated
    assert batch.rewards is not None, "the model knows rewards"
    before, after = means[:, :-1], means[:, 1:]
    return _Steps(*(each[known] for each in (before, batch.actions, after, batch.rewards)))


def _error(model: StateSpaceModel, held: _Steps) -> float:
    return (model.reward(*held[:3]) - held.reward).square().mean().item()
