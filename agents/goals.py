"""A target observation as what is paid: the nearer a dream comes to it, the more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.errors import DivergenceError, SpecError
from worldmodel.models.networks import numbers
from worldmodel.models.program import Builder, Rows
from worldmodel.types import to_tensors
from worldmodel.world.dynamics import Goal
from worldmodel.world.world import World


@dataclass(frozen=True)
class Target:
    """Squared distance of latent states to one of them, in units of how far the data spread.

    Attributes:
        state: (latent,), where to.
        scale: (latent,), what counts as one.
    """

    state: Float[Tensor, " latent"]
    scale: Float[Tensor, " latent"]

    def distance(self, states: Float[Tensor, "batch latent"]) -> Float[Tensor, " batch"]:
        """Mean over the dimensions of the squared distance."""
        return ((states - self.state) / self.scale).square().mean(1)

    def reward(self, state: Tensor, action: Tensor, next_state: Tensor) -> Tensor:
        """What is paid on arrival, as ``Goal`` asks for it."""
        return -self.distance(next_state)

    def instructions(self, builder: Builder, state: Rows, action: Rows, next_state: Rows) -> Rows:
        """The same, compiled."""
        share = np.full(len(self.state), -1 / len(self.state), np.float32)
        away = builder.affine(
            next_state, numbers(1 / self.scale), numbers(-self.state / self.scale)
        )
        return builder.linear(builder.multiply(away, away), share[np.newaxis])


def target(world: World, observation: Any) -> Target:
    """What the filter believes after one target observation.

    A dimension counts the less the less the belief knows of it: a single picture shows no velocity.

    Args:
        world: With a fitted support.
        observation: Of the environment's observation space, as the model records it.

    Raises:
        SpecError: The support is not fitted.
        ShapeError: The observation is not of the space.
        DivergenceError: The belief is not finite.
    """
    if not world.support.fitted:
        raise SpecError("the support is not fitted; call world.support.fit first")
    model = world.model
    streams = model.observation_spec.read(observation)
    frames = {name: np.asarray(value)[np.newaxis, np.newaxis] for name, value in streams.items()}
    none = torch.zeros(1, 0, model.action_spec.size, device=model.device, dtype=model.dtype)
    with torch.no_grad():
        belief = model.initial(to_tensors(frames, 2, model.device), none)
    mean, scale = belief.mean[0], belief.scale[0]
    if not (mean.isfinite().all() and scale.isfinite().all()):
        raise DivergenceError(f"the filter's belief about the goal is not finite: {mean}")
    return Target(mean, (world.support.scale.square() + scale.square()).sqrt())


def reach(world: World, observation: Any) -> Goal:
    """Pay for being near a target observation, in place of the recorded reward.

    The reward is minus the mean squared distance of ``Target``. The least that is paid is that of
    the recorded state which is furthest away.

    Args:
        world: As for ``target``; errors likewise.
        observation: Likewise.
    """
    wanted = target(world, observation)
    furthest = float(wanted.distance(world.support.states).max())
    return Goal(wanted.reward, -furthest, 0.0, wanted.instructions)
