"""An agent in the dream and in reality, side by side, from the same starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from agents.rollout import Agent, Rollout, rollout
from worldmodel.world.filter import VectorFilterObservation
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World


@dataclass(frozen=True)
class Comparison:
    """What happened in the dream and in reality."""

    dream: Rollout
    real: Rollout

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


def dream(agent: Agent, world: World, episodes: int, steps: int, seed: int) -> Rollout:
    """Run episodes in the dream alone, from states that the data knew.

    Args:
        agent: Acts on latent observations.
        world: Whose dream is used.
        episodes: How many.
        steps: Of each at most.
        seed: Of the starts and of the dream's process noise.
    """
    env = LatentVectorEnv(world, num_envs=episodes, truncate_outside=False)
    return rollout(agent, env, steps, seed)


def compare(
    agent: Agent,
    world: World,
    real: VectorEnv,
    steps: int,
    seed: int,
    options: dict[str, Any] | None = None,
) -> Comparison:
    """Run one episode per real environment, and as many dreams from the same first frames.

    Args:
        agent: Acts on latent observations.
        world: Whose filter and dream are used.
        real: Real vector environment, unfiltered; not closed here. Its reset must be
            reproducible from ``seed``, since the first frames are taken from a reset of their own.
        steps: Steps per episode at most.
        seed: Of the resets and of the dream's process noise.
        options: Of the real reset.
    """
    frames, _ = real.reset(seed=seed, options=options)
    space = world.model.observation_spec
    seen = {name: values[:, None] for name, values in space.read(frames, (real.num_envs,)).items()}
    none = np.zeros((real.num_envs, 0, world.model.action_spec.size), np.float32)
    start = world.filter(seen, none)[:, 0]
    env = LatentVectorEnv(world, num_envs=real.num_envs, truncate_outside=False)
    imagined = rollout(agent, env, steps, seed, {"state": start})
    acted = rollout(agent, VectorFilterObservation(real, world), steps, seed, options)
    return Comparison(imagined, acted)
