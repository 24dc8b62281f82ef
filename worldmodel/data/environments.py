"""Make registered environments, with errors that help when the id is wrong."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from worldmodel.errors import SpecError


def make_vec(env_id: str, num_envs: int, env_kwargs: dict[str, Any]) -> VectorEnv:
    """Make a vector environment: native if one is registered, else Gymnasium's synchronous one.

    Args:
        env_id: Gymnasium id, with its version; "module:id" imports ``module`` first.
        num_envs: Number of environments.
        env_kwargs: Arguments of the environment.

    Raises:
        SpecError: ``env_id`` is not registered, or its module does not exist; the message names
            ids that are close. Or the environment refuses the arguments; the message names them.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        _import(module, env_id)
    try:
        gym.spec(name)
    except gym.error.Error as error:
        close = difflib.get_close_matches(name, gym.registry, n=3, cutoff=0.5)
        hint = f"; close ids: {', '.join(close)}" if close else ""
        raise SpecError(
            f"unknown environment {env_id!r}{hint}. Expected a registered Gymnasium id with its "
            "version, or 'module:id' to import the module that registers it"
        ) from error
    try:
        return gym.make_vec(env_id, num_envs=num_envs, **env_kwargs)
    except (TypeError, ValueError, gym.error.Error) as error:
        raise SpecError(
            f"cannot make {env_id!r} with the arguments {env_kwargs}: {error}"
        ) from error


def _import(module: str, env_id: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that exists but lacks one of its own dependencies tells its own story.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise SpecError(f"no module {module!r} to import for {env_id!r}") from error
