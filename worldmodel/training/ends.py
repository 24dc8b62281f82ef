"""What a termination head learns after the model: ends of dreams.

Beside the model it learns from states that are inferred, as they move; and an end is one step in
hundreds. Afterwards it goes on alone, from states that dreams arrive at.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from worldmodel.evaluation.termination import predicted_ends
from worldmodel.types import Batch
from worldmodel.world.ends import fit_ends
from worldmodel.world.world import World

_UPDATES, _BATCH, _RATE = 1000, 512, 3e-3


@torch.no_grad()
def practise_ends(
    world: World,
    train: Batch,
    validation: Batch,
    means: Float[Tensor, "batch frames latent"],
    seed: int,
) -> None:
    """Fit the termination head to where dreams arrive, one step from what a filter believes.

    It stays as it was unless held-out ends become likelier.

    Args:
        world: Whose model's head is fitted; its ends are not corrected yet.
        train: Episodes, some of which ended.
        validation: Likewise; without ends nothing is fitted.
        means: What a filter believes in on the former.
        seed: Of batches and noise.
    """
    model = world.model
    ended = train.terminated[train.mask]
    head = model.ending
    if head is None or not ended.any() or not _ends(validation):
        return
    before, standing = deepcopy(head.state_dict()), _missed(world, validation, seed)
    states, actions = means[:, :-1][train.mask], train.actions[train.mask]
    generator = torch.Generator(model.device).manual_seed(seed)
    # Dreamt all at once: batch by batch they would take most of the time.
    rows = torch.randint(
        len(states), (_UPDATES * _BATCH,), generator=generator, device=model.device
    )
    shape = (len(rows), model.noise_size)
    noise = torch.randn(shape, generator=generator, device=model.device, dtype=model.dtype)
    arrived = world.transition(states[rows], actions[rows], noise)
    truth = ended.to(states.dtype)[rows]
    learning = deepcopy(head).requires_grad_()
    optimizer = torch.optim.Adam(learning.parameters(), _RATE)
    batches = zip(arrived.split(_BATCH), truth.split(_BATCH), strict=True)
    for update, (state, end) in enumerate(batches):
        with torch.enable_grad():
            loss = binary_cross_entropy_with_logits(learning(state), end)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = _RATE * (1 - update / _UPDATES)
        optimizer.step()
    head.load_state_dict(learning.state_dict())
    if not _missed(world, validation, seed) < standing:
        head.load_state_dict(before)


def _ends(batch: Batch) -> bool:
    return bool((batch.terminated & batch.mask).any())


def _missed(world: World, batch: Batch, seed: int) -> float:
    """Nats by which ends are missed once they are corrected as well as can be."""
    logit, ended = predicted_ends(world, batch, seed)
    chance = fit_ends(logit, ended)(logit).sigmoid().mean(0)
    return binary_cross_entropy(chance, ended.to(chance.dtype)).item()
