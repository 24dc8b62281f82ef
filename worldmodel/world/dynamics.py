"""The pure, batched core of the dream: everything else in this package is a shell around it.

Nothing here holds a state or draws a number it was not given a generator for. Gradients with
respect to state, action and noise follow the caller: the environments call it in inference mode, an
agent that learns through the model calls the same ``step`` with gradients enabled.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodel.errors import SpecError
from worldmodel.models.base import StateSpaceModel
from worldmodel.world.checkpoint import load

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

    Args:
        model: Used as it is, not copied; switched to evaluation mode.

    Attributes:
        model: The model.
        cover: Its support as it was when this was made.
    """

    def __init__(self, model: StateSpaceModel) -> None:
        self.model = model.eval()
        self.cover = model.support.cover()
        self._can_terminate = model.can_terminate
        self._least, self._greatest = model.reward_range

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
        next_state = self.model.transition(state, action, noise)
        inside = self.cover.contains(next_state)
        reward = self._pay(self.model.reward(state, action, next_state), inside)
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
        support = self.model.support
        distance = torch.cdist(states / support.scale, support.states / support.scale)
        return support.states[distance.argmin(1)]

    def _pay(self, reward: Tensor, inside: Tensor) -> Tensor:
        if not math.isfinite(self._least):
            return torch.where(inside, reward, reward.clamp_max(0))
        return torch.where(inside, reward.clamp(self._least, self._greatest), min(self._least, 0.0))


def resolve(model: StateSpaceModel | str | Path) -> StateSpaceModel:
    """A model as it is, or the one in a checkpoint folder or of a bundled name.

    Raises:
        FileNotFoundError: There is no such folder or bundled name.
        FileFormatError: The checkpoint is truncated, corrupt or of another format version.
    """
    return model if isinstance(model, StateSpaceModel) else load(model)


def latent_box(model: StateSpaceModel) -> gym.spaces.Box:
    """The observation space of the dream, and of the real environment seen through the filter.

    Raises:
        SpecError: The model's support was never fitted, so that its bounds are infinite.
    """
    if not model.support.fitted:
        raise SpecError(
            "the model's support is not fitted, so its latent space has no finite bounds; "
            "fit it first: model.support.fit(states, held_out)"
        )
    low, high = (
        bound.detach().cpu().numpy().astype(np.float32) for bound in model.support.bounds()
    )
    return gym.spaces.Box(low, high, dtype=np.float32)
