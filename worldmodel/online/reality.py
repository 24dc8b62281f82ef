"""What is acted in: a registered environment, somebody's vector environment, or a rig."""

from __future__ import annotations

import multiprocessing
import signal
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from worldmodel.data import Source
from worldmodel.data.environments import CheckedObservation, check_each
from worldmodel.errors import SpecError, require_at_least, require_finite


class Reality(ABC):
    """Opens environments to act in.

    Attributes:
        source: Enough to make them again elsewhere, or None.
        repeatable: Whether the same seed and actions give the same episode, so that one that was
            interrupted is better played again than kept as far as it came.
    """

    source: Source | None = None
    repeatable: bool = True

    @abstractmethod
    def open(self, n: int) -> VectorEnv:
        """Environments side by side: n, or as many as there are."""

    def close(self, env: VectorEnv) -> None:
        """Be done with what ``open`` gave, however it is."""
        env.close()

    def told(self) -> dict[str, float]:
        """What there is to say of the time since it was last asked."""
        return {}


@dataclass
class Named(Reality):
    """A registered environment.

    Attributes:
        source: Of it.
        parallel: Whether each runs in a process of its own.
    """

    source: Source | None
    parallel: bool = False

    def open(self, n: int) -> VectorEnv:
        """See the base class."""
        assert self.source is not None, "named by it"
        if not self.parallel:
            return self.source.make_vec(n)
        return AsyncVectorEnv([partial(_checked, self.source)] * n)

    def close(self, env: VectorEnv) -> None:
        """See the base class; processes that hang are ended."""
        if not isinstance(env.unwrapped, AsyncVectorEnv):
            env.close()
            return
        with warnings.catch_warnings():
            # That somebody waits for an answer is known, and why nobody should any longer.
            warnings.simplefilter("ignore")
            env.close(terminate=True)


def _checked(source: Source) -> gym.Env:
    if multiprocessing.parent_process() is not None:
        # Whoever started the process ends it; Ctrl-C in a terminal reaches all of its processes.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return CheckedObservation(source.make())


@dataclass
class Given(Reality):
    """Somebody's vector environment, which is used as it is, and stays open.

    Attributes:
        env: The environment. It must not reset within the step that ends an episode.
    """

    env: VectorEnv

    def __post_init__(self) -> None:
        check_each(self.env)

    def open(self, n: int) -> VectorEnv:
        """See the base class."""
        return self.env

    def close(self, env: VectorEnv) -> None:
        """Nothing: it is somebody else's."""


@dataclass
class Rig(Reality):
    """A real system behind functions, at its own pace.

    Attributes:
        step: Takes an action and gives the observation that it led to, when that is there.
        reset: Brings the system to where an episode begins, and gives its first observation.
        observation_space: Gymnasium's.
        action_space: Likewise.
        steps: Of an episode at most.
        reward: Of an observation, the action there, and the observation after it; nothing is paid
            without.
        ended: Whether an episode ends with an observation by itself; never without.
        deadline: Seconds within which an action must follow an observation; how often it does not,
            and the longest that it took, is told round by round. None for none.
    """

    step: Callable[[Any], Any]
    reset: Callable[[], Any]
    observation_space: gym.Space
    action_space: gym.Space
    steps: int
    reward: Callable[[Any, Any, Any], float] = lambda before, action, after: 0.0
    ended: Callable[[Any], bool] = lambda observation: False
    deadline: float | None = None
    repeatable: bool = field(default=False, init=False)
    waits: list[float] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        require_at_least(1, steps=self.steps)
        if self.deadline is not None:
            require_finite(0, deadline=self.deadline)

    def open(self, n: int) -> VectorEnv:
        """See the base class; there is one."""
        return SyncVectorEnv([lambda: CheckedObservation(_RigEnv(self))])

    def told(self) -> dict[str, float]:
        """Seconds from observation to action at worst, and how many actions were late."""
        waits, self.waits = self.waits, []
        if not waits:
            return {}
        late = {} if self.deadline is None else {"late": sum(w > self.deadline for w in waits)}
        return {"slowest_action": max(waits), **late}


class _RigEnv(gym.Env):
    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.observation_space, self.action_space = rig.observation_space, rig.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self._seen, self._taken = self._rig.reset(), 0
        self._since = time.perf_counter()
        return self._seen, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        rig = self._rig
        rig.waits.append(time.perf_counter() - self._since)
        before, self._seen = self._seen, rig.step(action)
        self._since = time.perf_counter()
        self._taken += 1
        reward = float(rig.reward(before, action, self._seen))
        ended = bool(rig.ended(self._seen))
        return self._seen, reward, ended, not ended and self._taken >= rig.steps, {}


def as_reality(given: Reality | Source | VectorEnv | str, parallel: bool = False) -> Reality:
    """What was named, or given, to act in.

    Raises:
        SpecError: It is none of these.
    """
    if isinstance(given, str):
        given = Source(given)
    if isinstance(given, Source):
        return Named(given, parallel)
    if isinstance(given, VectorEnv):
        return Given(given)
    if isinstance(given, Reality):
        return given
    raise SpecError(f"expected an id, a Source, a vector environment or a Rig, got {given!r}")


def require_late_reset(env: VectorEnv) -> None:
    """Raise unless the last observation of an episode is shown in its place.

    Raises:
        SpecError: It is not, or nobody says.
    """
    mode = env.metadata.get("autoreset_mode")
    if mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED):
        raise SpecError(
            f"{env} must declare an autoreset mode of NEXT_STEP or DISABLED, got {mode!r}"
        )
