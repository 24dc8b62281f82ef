"""Stable-Baselines3 in the dream: a proper ``VecEnv``, and one function that trains.

SB3 refuses Gymnasium's vector environments; this shell gives it what it wants (same-step resets,
``terminal_observation``, ``TimeLimit.truncated``, a list of info dicts) over one tensor step for
all environments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from rich.progress import Progress

from worldmodel.errors import SpecError, require_extra
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World

require_extra("stable_baselines3", "agents")

import stable_baselines3  # noqa: E402 - after the check that names the extra
from stable_baselines3.common.base_class import BaseAlgorithm  # noqa: E402 - likewise
from stable_baselines3.common.vec_env import VecEnv  # noqa: E402 - likewise

ALGORITHMS = ("PPO", "A2C", "SAC", "TD3", "DDPG", "DQN")


class LatentVecEnv(VecEnv):
    """``num_envs`` dreams as a Stable-Baselines3 ``VecEnv``.

    Args:
        world: With a fitted support.
        num_envs: How many.
        max_episode_steps: After which an episode is truncated.
        noise: Whether the dreams have the model's process noise.
    """

    def __init__(
        self,
        world: World,
        num_envs: int,
        max_episode_steps: int = 200,
        noise: bool = True,
    ) -> None:
        spec = world.model.observation_spec
        self.render_mode = "rgb_array" if spec.pixels and spec.shape[2] in (1, 3) else None
        self.env = LatentVectorEnv(
            world,
            num_envs=num_envs,
            max_episode_steps=max_episode_steps,
            autoreset_mode=AutoresetMode.SAME_STEP,
            noise=noise,
            render_mode=self.render_mode,
        )
        self._actions = np.zeros(())
        super().__init__(num_envs, self.env.single_observation_space, self.env.single_action_space)

    def reset(self) -> np.ndarray:
        """Start all episodes, with what ``seed`` and ``set_options`` left, if anything."""
        seed, options = self._seeds[0], self._options
        self._reset_seeds()
        self._reset_options()
        stacked = {key: np.stack([o[key] for o in options]) for key in options[0]}
        observations, infos = self.env.reset(seed=seed, options=stacked)
        self.reset_infos = [
            {"outside_support": bool(outside)} for outside in infos["outside_support"]
        ]
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """One tensor step for all; ended episodes have begun anew in what is returned."""
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions)
        done = terminated | truncated
        listed: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            listed[i] = {
                "terminal_observation": infos["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                "outside_support": bool(infos["final_info"]["outside_support"][i]),
            }
        return observations, rewards, done, listed

    def close(self) -> None:
        """Close the dreams."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Decoded frames of all dreams."""
        return self.env.render() or ()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of the vector environment, once per index."""
        return [getattr(self._owner(attr_name), attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute, of all dreams at once only.

        Raises:
            SpecError: ``indices`` picks some: the dreams are one object.
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise SpecError(f"all dreams share {attr_name!r}; cannot set it for {indices} only")
        setattr(self._owner(attr_name), attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of the vector environment once; its result stands for every index."""
        result = getattr(self.env, method_name)(*args, **kwargs)
        return [result] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Never wrapped."""
        return [False] * len(list(self._get_indices(indices)))

    def _owner(self, attr_name: str) -> LatentVecEnv | LatentVectorEnv:
        return self if hasattr(self, attr_name) else self.env

    def _get_indices(self, indices: Any) -> Iterable[int]:
        return super()._get_indices(indices)


def train_sb3(
    world: World,
    algorithm: str = "PPO",
    timesteps: int = 200_000,
    num_envs: int = 64,
    max_episode_steps: int = 100,
    seed: int = 0,
    progress: bool = True,
    **hyperparameters: Any,
) -> BaseAlgorithm:
    """Train a Stable-Baselines3 algorithm in the dream alone.

    Args:
        world: With a fitted support.
        algorithm: One of ``ALGORITHMS``; its action space must be the model's.
        timesteps: Imagined steps over all dreams.
        num_envs: Dreams that run at once.
        max_episode_steps: After which a dream is truncated.
        seed: Of the algorithm and of the dreams.
        progress: Whether to show a progress bar.
        hyperparameters: Passed on to the algorithm, over its own defaults.

    Returns:
        The trained algorithm; ``predict`` acts on latent observations, dreamt or filtered.

    Raises:
        SpecError: The algorithm is unknown.
        MissingExtraError: Stable-Baselines3 is not installed.
    """
    if algorithm not in ALGORITHMS:
        raise SpecError(f"algorithm must be one of {ALGORITHMS}, got {algorithm!r}")
    only = {"DQN": "discrete", "SAC": "box", "TD3": "box", "DDPG": "box"}.get(algorithm)
    if only not in (None, world.model.action_spec.kind):
        raise SpecError(
            f"{algorithm} needs {only} actions, the model has {world.model.action_spec.space()}"
        )
    env = LatentVecEnv(world, num_envs, max_episode_steps)
    learner = getattr(stable_baselines3, algorithm)(
        "MlpPolicy", env, seed=seed, device="cpu", **hyperparameters
    )
    # Not SB3's own bar, which needs a package that the extra does not bring.
    with Progress(disable=not progress) as bar:
        task = bar.add_task("agent", total=timesteps)

        def advance(*_: Any) -> bool:
            bar.update(task, completed=learner.num_timesteps)
            return True

        return learner.learn(timesteps, callback=advance)
