"""Policies that act while a dataset is recorded: of a run, of Stable-Baselines3, or any function.

What is named here is imported anew in every process that records.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import gymnasium as gym
import numpy as np
import torch

from agents.rollout import Acting
from agents.saved import load_agent
from worldmodel.data import Actor, Behaviour
from worldmodel.errors import FileFormatError, SpecError, require_extra
from worldmodel.spaces import map_arrays
from worldmodel.world.beliefs import Filter
from worldmodel.world.world import load


def behaviour_of(
    policy: str, policy_file: Path | None, share: float = 1.0, exploration: float = 0.0
) -> Behaviour:
    """The behaviour that a user names.

    Args:
        policy: A run; a ``.zip`` that Stable-Baselines3 saved; or "module:function", which takes
            an observation and gives an action.
        policy_file: Of a run, the file of its agent.
        share: As of ``Behaviour``.
        exploration: As of ``Behaviour``.

    Raises:
        FileNotFoundError: There is no such run or file.
        SpecError: There is no agent in the run, or no such function.
    """
    make: Callable[[gym.Env], Actor]
    if policy_file is not None:
        make = OfRun(policy, policy_file)
    elif policy.endswith(".zip"):
        if not Path(policy).is_file():
            raise FileNotFoundError(f"no file at {policy!r}; expected a .zip of Stable-Baselines3")
        make = OfZip(policy)
    else:
        make = OfFunction(policy)
        make.function()
    return Behaviour(policy, make, share, exploration)


@dataclass(frozen=True)
class OfRun:
    """A run's agent, which sees the environment through the run's filter."""

    run: str
    file: Path

    def __call__(self, env: gym.Env) -> Actor:
        """The actor of one environment.

        Raises:
            SpecError: The environment, or the agent, does not fit the model.
        """
        torch.set_num_threads(1)
        world = load(self.run)
        agent = load_agent(self.file, world)
        seen = Filter(world, env.observation_space, env.action_space, ())
        return _Filtered(seen, lambda: Acting(agent))


class _Filtered:
    """Acts on what a filter believes."""

    def __init__(self, seen: Filter, begin: Callable[[], Callable[[np.ndarray], Any]]) -> None:
        self._seen, self._begin = seen, begin
        self._act = begin()

    def __call__(self, observation: Any, taken: Any | None) -> Any:
        if taken is None:
            self._seen.begin(observation)
            self._act = self._begin()
        else:
            self._seen.advance(taken, observation)
        return map_arrays(lambda array: np.asarray(array)[0], self._act(self._seen.means()))


@dataclass(frozen=True)
class OfZip:
    """An algorithm of Stable-Baselines3 that was trained on the environment's own observations."""

    path: str

    def __call__(self, env: gym.Env) -> Actor:
        """The actor of one environment.

        Raises:
            SpecError: No algorithm has the file's name, or the environment has other spaces.
            FileFormatError: The file is truncated, corrupt or foreign.
            MissingExtraError: Stable-Baselines3 is not installed.
        """
        require_extra("stable_baselines3", "agents")
        import stable_baselines3

        torch.set_num_threads(1)
        kind = getattr(stable_baselines3, Path(self.path).stem.upper().split("_")[0], None)
        if kind is None:
            raise SpecError(f"{self.path} is not named after an algorithm of Stable-Baselines3")
        try:
            agent = kind.load(self.path, device="cpu")
        except (ValueError, KeyError, BadZipFile) as error:
            raise FileFormatError(
                f"{self.path} is truncated, corrupt or foreign: {error}"
            ) from error
        try:
            agent.predict(
                env.observation_space.sample()
            )  # which knows pictures the other way round
            fits = agent.action_space == env.action_space
        except (ValueError, TypeError, AssertionError):
            fits = False
        if not fits:
            raise SpecError(
                f"{self.path} observes {agent.observation_space} and takes {agent.action_space}; "
                f"the environment gives {env.observation_space} and takes {env.action_space}"
            )
        return lambda observation, taken: agent.predict(observation, deterministic=True)[0]


@dataclass(frozen=True)
class OfFunction:
    """A function, from an observation of the environment to an action, named "module:function"."""

    name: str

    def function(self) -> Callable[[Any], Any]:
        """What is named.

        Raises:
            SpecError: There is no such thing.
        """
        module, _, name = self.name.rpartition(":")
        try:
            if "" not in sys.path:
                sys.path.insert(0, "")  # a file beside one is a module, as for ``python -m``
            found = getattr(importlib.import_module(module), name)
        except (ValueError, ModuleNotFoundError, AttributeError) as error:
            raise SpecError(
                f"no policy {self.name!r} ({error}); expected a run with a trained agent, a .zip "
                "of Stable-Baselines3, or 'module:function'"
            ) from error
        if not callable(found):
            raise SpecError(f"{self.name} is {found!r}; expected a function of an observation")
        return found

    def __call__(self, env: gym.Env) -> Actor:
        """The actor of any environment."""
        function = self.function()
        return lambda observation, taken: function(observation)
