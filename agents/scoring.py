"""What sequences of actions pay in the dream: all of them, of all environments, at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from agents.controls import Controls
from agents.rollout import Agent
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.stepping import steps_of


class Scored(NamedTuple):
    """Sequences (n, k, horizon, act) and what they pay, (n, k)."""

    plans: np.ndarray
    returns: np.ndarray

    def best(self, count: int) -> Scored:
        """The best of each environment, best first."""
        order = np.argsort(-self.returns, 1, kind="stable")[:, :count]
        plans = np.take_along_axis(self.plans, order[:, :, np.newaxis, np.newaxis], 1)
        return Scored(plans, np.take_along_axis(self.returns, order, 1))

    def beside(self, other: Scored) -> Scored:
        """These and others."""
        both = ((ours, theirs) for ours, theirs in zip(self, other, strict=True))
        return Scored(*(np.concatenate(pair, 1) for pair in both))


@dataclass(frozen=True)
class Terms:
    """What counts beside the dream's reward, and which actions are admissible.

    Attributes:
        value: What the states (k, latent) at the end of sequences are worth, (k,), such as
            a critic's estimate.
        project: The admissible sequences (k, horizon, act) nearest to those given, in the
            environment's units (``ActionSpace.encode``); bounds are kept without it.
        penalty: What such actions (k, act) in states (k, latent) cost, (k,), every step.
    """

    value: Callable[[np.ndarray], np.ndarray] | None = None
    project: Callable[[np.ndarray], np.ndarray] | None = None
    penalty: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


class Scorer:
    """Dreams sequences and adds up what they pay.

    Args:
        dynamics: Of the dream.
        terms: What else counts.
        discount: Of rewards, per step.

    Attributes:
        compiled: True if steps are compiled, else the reason why not.
        controls: Of the model.
    """

    def __init__(self, dynamics: Dynamics, terms: Terms, discount: float) -> None:
        self._steps, self.compiled = steps_of(dynamics, latent_box(dynamics.world))
        self.controls = Controls(dynamics.model)
        self._actions = dynamics.model.action_spec
        self._terms, self._discount = terms, discount

    def admissible(self, plans: np.ndarray) -> np.ndarray:
        """Controls in the environment's units."""
        controls = self.controls.to_environment(plans)
        if self._terms.project is None:
            return controls
        flat = controls.reshape(-1, *controls.shape[2:])
        return np.asarray(self._terms.project(flat), np.float32).reshape(controls.shape)

    def __call__(self, start: np.ndarray, plans: np.ndarray) -> Scored:
        """Dream all sequences of all environments at once; what is not a number is worth nothing.

        Rewards count up to an imagined end.
        """
        n, count, horizon, size = plans.shape
        controls = self.admissible(plans)
        if self._terms.project is not None:
            plans = self.controls.from_environment(controls)
        actions = np.ascontiguousarray(np.moveaxis(controls, 2, 0)).reshape(horizon, -1, size)
        states = np.ascontiguousarray(np.repeat(start, count, 0).T)
        returns, alive = np.zeros(n * count), np.ones(n * count, np.bool_)
        seen = states.T
        for t in range(horizon if count else 0):
            arrived = self._steps(states, actions[t], None)
            paid = arrived.rewards.astype(np.float64)
            if self._terms.penalty is not None:
                paid -= self._terms.penalty(states.T, actions[t])
            returns += self._discount**t * np.where(alive, paid, 0)
            alive &= ~arrived.terminated
            states, seen = arrived.states, arrived.observations
        if self._terms.value is not None and count:
            worth = self._discount**horizon * np.asarray(self._terms.value(seen))
            returns += np.where(alive, worth, 0)
        returns[~np.isfinite(returns)] = -np.inf
        return Scored(plans, returns.reshape(n, count))

    def proposed(
        self, prior: Agent, start: np.ndarray, noise: np.ndarray, std: float
    ) -> Float[np.ndarray, "n k horizon act"]:
        """Sequences of an agent that acts in the dream.

        Args:
            prior: The agent.
            start: (n, latent), where from.
            noise: (n, k, horizon, act), standard normal.
            std: Of the last of the k; the first has no noise, and others have more and more.
        """
        n, count, horizon, size = noise.shape
        share = std * np.linspace(0, 1, count, dtype=np.float32)[:, np.newaxis]
        seen, plans = np.repeat(start, count, 0), []
        states = np.ascontiguousarray(seen.T)
        for t in range(horizon):
            chosen, _ = prior.predict(seen, deterministic=True)
            mean = self.controls.from_environment(self._actions.encode(chosen, (len(seen),)))
            mean = mean.reshape(n, count, size)
            mixed = self.controls.widened(mean, share)
            plans.append(self.controls.draw(mixed, share * self.controls.numbers, noise[:, :, t]))
            actions = self.controls.to_environment(plans[-1]).reshape(-1, size)
            arrived = self._steps(states, np.ascontiguousarray(actions), None)
            states, seen = arrived.states, arrived.observations
        return np.stack(plans, 2)
