"""Let an agent act in many environments at once, dreamt or real, and keep what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium.vector import VectorEnv
from jaxtyping import Bool, Float, Int

from worldmodel import html
from worldmodel.spaces import stack


@runtime_checkable
class Agent(Protocol):
    """Whatever can act: a ``Policy`` of ours, or any Stable-Baselines3 algorithm."""

    def predict(
        self, observation: np.ndarray, *, deterministic: bool = ...
    ) -> tuple[np.ndarray, Any]:
        """Actions for a batch of observations, and something that is ignored."""
        ...


def chosen_by(agent: Agent) -> Callable[[np.ndarray], Any]:
    """The action that an agent takes for a latent state."""
    return lambda state: agent.predict(state, deterministic=True)[0]


@dataclass(frozen=True)
class Rollout:
    """One episode per environment; T is the greatest number of steps.

    Attributes:
        observations: (n, T + 1, *obs), what the agent saw.
        actions: (n, T, ...) in the environment's space, in Gymnasium's layout.
        rewards: (n, T); zero past an episode's end.
        mask: (n, T), True on steps that were taken.
        terminated: (n,), True where the episode ended by itself, not by a limit.
        states: (n, T + 1, m) ground truth from ``info["state"]``, or None.
    """

    observations: Float[np.ndarray, "n frames ..."]
    actions: Any
    rewards: Float[np.ndarray, "n steps"]
    mask: Bool[np.ndarray, "n steps"]
    terminated: Bool[np.ndarray, " n"]
    states: Float[np.ndarray, "n frames m"] | None

    @property
    def returns(self) -> Float[np.ndarray, "n"]:
        """Undiscounted return of each episode."""
        return self.rewards.sum(1)

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Steps of each episode."""
        return self.mask.sum(1)

    def _repr_html_(self) -> str:
        rows = [
            ("episodes", f"{len(self.returns)}"),
            ("return", f"{self.returns.mean():.4g} ± {self.returns.std():.2g}"),
            ("steps", f"{self.lengths.mean():.4g} ± {self.lengths.std():.2g}"),
            ("ended by themselves", f"{self.terminated.mean():.0%}"),
        ]
        return html.table(("Rollout", "mean ± std"), rows) + html.lines(
            np.where(self.mask, self.rewards, np.nan), "reward"
        )


def rollout(
    agent: Agent, env: VectorEnv, steps: int, seed: int, options: dict[str, Any] | None = None
) -> Rollout:
    """Act for one episode per environment, deterministically.

    Args:
        agent: Acts on a batch of the environment's observations.
        env: Not closed here. What it does after an episode's end does not count.
        steps: Steps at most.
        seed: Of the reset.
        options: Of the reset.
    """
    observation, info = env.reset(seed=seed, options=options)
    observations, states = [observation], [info.get("state")]
    actions, rewards, mask = [], [], []
    alive, ended = np.ones(env.num_envs, np.bool_), np.zeros(env.num_envs, np.bool_)
    for _ in range(steps):
        action, _ = agent.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, info = env.step(action)
        actions.append(action)
        rewards.append(np.where(alive, reward, 0.0))
        mask.append(alive)
        observations.append(observation)
        states.append(info.get("state"))
        ended = ended | (alive & terminated)
        alive = alive & ~(terminated | truncated)
        if not alive.any():
            break
    known = [s for s in states if s is not None]
    truth = np.stack(known, 1) if len(known) == len(states) else None
    return Rollout(
        np.stack(observations, 1),
        stack(actions, 1),
        np.stack(rewards, 1),
        np.stack(mask, 1),
        ended,
        truth,
    )
