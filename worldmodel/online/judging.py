"""What is measured of every round, beside returns."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from agents.actor_critic import ActorCriticConfig, imagine
from agents.learner import ActorCritic
from agents.starts import sample_states
from worldmodel.types import Batch, Belief
from worldmodel.world.dynamics import Dynamics
from worldmodel.world.world import World

# Steps that are predicted, and frames that are filtered before the first prediction.
HORIZON, _FILTERED = 10, 5
_DREAMT = 128


@torch.no_grad()
def surprise(world: World, batches: Iterable[Batch]) -> dict[str, float | None]:
    """How well episodes are predicted that nobody has learned from yet.

    Args:
        world: As it was when they were gathered.
        batches: The episodes.

    Returns:
        ``observation_error``: mean squared error ten steps ahead, open loop, in standard units of
        the first data; ``reward_error``: root mean squared error of the reward there, over its
        standard deviation. None where nothing lasted so long, or the reward is constant.
    """
    model, errors, told, paid = world.model, [], [], []
    for batch in batches:
        batch = batch.to(model.device)
        means = model.filter_beliefs(batch.observations, batch.actions, 1).mean
        frames = model.scale_observations(batch.observations)
        for start in range(_FILTERED, batch.steps - HORIZON + 1, HORIZON):
            end = start + HORIZON
            rows = batch.mask[:, end - 1]
            controls = batch.actions[rows, start:end]
            states = world.rollout(means[rows, start], controls)
            missed = model.emit(states[:, -1]).mean - frames[rows, end]
            errors.append(missed.square().mean(1))
            if batch.rewards is not None:
                told.append(model.reward(states[:, -2], controls[:, -1], states[:, -1]))
                paid.append(batch.rewards[rows, end - 1])
    return {"observation_error": _mean(errors), "reward_error": _relative(told, paid)}


@torch.no_grad()
def trust(world: World, learner: ActorCritic, starts: Belief, config: ActorCriticConfig) -> float:
    """Share of the steps that the agent dreams which lie within what the data showed."""
    first = sample_states(starts, _DREAMT, learner.generator)
    dreamt = imagine(learner, Dynamics(world), first, config).states[:, 1:].flatten(0, 1)
    return (world.distance(dreamt) <= 1).double().mean().item()


def _mean(values: list[torch.Tensor]) -> float | None:
    joined = torch.cat(values).double() if values else torch.empty(0)
    return joined.mean().item() if len(joined) else None


def _relative(told: list[torch.Tensor], paid: list[torch.Tensor]) -> float | None:
    if not paid or (recorded := torch.cat(paid).double()).numel() < 2 or not recorded.std():
        return None
    return ((torch.cat(told) - recorded).square().mean().sqrt() / recorded.std()).item()
