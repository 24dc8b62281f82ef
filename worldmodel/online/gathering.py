"""Play a group of episodes, one in each environment, whatever the environments do.

What goes wrong ends the episodes that it concerns where they were: an environment that shows or
pays what is not finite its own, one that fails or does not answer all of its group.
"""

from __future__ import annotations

import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from agents.exploration import Exploring
from agents.rollout import Acting, Agent
from worldmodel.data import ActionProcess
from worldmodel.spaces import ActionSpace, map_arrays, put_row, stack
from worldmodel.world.beliefs import Filter
from worldmodel.world.world import World


class Actor(ABC):
    """Acts in all environments of a group at once."""

    name: str

    @abstractmethod
    def begin(self, frames: Any) -> None:
        """First observations."""

    @abstractmethod
    def act(self) -> Any:
        """Actions, in Gymnasium's layout."""

    @abstractmethod
    def arrive(self, actions: Any, frames: Any) -> None:
        """What the actions led to."""


class Babbling(Actor):
    """Random actions, drawn beforehand.

    Args:
        process: Where from.
        space: Of one environment.
        shape: Environments, and steps at most.
        rng: Source of all draws.
    """

    name = "random"

    def __init__(
        self,
        process: ActionProcess,
        space: ActionSpace,
        shape: tuple[int, int],
        rng: np.random.Generator,
    ) -> None:
        self._actions, self._at = process.sample(space, *shape, rng), 0

    def begin(self, frames: Any) -> None:
        """Nobody looks."""

    def act(self) -> Any:
        """See the base class."""
        return map_arrays(lambda array: array[:, self._at], self._actions)

    def arrive(self, actions: Any, frames: Any) -> None:
        """See the base class."""
        self._at += 1


class Filtering(Actor):
    """An agent on what the live filter believes.

    Args:
        world: Whose filter.
        agent: Acts on means: as it is, which are within the data's box, as whoever uses it later
            will give them; or exploring, wherever they are.
        env: The environments.
    """

    def __init__(self, world: World, agent: Agent | Exploring, env: VectorEnv) -> None:
        spaces = env.single_observation_space, env.single_action_space
        self._filter = Filter(world, *spaces, (env.num_envs,))
        self._exploring = isinstance(agent, Exploring)
        self._act = agent if isinstance(agent, Exploring) else Acting(agent)
        self.name = "exploring" if self._exploring else "policy"

    def begin(self, frames: Any) -> None:
        """See the base class."""
        self._filter.begin(frames)

    def act(self) -> Any:
        """See the base class."""
        return self._act(self._filter.means(clip=not self._exploring))

    def arrive(self, actions: Any, frames: Any) -> None:
        """See the base class."""
        self._filter.advance(actions, frames)


@dataclass
class Group:
    """What became of a group.

    Attributes:
        episodes: As for ``DatasetWriter.write``, each of a step at least.
        returns: Of those that came to their end.
        wrong: What went wrong, a sentence each.
        lost: Whether the environments can no longer be used.
    """

    episodes: list[dict[str, Any]] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lost: bool = False

    @property
    def steps(self) -> int:
        """Real steps that were kept."""
        return sum(len(episode["rewards"]) for episode in self.episodes)


class Play:
    """One group, step by step; ``group`` says at any time what there is of it.

    Args:
        env: The environments.
        actor: Acts in them.
        steps: At most.
        timeout: Seconds that an answer may take.
    """

    def __init__(self, env: VectorEnv, actor: Actor, steps: int, timeout: float) -> None:
        self._env, self.actor = env, actor
        self._most, self._timeout = steps, timeout
        n = env.num_envs
        self._alive = np.ones(n, np.bool_)
        self._ended, self._whole = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        self._lengths = np.zeros(n, np.int64)
        self._seen: list[Any] = []
        self._taken: list[Any] = []
        self._paid: list[np.ndarray] = []
        self._states: list[Any] = []
        self._wrong: list[str] = []
        self._lost = False

    def run(self, seed: int) -> None:
        """Play to the end; errors of the environments are kept, an interruption is not."""
        try:
            self._begin(seed)
            while self._alive.any() and len(self._taken) < self._most:
                self._step()
            self._whole |= self._alive
        except Exception as error:
            # Whatever an environment raises: what was gathered until then is worth the same.
            self._wrong.append(f"{type(error).__name__}: {error}")
            self._lost = True

    def _begin(self, seed: int) -> None:
        with within(self._timeout):
            frames, info = self._env.reset(seed=seed)
        bad = ~_finite(frames, self._env.num_envs)
        if bad.any():
            raise ValueError("reset shows what is not finite")
        self._keep(frames, info)
        self.actor.begin(frames)

    def _step(self) -> None:
        actions = self.actor.act()
        with within(self._timeout):
            frames, paid, terminated, truncated, info = self._env.step(actions)
        good = _finite(frames, len(self._alive)) & np.isfinite(paid)
        for row in np.flatnonzero(self._alive & ~good).tolist():
            self._wrong.append(f"not finite after {self._lengths[row]} steps")
        if not good.all():
            frames = map_arrays(np.array, frames)
            for row in np.flatnonzero(~good).tolist():
                last = map_arrays(lambda array, row=row: array[row], self._seen[-1])
                put_row(frames, row, last)
        self._alive &= good
        self._taken.append(actions)
        self._paid.append(np.where(good, paid, 0.0))
        self._keep(frames, info)
        self._lengths[self._alive] += 1
        done = self._alive & (terminated | truncated)
        self._ended |= self._alive & terminated
        self._whole |= done
        self._alive &= ~done
        if self._alive.any():
            self.actor.arrive(actions, self._seen[-1])

    def _keep(self, frames: Any, info: dict[str, Any]) -> None:
        self._seen.append(map_arrays(np.array, frames))
        self._states.append(info.get("state"))

    def group(self) -> Group:
        """What there is."""
        group = Group(wrong=self._wrong, lost=self._lost)
        for row in np.flatnonzero(self._lengths).tolist():
            episode = self._episode(row, int(self._lengths[row]))
            group.episodes.append(episode)
            if self._whole[row]:
                group.returns.append(float(np.sum(episode["rewards"], dtype=np.float64)))
        return group

    def _episode(self, row: int, steps: int) -> dict[str, Any]:
        def cut(samples: list[Any]) -> Any:
            return map_arrays(lambda array: array[:, row], stack(samples, 0))

        episode = {
            "observations": cut(self._seen[: steps + 1]),
            "actions": cut(self._taken[:steps]),
            "rewards": cut(self._paid[:steps]),
            "terminated": bool(self._ended[row]),
            "truncated": bool(self._whole[row] and not self._ended[row]),
        }
        states = self._states[: steps + 1]
        if all(isinstance(state, np.ndarray) and state.ndim == 2 for state in states):
            episode["states"] = cut(states)
        return episode


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in the block if it takes longer; only in the main thread.

    Code that never comes back to the interpreter cannot be interrupted.
    """
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(number: int, frame: Any) -> None:
        raise TimeoutError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _finite(frames: Any, n: int) -> np.ndarray:
    """(n,), whether all numbers of each environment's observation are finite."""
    good = np.ones(n, np.bool_)

    def look(array: np.ndarray) -> np.ndarray:
        if np.issubdtype(array.dtype, np.floating):
            good[:] &= np.isfinite(array).reshape(n, -1).all(1)
        return array

    map_arrays(look, frames)
    return good
