"""What is paid for beside the task: states that nobody knows yet, or in which actions matter most.

Both are functions of what a dream step knows, differentiable in all of it, and are added to the
recorded reward in units of how much that varies.

Source: Sekar et al. 2020, "Planning to Explore via Self-Supervised World Models" (an ensemble of
one-step predictors of latent states, whose disagreement is the bonus); empowerment as in
``agents.empowerment``. Differs: the ensemble is the world's own (``worldmodel.world.members``), or
where it has none one that is fitted anew whenever the model has been, so that it has no state of
its own; a bonus is a deviation over the usual one, up to a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from agents.empowerment.dynamics import dynamics_of
from agents.empowerment.gaussian import GaussianEmpowerment
from agents.empowerment.landscape import fit_landscape
from worldmodel.errors import SpecError
from worldmodel.types import Batch
from worldmodel.world.dynamics import Goal, recorded_reward
from worldmodel.world.members import Members, Transitions, filtered_transitions
from worldmodel.world.world import World

Intrinsic = Literal["auto", "none", "disagreement", "empowerment"]
Bonus = Callable[[Tensor, Tensor, Tensor], Tensor]

# Members of an ensemble, units of each of their two hidden layers, and how they are fitted.
_MEMBERS, _HIDDEN, _BATCH, _RATE, _UPDATES = 5, 64, 128, 3e-3, 300
# Usual deviations up to which a bonus is believed.
_LIMIT = 10.0
# Actions of a sequence whose empowerment is asked for, and states that it is computed in.
_STEPS, _STATES = 10, 512
# Episodes that must tell something, for the task to be known.
_TELLING = 5


class Disagreement(nn.Module):
    """Small networks that predict the next latent state, and how far apart they are.

    All of them are one batched product. They begin differently and see different batches; where
    there are data they agree.

    Args:
        known: What they are fitted to.
        updates: Gradient updates.
        seed: Of initial weights and batches.
    """

    def __init__(self, known: Transitions, updates: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator(known.states.device).manual_seed(seed)
        inputs = torch.cat([known.states, known.actions], 1)
        self._centre, self._scale = inputs.mean(0), _spread(inputs)
        moved = known.next_states - known.states
        self._moved = _spread(moved)
        sizes = [inputs.shape[1], _HIDDEN, _HIDDEN, moved.shape[1]]
        self._layers = nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            shape = (_MEMBERS, fan_in + 1, fan_out)
            drawn = torch.randn(shape, generator=generator, device=inputs.device)
            self._layers.append(nn.Parameter(drawn / fan_in**0.5))
        self._fit(inputs, (moved - moved.mean(0)) / self._moved, updates, generator)
        with torch.no_grad():
            self._usual = self._apart(inputs).mean().clamp_min(1e-12)

    def forward(self, state: Tensor, action: Tensor, next_state: Tensor) -> Tensor:
        """How unsure the step is: deviation among the members over its mean on the data, (n,)."""
        return self._apart(torch.cat([state, action], 1)) / self._usual

    def _apart(self, inputs: Tensor) -> Tensor:
        told = self._predict(inputs.expand(_MEMBERS, *inputs.shape))
        # Not the mean of square roots: their gradient is infinite where all agree.
        return (told.var(0).mean(-1) + 1e-12).sqrt()

    def _predict(self, inputs: Tensor) -> Tensor:
        """(members, n, inputs) to (members, n, latent)."""
        hidden = (inputs - self._centre) / self._scale
        for i, layer in enumerate(self._layers):
            hidden = torch.baddbmm(layer[:, -1:], hidden, layer[:, :-1])
            hidden = nn.functional.silu(hidden) if i + 1 < len(self._layers) else hidden
        return hidden

    @torch.enable_grad()
    def _fit(
        self, inputs: Tensor, targets: Tensor, updates: int, generator: torch.Generator
    ) -> None:
        optimizer = torch.optim.Adam(self.parameters(), _RATE)
        shape = (_MEMBERS, min(_BATCH, len(inputs)))
        for _ in range(updates):
            rows = torch.randint(len(inputs), shape, generator=generator, device=inputs.device)
            loss = (self._predict(inputs[rows]) - targets[rows]).square().mean((1, 2)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.requires_grad_(False)


def empowerment(world: World, seed: int) -> Bonus:
    """How much actions matter in the state arrived at, in deviations above the least of the data.

    Raises:
        SpecError: The support is not fitted, or the actions are discrete.
    """
    if not world.support.fitted:
        raise SpecError("the support is not fitted; call world.support.fit first")
    known = world.support.states
    generator = torch.Generator(known.device).manual_seed(seed)
    rows = torch.randperm(len(known), generator=generator, device=known.device)[:_STATES]
    estimator = GaussianEmpowerment(dynamics_of(world), _STEPS)
    landscape = fit_landscape(estimator, known[rows], 500, seed=seed, progress=False)
    with torch.no_grad():
        spread = landscape(known).std().clamp_min(1e-6)
    return lambda state, action, next_state: (landscape(next_state) - landscape.minimum) / spread


def seeking(
    kind: Intrinsic, world: World, episodes: Batch, weight: float, seed: int
) -> Goal | None:
    """The recorded reward and a bonus beside it; None if there is none.

    Args:
        kind: Of the bonus; "auto" is disagreement.
        world: As it is now, with a fitted support.
        episodes: All that was recorded.
        weight: Of the bonus, in units of ``usual_reward``.
        seed: Of everything random.

    Raises:
        SpecError: There is no empowerment of discrete actions.
    """
    if kind == "none" or not weight:
        return None
    if kind == "empowerment":
        bonus = empowerment(world, seed)
    elif (members := world.members) is not None:
        bonus = _apart(members)
    else:
        bonus = Disagreement(filtered_transitions(world.model, episodes), _UPDATES, seed)
    return with_bonus(world, bonus, weight, usual_reward(episodes))


def _apart(members: Members) -> Bonus:
    """How far a world's own members are."""

    def bonus(state: Tensor, action: Tensor, next_state: Tensor) -> Tensor:
        return members.disagreement(state, action)

    return bonus


def with_bonus(world: World, bonus: Bonus, weight: float, unit: float) -> Goal:
    """The recorded reward and a bonus beside it.

    Args:
        world: Whose reward.
        bonus: At least 0, and usually about 1.
        weight: Of the bonus.
        unit: Of the reward, that one of the bonus is worth.
    """
    goal, worth = recorded_reward(world), weight * unit

    def paid(state: Tensor, action: Tensor, next_state: Tensor) -> Tensor:
        task = goal.reward(state, action, next_state).clamp(goal.minimum, goal.maximum)
        return task + worth * bonus(state, action, next_state).clamp(0.0, _LIMIT)

    return Goal(paid, goal.minimum, goal.maximum + worth * _LIMIT)


def silent(episodes: Batch) -> bool:
    """Whether next to nothing tells one behaviour from another: no reward, and no end.

    That is so until five episodes ended by themselves, or were paid something else than usual; or
    all of them, if there are fewer.
    """
    steps = episodes.mask
    telling = (episodes.terminated & steps).any(1)
    if episodes.rewards is not None:
        usual = episodes.rewards[steps].median()
        telling |= ((episodes.rewards != usual) & steps).any(1)
    return int(telling.sum()) < min(_TELLING, len(telling))


def usual_reward(episodes: Batch) -> float:
    """How much recorded rewards vary: their mean distance from their median.

    A rare one hardly counts. Where they are constant it is their size; 1 where there are none.
    """
    if episodes.rewards is None:
        return 1.0
    paid = episodes.rewards[episodes.mask].double()
    varied = (paid - paid.median()).abs().mean().item()
    return varied or paid.abs().mean().item() or 1.0


def _spread(values: Tensor) -> Tensor:
    """(columns,), deviations; 1 where nothing varies."""
    std = values.std(0)
    return torch.where(std > 1e-6, std, 1.0)
