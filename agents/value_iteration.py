"""Value iteration on a sample of states, each action followed through a model.

Between the sampled states values are averages over the nearest of them. An average never moves two
value functions apart, so that the iteration contracts as it does on a finite problem, and finds the
best policy there is, where gradients of imagined returns find one nearby.

Source: Gordon 1995, "Stable Function Approximation in Dynamic Programming"; Ormoneit and Sen 2002,
"Kernel-Based Reinforcement Learning", for averages over sampled states.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.errors import ConfigError, ShapeError, SpecError

_NEIGHBOURS = 4


@dataclass(frozen=True)
class Lookahead:
    """Acts for the best value one step ahead.

    Attributes:
        step: States (b, state) and actions (b, act) to next states (b, state), which it may draw,
            and to whether life goes on there, (b,): the states are to be believed, and end nothing.
            Where it does not the least value is earned for ever.
        actions: (m, act), to choose from.
        states: (n, state), a sample that covers where the agent may come.
        values: (n,), of arriving in each of them.
        samples: How many next states are drawn for every state and action.
    """

    step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    actions: Float[Tensor, "m act"]
    states: Float[Tensor, "n state"]
    values: Float[Tensor, " n"]
    samples: int = 1

    def __call__(self, states: Float[Tensor, "b state"]) -> Float[Tensor, "b act"]:
        """The best action in each state."""
        return self.actions[_gains(*self.arrivals(states), self.values).argmax(0)]

    def predict(
        self, observation: Float[np.ndarray, "b state"], deterministic: bool = True
    ) -> tuple[Float[np.ndarray, "b act"], None]:
        """Act on latent observations; the signature is that of Stable-Baselines3's policies."""
        states = torch.as_tensor(observation, dtype=self.states.dtype, device=self.states.device)
        return self(states).cpu().numpy(), None

    def arrivals(
        self, states: Float[Tensor, "b state"]
    ) -> tuple[Int[Tensor, "m b near"], Float[Tensor, "m b near"]]:
        """Which sampled states each action leads to the neighbourhood of, and how near.

        Weights sum to the fraction of the draws in which life goes on.
        """
        near, weights = [], []
        for action in self.actions:
            drawn = [
                self._average(*self.step(states, action.expand(len(states), -1)))
                for _ in range(self.samples)
            ]
            near.append(torch.cat([index for index, _ in drawn], 1))
            weights.append(torch.cat([weight for _, weight in drawn], 1) / self.samples)
        return torch.stack(near), torch.stack(weights)

    def _average(self, arrived: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest sampled states and their weights, which sum to 1, or to 0 past an end.

        Weights are inverse squared distances, in standard deviations of the sample.
        """
        std = self.states.std(0)
        parts = [
            torch.cdist(part, self.states / std).topk(_NEIGHBOURS, largest=False)
            for part in (arrived / std).split(2048)
        ]
        distance = torch.cat([part.values for part in parts])
        closeness = 1 / distance.square().clamp_min(1e-12)
        weight = closeness / closeness.sum(1, keepdim=True)
        index = torch.cat([part.indices for part in parts])
        return index, torch.where(alive.unsqueeze(1), weight, 0.0)


def iterate_values(
    lookahead: Lookahead, discount: float = 0.97, tolerance: float = 1e-3
) -> Lookahead:
    """Value iteration.

    Args:
        lookahead: Its values are the rewards on arrival.
        discount: Of rewards, per step, in [0, 1).
        tolerance: Greatest error of the values, as a fraction of the rewards' range.

    Returns:
        The same with values of reward and all that follows, as a mean reward per step: the
        discounted sum times 1 - discount.

    Raises:
        ConfigError: ``discount`` is not in [0, 1).
        ShapeError: There are fewer states than the average is over.
        SpecError: A reward is not finite.
    """
    rewards = lookahead.values
    if not 0 <= discount < 1:
        raise ConfigError(f"discount must lie in [0, 1), got {discount}")
    if len(rewards) < _NEIGHBOURS:
        raise ShapeError(f"at least {_NEIGHBOURS} states are needed, got {len(rewards)}")
    if not rewards.isfinite().all():
        raise SpecError(f"rewards must be finite, got {rewards[~rewards.isfinite()]}")
    arrivals = lookahead.arrivals(lookahead.states)
    values = rewards
    # The error shrinks by the discount with every sweep, from the rewards' range at most.
    for _ in range(math.ceil(math.log(tolerance) / math.log(discount)) if discount else 1):
        values = (1 - discount) * rewards + discount * _gains(*arrivals, values).amax(0)
    return replace(lookahead, values=values)


def _gains(near: Tensor, weights: Tensor, values: Tensor) -> Float[Tensor, "m b"]:
    """Mean value on arrival, the least value where life does not go on."""
    return (weights * values[near]).sum(2) + (1 - weights.sum(2)) * values.min()
