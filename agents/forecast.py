"""What an agent will collect in reality, told by the dream, and how far that is to be believed.

Dreamt episodes begin where real ones did, and the agent acts in them as it will in reality. The
interval around their mean return has two parts: that a few real episodes are a sample, and that
the dream was off before: by Student's law, whose spread are past misses, recent ones foremost, so
that after one miss it is wide, and after many as wide as they are large.

Source: Janner et al. 2019, "When to Trust Your Model", forecast returns by model rollouts from real
states; a forecast whose spread is learned from its own past misses is standard practice, e.g.
West and Harrison 1997, "Bayesian Forecasting and Dynamic Models" (discounted variance learning).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agents.rollout import Acting, Agent
from worldmodel.world.dynamics import Dynamics, SupportRule, latent_box
from worldmodel.world.stepping import steps_of
from worldmodel.world.world import World

# Chance that an interval holds what happens; how much less a miss counts after another.
COVERAGE, _FORGET = 0.9, 0.7
# What Student's law leaves 5 % above, by degrees of freedom; Abramowitz and Stegun 1964.
_STUDENT = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)


@dataclass(frozen=True)
class Dreamt:
    """Episodes that an agent dreamt.

    Attributes:
        returns: (n,), undiscounted.
        inside: (n, steps), whether each step lay within the support.
        alive: (n, steps), whether the episode had not ended before it.
    """

    returns: Float[np.ndarray, " n"]
    inside: Bool[np.ndarray, "n steps"]
    alive: Bool[np.ndarray, "n steps"]

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Steps of each episode."""
        return self.alive.sum(1)

    @property
    def trust(self) -> float:
        """Share of the steps that lie within what the data showed."""
        return float(self.inside[self.alive].mean())


@torch.no_grad()
def dream_on(
    world: World,
    agent: Agent,
    states: Float[Tensor, "n latent"],
    steps: int,
    generator: torch.Generator,
) -> Dreamt:
    """Let an agent dream on from given states, wherever that leads, with process noise.

    Rewards stay within the recorded range, and count up to an imagined end. A dream that is no
    longer finite is paid what states outside the support are from then on.

    Args:
        world: With a fitted support.
        agent: Acts deterministically on what a latent environment shows.
        states: Where from.
        steps: At most.
        generator: Source of the noise.
    """
    box, model = latent_box(world), world.model
    dynamics = Dynamics(world, SupportRule(radius=math.inf))
    step, _ = steps_of(dynamics, box)
    act, n = Acting(agent), len(states)
    current = np.ascontiguousarray(states.cpu().numpy().T)
    seen = np.clip(current.T, box.low, box.high)
    returns, alive = np.zeros(n), np.ones(n, np.bool_)
    inside, living = [], []
    for t in range(steps):
        controls = model.action_spec.encode(act(seen), (n,))
        # As its own call takes it.
        noise: Any = step.apart(dynamics.draw(1, n, generator))[0]
        arrived = step(current, np.ascontiguousarray(controls), noise)
        lost = ~(np.isfinite(arrived.states).all(0) & np.isfinite(arrived.rewards))
        paid = np.where(lost, (steps - t) * dynamics.goal.outside, arrived.rewards)
        returns += np.where(alive, paid, 0.0)
        inside.append(~arrived.outside)
        living.append(alive)
        alive = alive & ~arrived.terminated & ~lost
        if not alive.any():
            break
        current = np.where(lost, current, arrived.states)
        seen = np.where(lost[:, np.newaxis], seen, arrived.observations)
    return Dreamt(returns, np.stack(inside, 1), np.stack(living, 1))


@dataclass(frozen=True)
class Forecast:
    """Of the mean return of real episodes.

    Attributes:
        mean: What is expected.
        low: Above it with 95 %.
        high: Below it likewise.
    """

    mean: float
    low: float
    high: float

    def holds(self, happened: float) -> bool:
        """Whether what happened lies in the interval."""
        return bool(self.low <= happened <= self.high)


def forecast(
    dreamt: Float[np.ndarray, " n"],
    episodes: int,
    past: Sequence[tuple[float, float]],
    bounds: tuple[float, float],
) -> Forecast:
    """What the mean return of so many real episodes will be.

    Args:
        dreamt: Returns of dreamt episodes.
        episodes: Real ones that will be played.
        past: What was forecast before and what happened, oldest first. Before the first miss is
            known, all that is possible may happen.
        bounds: Returns that are possible, by the rewards that were recorded.
    """
    mean = float(dreamt.mean())
    if not past:
        return _within(mean, *bounds, bounds)
    sampling = dreamt.var() * (1 / episodes + 1 / len(dreamt))
    weights = _FORGET ** np.arange(len(past))[::-1]
    misses = np.array([told - happened for told, happened in past])
    squared = float((weights * misses**2).sum() / weights.sum())
    freedom = min(max(int(weights.sum()), 1), len(_STUDENT))
    half = _STUDENT[freedom - 1] * math.sqrt(squared + sampling)
    return _within(mean, mean - half, mean + half, bounds)


def _within(mean: float, low: float, high: float, bounds: tuple[float, float]) -> Forecast:
    least, most = bounds
    return Forecast(mean, min(max(low, least), mean), max(min(high, most), mean))
