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
from worldmodel.spaces import ActionSpace
from worldmodel.world.dynamics import Goal
from worldmodel.world.world import World

# How often a target is shown: the bundled pendulum's velocity is at rest after five frames.
_SHOWN = 5


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
    """What the filter believes of a target observation that stays as it is.

    It is shown a few times over, under no action (or the one nearest to it), so that the state does
    not move: what one picture alone says of velocities is a guess.

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
    streams = world.model.observation_spec.read(observation)
    frames = {name: np.stack([value] * _SHOWN)[np.newaxis] for name, value in streams.items()}
    idle = np.tile(idle_controls(world.model.action_spec), (1, _SHOWN - 1, 1))
    state = torch.from_numpy(world.filter(frames, idle)[0, -1])
    if not state.isfinite().all():
        raise DivergenceError(f"the filter's belief about the goal is not finite: {state}")
    return Target(state.to(world.model.device), world.support.scale)


def idle_controls(actions: ActionSpace) -> Float[np.ndarray, " act"]:
    """Numbers at zero or as near to it as their bounds allow; of choices each a little."""
    share = [1 / size for part in actions.parts for size in part.sizes for _ in range(size)]
    low, high = np.array([actions.low, actions.high], np.float32)
    idle = np.clip(np.zeros(actions.size, np.float32), low, high)
    chosen = [bool(part.sizes) for part in actions.parts for _ in range(part.size)]
    idle[np.array(chosen, np.bool_)] = share
    return idle


def reach(world: World, observation: Any) -> Goal:
    """Pay for being near a target observation, in place of the recorded reward.

    The reward is minus the mean squared distance of ``Target``. The least that is paid is that of
    the recorded state which is furthest away.

    Args:
        world: As for ``target``; errors likewise.
        observation: Likewise.
    """
    return near(world, target(world, observation))


def near(world: World, wanted: Target) -> Goal:
    """The same of a target that is known already; ``world.support`` must be fitted."""
    wanted = Target(wanted.state.to(world.model.device), wanted.scale.to(world.model.device))
    furthest = float(wanted.distance(world.support.states).max())
    return Goal(wanted.reward, -furthest, 0.0, wanted.instructions)


def target_of(goal: Goal) -> Target | None:
    """What a goal of ``reach`` or ``near`` wants to be near to; None of any other."""
    owner = getattr(goal.reward, "__self__", None)
    return owner if isinstance(owner, Target) else None
