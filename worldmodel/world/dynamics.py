"""The one step of the dream: pure, batched, differentiable. All that dreams is a shell of it.

Nothing here holds a state or draws a number it was not given a generator for. Gradients with
respect to state, action and noise follow the caller: environments call it in inference mode, an
agent that learns through the model calls the same ``step`` with gradients enabled. ``compiled.py``
runs the same step without tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodel.errors import NotCompiled, SpecError
from worldmodel.models.program import Builder, Rows
from worldmodel.world.world import World


@dataclass(frozen=True)
class Goal:
    """What is paid along a dream, differentiable in all it depends on.

    Attributes:
        reward: (state, action, next state) to (batch,).
        minimum: Below it no reward is believed; who leaves the support earns it, or nothing if it
            is positive.
        maximum: Above it no reward is believed.
        instructions: Of ``reward``, for compiled steps; None if there are none.
        at_end: Paid on top where an episode ends.
    """

    reward: Callable[[Tensor, Tensor, Tensor], Tensor]
    minimum: float
    maximum: float
    instructions: Callable[[Builder, Rows, Rows, Rows], Rows] | None = None
    at_end: float = 0.0

    @property
    def outside(self) -> float:
        """What out-of-support states pay at most: the minimum reward, or nothing.

        Zero alone would be a bonus where rewards are negative, the minimum alone where every step
        alive pays.
        """
        return min(self.minimum, 0.0) if math.isfinite(self.minimum) else 0.0


@dataclass(frozen=True)
class SupportRule:
    """How states outside the support pay: the one rule for whatever dreams.

    Attributes:
        penalty: Reward lost per radius of distance beyond the support's edge, which is at 1; its
            gradient leads back.
        radius: Distance from which on a state pays the minimum reward and nothing else.
    """

    penalty: float = 0.0
    radius: float = 1.0

    def pay(
        self, reward: Float[Tensor, " batch"], distance: Float[Tensor, " batch"], goal: Goal
    ) -> Float[Tensor, " batch"]:
        """What is paid on arrival."""
        near = reward.clamp(goal.minimum, goal.maximum)
        far = near.clamp_max(goal.outside)
        if math.isfinite(goal.minimum):
            far = torch.full_like(near, goal.outside)
        if self.penalty:
            near = near - self.penalty * (distance - 1).clamp_min(0)
        # Not the other way round: what is not finite is far away.
        return torch.where(distance <= self.radius, near, far)

    def compiled(self, builder: Builder, reward: Rows, squared: Rows, goal: Goal) -> Rows:
        """Instructions of ``pay``, of the squared distance."""
        near = builder.clamp(reward, goal.minimum, goal.maximum)
        far = builder.clamp(near, -math.inf, goal.outside)
        if self.penalty:
            beyond = builder.relu(builder.affine(builder.sqrt(squared), 1.0, -1.0))
            near = builder.add(near, builder.affine(beyond, -self.penalty))
        if self.radius != 1:
            squared = builder.affine(squared, self.radius**-2)
        return builder.select(squared, near, far)


class Step(NamedTuple):
    """One step of the dream.

    Attributes:
        next_state: (batch, latent).
        reward: (batch,), in the environment's units.
        logit: (batch,), of the episode's end on arrival; negative infinity if none ever ended.
        distance: (batch,), from the data of what was predicted, in radii: at most 1 inside the
            support. How far a denoiser moved it counts.
        terminated: (batch,), ``bool``: whether the episode has ended, as was drawn; where nothing
            was drawn, whether it has rather ended than not.
    """

    next_state: Tensor
    reward: Tensor
    logit: Tensor
    distance: Tensor
    terminated: Tensor

    @property
    def inside(self) -> Bool[Tensor, " batch"]:
        """Whether the next state lies within the support; False where it is not finite."""
        return self.distance <= 1


class Dynamics:
    """(state, action, noise) to next state, reward, chance of an end, and distance from the data.

    Args:
        world: Used as it is, not copied; its model is switched to evaluation mode.
        rule: Of states outside the support.
        goal: What is paid; by default the recorded reward, as the model has learned it.

    Attributes:
        world: As given.
        model: Its model.
        goal: As given.
    """

    def __init__(
        self, world: World, rule: SupportRule = SupportRule(), goal: Goal | None = None
    ) -> None:
        self.world, self.model, self.rule = world, world.model.eval(), rule
        self.goal = goal or recorded_reward(world)
        self._can_terminate = self.model.can_terminate
        # Asked of a model they take as long as a draw for a hundred dreams.
        self._where: dict[str, Any] = {"device": self.model.device, "dtype": self.model.dtype}

    def step(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch draws"] | None,
    ) -> Step:
        """One step for all states.

        Args:
            state: Where each dream is.
            action: Controls (``ActionSpace.encode``) in the environment's units.
            noise: Random numbers, (batch, draws) as of ``draw``. None dreams without noise: what is
                likelier happens, an end or none. Those of the process noise alone, (batch, noise),
                leave an end open: the reward is the mean over it, and differentiable.
        """
        size, drawn = self.model.noise_size, 0.0
        is_open = self._can_terminate and noise is not None and noise.shape[1] == size
        if noise is not None and noise.shape[1] > size:
            noise, drawn = noise[:, :-1], noise[:, -1]
        next_state, distance = self.world.arrive(state, action, noise)
        reward = self.goal.reward(state, action, next_state)
        logit = torch.full_like(reward, -math.inf)
        if self._can_terminate:
            logit = self.world.termination(next_state)
        ended = logit > drawn
        if self.goal.at_end:
            reward = reward + self.goal.at_end * (logit.sigmoid() if is_open else ended)
        reward = self.rule.pay(reward, distance, self.goal)
        return Step(next_state, reward, logit, distance, ended)

    @property
    def draws(self) -> int:
        """Random numbers of a step: the process noise, and one that decides whether it ends."""
        return self.model.noise_size + int(self._can_terminate)

    def draw(
        self,
        steps: int,
        n: int,
        generator: torch.Generator,
        normal: Callable[[tuple[int, ...], torch.Generator], Tensor] | None = None,
    ) -> Float[Tensor, "steps draws n"]:
        """Random numbers of so many steps of n dreams.

        Standard normal ones, and where episodes end a logistic one: with the probability that the
        model holds, its logit exceeds it.

        Args:
            steps: How many.
            n: Likewise.
            generator: Source of every draw.
            normal: Draws the normal ones, of any size; ``torch.randn`` by default, but faster.
        """
        size = (steps, self.model.noise_size, n)
        if normal is None:
            noise = torch.randn(size, generator=generator, **self._where)
        else:
            noise = normal(size, generator)
        if not self._can_terminate:
            return noise
        # In double precision, so that what is rare is not drawn too often.
        double: dict[str, Any] = self._where | {"dtype": torch.float64}
        uniform = torch.rand((steps, 1, n), generator=generator, **double)
        return torch.cat([noise, uniform.logit(1e-16).to(noise.dtype)], 1)

    def compiled(self, builder: Builder, state: Rows, action: Rows, noise: Rows) -> list[Rows]:
        """Instructions of ``step``: next state, reward, squared distance.

        And, if any ended, by how much the logit exceeds what was drawn.

        Args:
            builder: What they are appended to.
            state: As of ``step``.
            action: Likewise.
            noise: ``draws`` numbers.

        Raises:
            NotCompiled: A part offers none.
        """
        if self.goal.instructions is None:
            raise NotCompiled("the goal offers no compiled form")
        noise, drawn = noise.split(self.model.noise_size, int(self._can_terminate))
        arrived, squared = self.world.compiled_arrival(builder, state, action, noise)
        reward = self.goal.instructions(builder, state, action, arrived)
        ends = []
        if self._can_terminate:
            logit = self.world.compiled_termination(builder, arrived)
            ends = [builder.add(logit, builder.affine(drawn, -1.0))]
            if self.goal.at_end:
                last = builder.affine(reward, 1.0, self.goal.at_end)
                reward = builder.select(builder.affine(ends[0], -1.0, 1.0), last, reward)
        paid = self.rule.compiled(builder, reward, squared, self.goal)
        return [arrived, paid, squared, *ends]

    def inside(self, state: Float[Tensor, "batch latent"]) -> Bool[Tensor, "batch"]:
        """Whether each state lies within the support; False where not finite."""
        return self.world.distance(state) <= 1

    def reset(self, n: int, generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """First states: such as a filter came to on the training data.

        All of them lie inside the support, and none where an episode ends. A model's prior fills
        the space that the data are a sheet in, and is not spread as they are.

        Args:
            n: How many.
            generator: Source of every draw.
        """
        known = self._recorded
        if known is None:
            return self.model.initial_prior(n, generator)
        rows = torch.randint(len(known), (n,), generator=generator, device=known.device)
        return known[rows]

    @cached_property
    @torch.no_grad()
    def _recorded(self) -> Float[Tensor, "n latent"] | None:
        """States to begin with; None if the support knows none."""
        support = self.world.support
        if not support.fitted:
            return None
        states = support.states
        fit = self.inside(states)
        if self._can_terminate:
            fit &= self.world.termination(states) <= 0
        return states[fit] if fit.any() else states


def recorded_reward(world: World) -> Goal:
    """The recorded reward, as the model has learned it."""
    # Not a lambda: environments that hold it are pickled.
    instructions = world.model.compiled_reward
    at_end = world.ends.reward if world.model.can_terminate else 0.0
    return Goal(partial(_paid, world), *world.model.reward_range, instructions, at_end)


def _paid(world: World, state: Tensor, action: Tensor, next_state: Tensor) -> Tensor:
    return world.model.reward(state, action, next_state)


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
