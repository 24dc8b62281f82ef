"""Stable-Baselines3 in the dream: a proper ``VecEnv``, and one function that trains.

SB3 refuses Gymnasium's vector environments; this shell gives it what it wants (same-step resets,
``terminal_observation``, ``TimeLimit.truncated``, a list of info dicts) over one tensor step for
all environments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from torch.optim.optimizer import register_optimizer_step_post_hook

from worldmodel.errors import (
    FileFormatError,
    ShapeError,
    SpecError,
    require_at_least,
    require_extra,
)
from worldmodel.progress import Progress
from worldmodel.spaces import ActionSpace, Flattening
from worldmodel.world.dynamics import recorded_reward
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World

require_extra("stable_baselines3", "agents")

import stable_baselines3  # noqa: E402 - after the check that names the extra
from stable_baselines3.common.base_class import BaseAlgorithm  # noqa: E402 - likewise
from stable_baselines3.common.vec_env import VecEnv  # noqa: E402 - likewise

ALGORITHMS = ("PPO", "A2C", "SAC", "TD3", "DDPG", "DQN")
# Steps of each dream between two improvements of PPO.
_ROLLOUT = 2048
_CONTINUOUS = ("SAC", "TD3", "DDPG")
# What marks in an algorithm's file what is pickled, and what stands for such settings where their
# absence would stop it; they are of training.
_PICKLE = ":serialized:"
_MENDED = {"train_freq": 1, "clip_range": 0.2, "learning_rate": 1e-3}


class LatentVecEnv(VecEnv):
    """``num_envs`` dreams as a Stable-Baselines3 ``VecEnv``.

    Leaving the support truncates, and critics then value what they have not seen. Where no recorded
    reward is negative that pays: whatever they imagine out there beats an end. So there leaving is
    final, worth nothing more, as it is to all that dreams (``Goal.outside``). Where rewards can be
    negative an end would be a way out, and leaving stays a truncation.

    Args:
        world: With a fitted support.
        num_envs: How many.
        max_episode_steps: After which an episode is truncated.
        noise: Whether the dreams have the model's process noise.
        box: Whether discrete parts of a mixed action space become numbers of one Box.
        starts: Of a number, that many states (n, latent) for episodes to begin at; by default the
            model's own first states.
    """

    def __init__(
        self,
        world: World,
        num_envs: int,
        max_episode_steps: int = 200,
        noise: bool = True,
        box: bool = False,
        starts: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        self.render_mode = "rgb_array"
        self.env = LatentVectorEnv(
            world,
            num_envs=num_envs,
            max_episode_steps=max_episode_steps,
            autoreset_mode=AutoresetMode.SAME_STEP,
            noise=noise,
            render_mode=self.render_mode,
        )
        self._final_outside, self._starts = recorded_reward(world).outside == 0, starts
        self._actions = np.zeros(())
        self._flat = (
            None if suits(world.model.action_spec) else Flattening(world.model.action_spec, box)
        )
        space = self._flat.space if self._flat else self.env.single_action_space
        super().__init__(num_envs, self.env.single_observation_space, space)
        self.metadata = self.env.metadata  # in place of what it gathers of render modes

    def reset(self) -> np.ndarray:
        """Start all episodes, with what ``seed`` and ``set_options`` left, if anything."""
        seed, options = self._seeds[0], self._options
        self._reset_seeds()
        self._reset_options()
        if self._starts is not None and not any(options):
            options = [{"state": state} for state in self._starts(self.num_envs)]
        some = np.array([bool(o) for o in options])
        stacked = _stacked(options)
        observations, infos = self.env.reset(seed=seed, options=stacked if some.all() else None)
        outside = infos["outside_support"]
        if some.any() and not some.all():
            observations, infos = self.env.reset(options=stacked | {"reset_mask": some})
            outside = np.where(some, infos["outside_support"], outside)
        self.reset_infos = [{"outside_support": bool(o)} for o in outside]
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions if self._flat is None else self._flat(actions)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """One tensor step for all; ended episodes have begun anew in what is returned."""
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions)
        done = terminated | truncated
        listed: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            outside = bool(infos["final_info"]["outside_support"][i])
            final = terminated[i] or (outside and self._final_outside)
            listed[i] = {
                "terminal_observation": infos["final_obs"][i],
                "TimeLimit.truncated": not final,
                "outside_support": outside,
            }
        if self._starts is not None and done.any():
            begun = np.zeros((self.num_envs, observations.shape[1]), np.float32)
            begun[done] = self._starts(int(done.sum()))
            observations, _ = self.env.reset(options={"state": begun, "reset_mask": done})
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


class FlatAgent:
    """An algorithm that acts in a flat space, in the real one.

    Args:
        agent: Of Stable-Baselines3.
        flattening: Between the two.
    """

    def __init__(self, agent: BaseAlgorithm, flattening: Flattening) -> None:
        self.agent, self._flattening = agent, flattening

    def predict(self, observation: np.ndarray, **kwargs: Any) -> tuple[Any, Any]:
        """As the algorithm's, its actions in the real space."""
        actions, state = self.agent.predict(observation, **kwargs)
        return self._flattening(actions), state

    def save(self, path: Any) -> None:
        """As the algorithm's."""
        self.agent.save(path)


def suits(actions: ActionSpace) -> bool:
    """Whether algorithms take the space as it is, and act in it.

    They divide by the range of a ``float32`` vector, so it has to be finite and not zero; and count
    from 0 in ``int64``.
    """
    space = actions.space()
    if isinstance(space, gym.spaces.Discrete):
        return bool(space.start == 0 and space.dtype == np.int64)
    if not (isinstance(space, gym.spaces.Box) and space.dtype == np.float32):
        return False
    half = space.high / 2 - space.low / 2
    plain = (half > 0) & (half < np.finfo(np.float32).max / 2)
    return len(space.shape) == 1 and bool(plain.all())


def acting(agent: BaseAlgorithm, actions: ActionSpace) -> BaseAlgorithm | FlatAgent:
    """An algorithm that was trained in the dream, whose actions are the real environment's."""
    if agent.action_space == actions.space():
        return agent
    return FlatAgent(agent, Flattening(actions, isinstance(agent.action_space, gym.spaces.Box)))


def unpickled(name: str, file: str | Path | BytesIO, world: World) -> BaseAlgorithm:
    """An algorithm trained in a world's dream, from the weights and plain settings of its file.

    Stable-Baselines3's own ``load`` unpickles, which runs whatever code the file holds.

    Args:
        name: One of ``ALGORITHMS``.
        file: What its ``save`` wrote.
        world: Whose spaces it gets.

    Raises:
        FileFormatError: It is truncated, corrupt, foreign, or has pickled settings of its networks.
        SpecError: It does not fit the world.
    """
    kind: Any = getattr(stable_baselines3, name)
    spec, size = world.model.action_spec, world.model.latent_size
    flat = None if suits(spec) else Flattening(spec, name in _CONTINUOUS)
    try:
        with ZipFile(file) as archive:
            told = json.loads(archive.read("data"))
        pickled = {key: v for key, v in told.items() if isinstance(v, dict) and _PICKLE in v}
        mended = dict.fromkeys(pickled) | {k: v for k, v in _MENDED.items() if k in pickled}
        if "policy_kwargs" in pickled:
            mended["policy_kwargs"] = _plain(pickled["policy_kwargs"])
        mended |= {
            "policy_class": kind.policy_aliases["MlpPolicy"],
            "observation_space": gym.spaces.Box(-np.inf, np.inf, (size,), np.float32),
            "action_space": flat.space if flat else spec.space(),
        }
        return kind.load(file, device="cpu", custom_objects=mended)
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever a foreign file leads to
        if "size mismatch" in str(error):
            raise SpecError(
                f"{file} is not of a model with {size} latent dimensions and {spec.size} numbers "
                f"to act with"
            ) from error
        raise FileFormatError(f"{file} is truncated, corrupt or foreign: {error}") from error


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of networks, as far as they are JSON; the optimiser, which A2C pickles, only trains."""
    kept = {k: v for k, v in settings.items() if not k.startswith((":", "optimizer_"))}
    if foreign := [k for k, v in kept.items() if isinstance(v, str) or _PICKLE in str(v)]:
        raise FileFormatError(f"the networks' {foreign[0]} is pickled; expected plain numbers")
    return kept


def _stacked(options: list[dict[str, Any]]) -> dict[str, Any]:
    """One dictionary of arrays from one per dream; rows of dreams without any are anybody's.

    Raises:
        SpecError: Some have other options than others have.
        ShapeError: Those of one name do not have the same shape.
    """
    first = next(filter(None, options), {})
    if any(o and o.keys() != first.keys() for o in options):
        raise SpecError(f"dreams need the same options or none, got {[sorted(o) for o in options]}")
    try:
        return {key: np.stack([(o or first)[key] for o in options]) for key in first}
    except ValueError as error:
        raise ShapeError(f"options of all dreams must have the same shapes: {error}") from error


def train_sb3(
    world: World,
    algorithm: str = "PPO",
    timesteps: int = 200_000,
    num_envs: int = 64,
    max_episode_steps: int = 100,
    seed: int = 0,
    progress: bool = True,
    device: str = "cpu",
    **hyperparameters: Any,
) -> BaseAlgorithm | FlatAgent:
    """Train a Stable-Baselines3 algorithm in the dream alone.

    Args:
        world: With a fitted support.
        algorithm: One of ``ALGORITHMS``. Action spaces that it does not take are flattened for it;
            DQN takes a single index, and SAC, TD3 and DDPG take no index alone.
        timesteps: Imagined steps over all dreams.
        num_envs: Dreams that run at once.
        max_episode_steps: After which a dream is truncated.
        seed: Of the algorithm and of the dreams.
        progress: Whether to show a progress bar.
        device: Of the algorithm's networks.
        hyperparameters: Passed on to the algorithm, over its own defaults. PPO's rollouts are
            shorter than those where there are fewer timesteps than one has.

    Returns:
        The trained algorithm; ``predict`` acts on latent observations, dreamt or filtered.

    Raises:
        SpecError: The algorithm is unknown, or the data had no rewards.
        MissingExtraError: Stable-Baselines3 is not installed.
    """
    world.require_reward()
    if algorithm not in ALGORITHMS:
        raise SpecError(f"algorithm must be one of {ALGORITHMS}, got {algorithm!r}")
    require_at_least(1, timesteps=timesteps)
    actions = world.model.action_spec
    box = algorithm in _CONTINUOUS
    if (box and actions.kind == "discrete") or (algorithm == "DQN" and actions.kind != "discrete"):
        needed = "numbers to act with" if box else "a single index to choose"
        raise SpecError(f"{algorithm} needs {needed}, the actions are {actions.space()}")
    env = LatentVecEnv(world, num_envs, max_episode_steps, box=box)
    if algorithm == "PPO":
        # A rollout is taken whole: of the usual length, few steps would become a hundred thousand.
        least = max(2, -(-timesteps // num_envs))
        hyperparameters = {"n_steps": min(_ROLLOUT, least)} | hyperparameters
    learner = getattr(stable_baselines3, algorithm)(
        "MlpPolicy", env, seed=seed, device=device, **hyperparameters
    )
    # Not SB3's own bar, which needs a package that the extra does not bring.
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[learned]}"))
    with Progress(*columns, TimeElapsedColumn(), disable=not progress) as bar:
        task = bar.add_task("agent", total=timesteps, learned="")
        learned = count()

        def advance(*_: Any) -> bool:
            bar.update(task, completed=min(learner.num_timesteps, timesteps))
            return True

        def learn(*_: Any) -> None:
            bar.update(task, learned=f"{next(learned) + 1:,} gradient updates")

        # Between two rollouts there are thousands of updates, of which SB3 tells nobody.
        hook = register_optimizer_step_post_hook(learn)
        try:
            return acting(learner.learn(timesteps, callback=advance), actions)
        finally:
            hook.remove()
