"""The pure, batched core of the dream: everything else in this package is a shell around it.

Nothing here holds a state or draws a number it was not given a generator for. Gradients with
respect to state, action and noise follow the caller: the environments call it in inference mode, an
agent that learns through the model calls the same ``step`` with gradients enabled.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodel.errors import SpecError
from worldmodel.world.frozen import freeze
from worldmodel.world.world import World

# Redraws of a first state that lies outside the support, before the nearest data state is taken.
_REDRAWS = 10


class Step(NamedTuple):
    """One step of the dream.

    Attributes:
        next_state: (batch, latent).
        reward: (batch,), in the environment's units.
        terminated: (batch,) bool.
        inside: (batch,) bool: whether ``next_state`` lies within the data's support.
    """

    next_state: Tensor
    reward: Tensor
    terminated: Tensor
    inside: Tensor


class Dynamics:
    """(state, action, noise) to (next state, reward, terminated, inside), as one tensor step.

    Termination is deterministic: an episode ends where the model holds ending more likely than
    not (logit > 0), and never if the model was trained on data in which no episode ended.

    A dream that has left what it knows must not pay. Rewards are clipped to the range that the
    model recorded, and a step that arrives outside the support pays the lesser of that range's low
    end and zero: zero alone would be a bonus where rewards are negative, the low end alone where
    every step alive pays. A model without a finite recorded range pays its reward unclipped inside,
    and the lesser of that and zero outside.

    All but termination is read off the model once (``frozen.freeze``), so make this after training.

    Args:
        world: Used as it is, not copied; its model is switched to evaluation mode.

    Attributes:
        world: As given.
        model: Its model.
        frozen: Its transition and reward as they were when this was made.
        cover: Its support, likewise.
    """

    def __init__(self, world: World) -> None:
        self.world, self.model = world, world.model.eval()
        self.frozen = freeze(world)
        self.cover = world.support.cover()
        self._can_terminate = self.model.can_terminate
        self._least, self._greatest = self.model.reward_range

    def step(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"] | None,
    ) -> Step:
        """One step for all states.

        Args:
            state: Where each dream is.
            action: Model actions (``ActionSpec.encode``) in the environment's units.
            noise: Standard normal draws; None dreams without process noise.
        """
        next_state = self.frozen.transition(state, action, noise)
        inside = self.cover.contains(next_state)
        reward = self._pay(self.frozen.reward(state, action, next_state), inside)
        if self._can_terminate:
            terminated = self.model.termination(next_state) > 0
        else:
            terminated = torch.zeros_like(inside)
        return Step(next_state, reward, terminated, inside)

    def inside(self, state: Float[Tensor, "batch latent"]) -> Bool[Tensor, "batch"]:
        """Whether each state lies within the data's support; False where not finite."""
        return self.cover.contains(state)

    @torch.no_grad()
    def reset(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """First states from the model's prior, all of them inside the support.

        A state outside is redrawn up to ten times; one that is still outside is replaced by the
        nearest recorded state.
        """
        states = self.model.initial_prior(n, generator)
        left = self._outside(states)
        for _ in range(_REDRAWS):
            if not len(left):
                return states
            drawn = self.model.initial_prior(len(left), generator)
            states[left] = drawn
            left = left[self._outside(drawn)]
        states[left] = self._nearest(states[left])
        return states

    def _outside(self, states: Tensor) -> Tensor:
        return (~self.inside(states)).nonzero().squeeze(1)

    def _nearest(self, states: Tensor) -> Tensor:
        support = self.world.support
        distance = torch.cdist(states / support.scale, support.states / support.scale)
        return support.states[distance.argmin(1)]

    def _pay(self, reward: Tensor, inside: Tensor) -> Tensor:
        if not math.isfinite(self._least):
            return torch.where(inside, reward, reward.clamp_max(0))
        return torch.where(inside, reward.clamp(self._least, self._greatest), min(self._least, 0.0))


def latent_box(world: World) -> gym.spaces.Box:
    """The observation space of the dream, and of the real environment seen through the filter.

    Raises:
        SpecError: The support was never fitted, so that its bounds are infinite.
    """
    if not world.support.fitted:
        raise SpecError(
            "the support is not fitted, so the latent space has no finite bounds; "
            "fit it first: world.support.fit(states, held_out)"
        )
    low, high = (
        bound.detach().cpu().numpy().astype(np.float32) for bound in world.support.bounds()
    )
    return gym.spaces.Box(low, high, dtype=np.float32)
