"""What is measured of every round, beside returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from agents.forecast import Forecast, dream_on, forecast
from agents.rollout import Agent
from agents.starts import recorded_beliefs, sample_states
from worldmodel.data import Dataset
from worldmodel.types import Batch, Belief
from worldmodel.world.world import World

# Steps that are predicted, and frames that are filtered before the first prediction.
HORIZON, _FILTERED = 10, 5
# Dreams, and the steps of those that only trust is asked of.
_DREAMT, _STEPS = 128, 12


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


def trust(world: World, agent: Agent, starts: Belief, generator: torch.Generator) -> float:
    """Share of the steps that the agent dreams which lie within what the data showed."""
    first = sample_states(starts, _DREAMT, generator)
    return dream_on(world, agent, first, _STEPS, generator).trust


def told(
    world: World,
    agent: Agent,
    dataset: Dataset,
    asked: tuple[int, int | None],
    past: Sequence[tuple[float, float]],
    generator: torch.Generator,
) -> Forecast:
    """What the dream says that the mean return of real episodes will be.

    Args:
        world: As it is.
        agent: Who will act.
        dataset: Whose episodes show how real ones begin.
        asked: Real episodes, and steps of each at most; None if nobody knows: then as many as the
            longest one took.
        past: What was told before and what happened, oldest first.
        generator: Of the beginnings and of the dreams.
    """
    episodes, steps = asked
    latest = np.arange(max(0, len(dataset.train) - _DREAMT), len(dataset.train))
    recorded = dataset.train.padded(latest)
    steps = steps or recorded.steps
    starts = recorded_beliefs(world, recorded.window(0, 1))
    first = sample_states(starts, _DREAMT, generator)
    dreamt = dream_on(world, agent, first, steps, generator).returns
    low, high = world.model.reward_range
    bounds = min(low, steps * low), max(high, steps * high)
    return forecast(dreamt, episodes, past, bounds)


def _mean(values: list[torch.Tensor]) -> float | None:
    joined = torch.cat(values).double() if values else torch.empty(0)
    return joined.mean().item() if len(joined) else None


def _relative(told: list[torch.Tensor], paid: list[torch.Tensor]) -> float | None:
    if not paid or (recorded := torch.cat(paid).double()).numel() < 2 or not recorded.std():
        return None
    return ((torch.cat(told) - recorded).square().mean().sqrt() / recorded.std()).item()
