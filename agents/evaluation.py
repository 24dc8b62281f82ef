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
        """Undiscounted returns, lengths in steps, and the share that ended by itself, of each."""
        metrics: dict[str, int | float] = {"episodes": len(self.real.returns)}
        for name, acted in (("dream", self.dream), ("real", self.real)):
            metrics[f"return_{name}"] = float(acted.returns.mean())
            metrics[f"return_{name}_std"] = float(acted.returns.std())
            metrics[f"length_{name}"] = float(acted.lengths.mean())
            metrics[f"terminated_{name}"] = float(acted.terminated.mean())
        return metrics


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
    none = np.zeros((len(frames), 0, world.model.action_spec.size))
    start = world.filter(frames[:, None], none)[:, 0]
    dream = LatentVectorEnv(world, num_envs=len(frames), truncate_outside=False)
    imagined = rollout(agent, dream, steps, seed, {"state": start})
    acted = rollout(agent, VectorFilterObservation(real, world), steps, seed, options)
    return Comparison(imagined, acted)


def upright_share(states: np.ndarray, last: int = 20, cosine: float = 0.95) -> float:
    """Share of episodes in which a pendulum stays upright to the end.

    Args:
        states: (n, T + 1, 2), angle in rad (0 is upright) and velocity.
        last: Final frames that all must be upright; 20 are 2 s of the shipped pendulum.
        cosine: Upright means cos(angle) above this.
    """
    return float((np.cos(states[:, -last:, 0]) > cosine).all(1).mean())


def at_target_share(rewards: np.ndarray, last: int = 20, within: float = 0.2) -> float:
    """Share of episodes in which a ball stays at its target to the end.

    Args:
        rewards: (n, T), minus the ball's true distance to the target in half-widths of the box.
        last: Final steps that must all end there; 20 are 2 s of the shipped ball.
        within: Distance in half-widths; 0.2 is a tenth of the box, which is two half-widths wide.
    """
    return float((rewards[:, -last:] > -within).all(1).mean())


def in_middle_share(states: np.ndarray, last: int = 20, within: float = 0.5) -> float:
    """Share of episodes in which a ball stays in the middle half of its box to the end.

    Args:
        states: (n, T + 1, 4), position in half-widths of the box and velocity.
        last: Final frames that all must be there; 20 are 2 s of the shipped ball.
        within: Half-widths from the middle along each axis.
    """
    return float((np.abs(states[:, -last:, :2]) < within).all((1, 2)).mean())
