"""Let an agent act in many environments at once, dreamt or real, and keep what happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium.vector import VectorEnv
from jaxtyping import Bool, Float, Int

from worldmodel import html
from worldmodel.progress import track
from worldmodel.spaces import stack


@runtime_checkable
class Agent(Protocol):
    """Whatever can act: a ``Policy`` or ``Planner``, or any Stable-Baselines3 algorithm."""

    def predict(self, observation: np.ndarray, *, deterministic: bool = ...) -> tuple[Any, Any]:
        """Actions for a batch of observations, and the agent's memory, or None if it has none.

        An agent that has a memory takes it back with the next observation, as ``state``.
        """
        ...


class Acting:
    """An agent at work: it gets back with every observation what it remembered.

    Args:
        agent: Acts deterministically.
    """

    def __init__(self, agent: Agent) -> None:
        self._predict: Any = agent.predict
        self._memory: Any = None

    def __call__(self, observation: np.ndarray) -> Any:
        """The actions that the agent takes."""
        remembered = {} if self._memory is None else {"state": self._memory}
        action, self._memory = self._predict(observation, deterministic=True, **remembered)
        return action


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
        outside: (n, T), whether a step left the data's support, from ``info["outside_support"]``;
            None in reality.
    """

    observations: Float[np.ndarray, "n frames ..."]
    actions: Any
    rewards: Float[np.ndarray, "n steps"]
    mask: Bool[np.ndarray, "n steps"]
    terminated: Bool[np.ndarray, " n"]
    states: Float[np.ndarray, "n frames m"] | None
    outside: Bool[np.ndarray, "n steps"] | None = None

    @property
    def returns(self) -> Float[np.ndarray, "n"]:
        """Undiscounted return of each episode."""
        return self.rewards.sum(1)

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Steps of each episode."""
        return self.mask.sum(1)

    def most(self, steps: int) -> int:
        """Steps of an episode at most: as asked, or fewer if the environment cut one off before."""
        cut = ~self.terminated & (self.lengths < steps)
        return int(self.lengths.max()) if cut.any() else steps

    @property
    def last(self) -> Float[np.ndarray, "n ..."]:
        """What the agent saw at the end of each episode, (n, *obs)."""
        return self.observations[np.arange(len(self.lengths)), self.lengths]

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
    agent: Agent,
    env: VectorEnv,
    steps: int,
    seed: int,
    options: dict[str, Any] | None = None,
    label: str | None = None,
) -> Rollout:
    """Act for one episode per environment, deterministically.

    Args:
        agent: Acts on a batch of the environment's observations.
        env: Not closed here. What it does after an episode's end does not count.
        steps: Steps at most.
        seed: Of the reset.
        options: Of the reset.
        label: What the progress bar is called; None shows none.
    """
    act = Acting(agent)
    observation, info = env.reset(seed=seed, options=options)
    observations, states = [observation], [info.get("state")]
    actions, rewards, mask, outside = [], [], [], []
    alive, ended = np.ones(env.num_envs, np.bool_), np.zeros(env.num_envs, np.bool_)
    for _ in track(range(steps), label or "", disable=label is None):
        action = act(observation)
        observation, reward, terminated, truncated, info = env.step(action)
        actions.append(action)
        rewards.append(np.where(alive, reward, 0.0))
        mask.append(alive)
        observations.append(observation)
        states.append(info.get("state"))
        outside.append(info.get("outside_support"))
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
        None if outside[0] is None else np.stack(outside, 1),
    )
