"""An agent in the dream and in reality, side by side, from the same starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv, VectorWrapper

from agents.forecast import Dreamt, dream_on
from agents.rollout import Agent, Rollout, rollout
from worldmodel.spaces import ActionSpace, ObservationSpace, map_arrays
from worldmodel.types import Observations, to_tensors
from worldmodel.world.filter import VectorFilterObservation
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World

# Real environments whose observations are kept.
_WATCHED = 8
# Frames that a first state is read from: one frame tells no velocity.
_LOOKS = 5


@dataclass(frozen=True)
class Comparison:
    """What happened in the dream and in reality.

    Attributes:
        dream: What the agent did in the dream.
        real: And in reality.
        random: What random actions do in reality, "random", and in the dream, "random_dream"; empty
            if nobody asked.
        shown: What the first of the real environments showed, (k, T + 1, *obs).
        foretold: What it did in dreams of this model, and then of others of the same data, paid
            wherever they led as the model of the reward says.
    """

    dream: Rollout
    real: Rollout
    random: dict[str, Rollout]
    shown: Observations
    foretold: tuple[Dreamt, ...]

    def metrics(self) -> dict[str, int | float]:
        """Undiscounted returns, lengths in steps, and the fraction that ended by itself."""
        metrics: dict[str, int | float] = {"episodes": len(self.real.returns)}
        return metrics | measures("dream", self.dream) | measures("real", self.real)


def measures(name: str, acted: Rollout) -> dict[str, float]:
    """The same of one of them."""
    return {
        f"return_{name}": float(acted.returns.mean()),
        f"return_{name}_std": float(acted.returns.std()),
        f"length_{name}": float(acted.lengths.mean()),
        f"terminated_{name}": float(acted.terminated.mean()),
    }


def dream(
    agent: Agent, world: World, episodes: int, steps: int, seed: int, progress: bool = False
) -> Rollout:
    """Run episodes in the dream alone, from states that the data knew.

    Args:
        agent: Acts on latent observations.
        world: Whose dream is used.
        episodes: How many.
        steps: Of each at most.
        seed: Of the starts and of the dream's process noise.
        progress: Whether to show a progress bar.
    """
    env = LatentVectorEnv(world, num_envs=episodes, truncate_outside=False)
    return rollout(agent, env, steps, seed, label="dream" if progress else None)


class Random:
    """Acts by chance: what an agent must be better than.

    Args:
        space: Of the actions.
        seed: Of the draws.
    """

    def __init__(self, space: ActionSpace, seed: int) -> None:
        self._space, self._rng = space, np.random.default_rng(seed)

    def predict(self, observation: np.ndarray, *, deterministic: bool = False) -> tuple[Any, None]:
        """Actions for a batch of observations, whatever they are."""
        return self._space.sample(self._rng, (len(observation),)), None


class _Watched(VectorWrapper):
    """Keeps what all environments show at first, and a few from then on."""

    def __init__(self, env: VectorEnv, space: ObservationSpace) -> None:
        super().__init__(env)
        self._space, self._shown = space, []

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        observation, info = self.env.reset(seed=seed, options=options)
        self._shown.clear()
        self._keep(observation)
        return observation, info

    def step(self, actions: Any) -> Any:
        observation, *rest = self.env.step(actions)
        self._keep(observation)
        return observation, *rest

    def shown(self, device: torch.device) -> Observations:
        """Since the reset, (k, T + 1, *obs)."""
        return to_tensors(self._stacked(self._shown, _WATCHED), 2, device)

    def first(self, frames: int) -> dict[str, np.ndarray]:
        """Of all, (n, frames, *obs) by stream; at most ``_LOOKS`` were kept."""
        return self._stacked(self._shown[:frames], self.num_envs)

    @staticmethod
    def _stacked(shown: list[dict[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
        return {name: np.stack([at[name][:count] for at in shown], 1) for name in shown[0]}

    def _keep(self, observation: Any) -> None:
        read = self._space.read(observation, (self.num_envs,))
        count = self.num_envs if len(self._shown) < _LOOKS else _WATCHED
        # Environments may write into what they gave.
        self._shown.append({name: np.array(values[:count]) for name, values in read.items()})


def compare(
    agent: Agent,
    world: World,
    real: VectorEnv,
    steps: int,
    seed: int,
    options: dict[str, Any] | None = None,
    random: bool = False,
    progress: bool = False,
    others: Sequence[World] = (),
) -> Comparison:
    """Run one episode per real environment, and as many dreams from where it begins.

    That is what its first frames tell, up to five; one of a moving system may be of many states.

    Args:
        agent: Acts on latent observations.
        world: Whose filter and dream are used.
        real: Real vector environment, unfiltered; not closed here.
        steps: Steps per episode at most.
        seed: Of the resets and of the dream's process noise.
        options: Of the real reset.
        random: Whether to let random actions act, too.
        progress: Whether to show progress bars.
        others: Further models of the same data, whose dreams begin at the same states.
    """
    told = {name: name if progress else None for name in ("dream", "reality")}
    watched = _Watched(real, world.model.observation_spec)
    filtered = VectorFilterObservation(watched, world)
    acted = rollout(agent, filtered, steps, seed, options, told["reality"])
    # Not all environments tell their limit.
    steps = acted.most(steps)
    # What is shown at an episode's end may be of the next one already.
    looks = min(_LOOKS, int(acted.lengths.min()))
    space, lead = world.model.action_spec, (real.num_envs, looks - 1)
    before = space.encode(map_arrays(lambda taken: taken[:, : looks - 1], acted.actions), lead)
    start = world.filter(watched.first(looks), before, looks)[:, 0]
    env = LatentVectorEnv(world, num_envs=real.num_envs, truncate_outside=False)
    imagined = rollout(agent, env, steps, seed, {"state": start}, told["dream"])
    chances = {}
    if random:
        chance = Random(world.model.action_spec, seed)
        filtered = VectorFilterObservation(real, world)
        chances["random"] = rollout(chance, filtered, steps, seed, options, told["reality"])
        chances["random_dream"] = rollout(chance, env, steps, seed, {"state": start}, told["dream"])
    generator = torch.Generator(world.model.device).manual_seed(seed)
    first = torch.as_tensor(start, device=world.model.device)
    foretold = tuple(dream_on(each, agent, first, steps, generator) for each in (world, *others))
    return Comparison(imagined, acted, chances, watched.shown(world.model.device), foretold)
