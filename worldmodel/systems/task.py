"""An agent at the task of a known system: judged on many episodes, in the dream and in reality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.evaluation import Comparison, compare
from agents.rollout import Agent
from worldmodel.data import Source
from worldmodel.systems.system import System
from worldmodel.world.world import World

EPISODES = 100  # real ones, each from a start of its own, that an agent is judged on
STEPS = 100  # of each; ten seconds of the systems that ship
_DRAWN = 10  # episodes whose states are drawn


@dataclass(frozen=True)
class Acted:
    """What an agent did.

    Attributes:
        result: Episodes in the dream and in reality.
        metrics: Of the task.
        reference: Return from which on the environment counts as solved; None if nobody says.
    """

    result: Comparison
    metrics: dict[str, Any]
    reference: float | None = None

    @property
    def visited(self) -> np.ndarray:
        """States (k, m) of the first real episodes, of an environment that tells them."""
        states = self.result.real.states
        assert states is not None, "asked only of environments that tell their state"
        return states[:_DRAWN].reshape(-1, states.shape[-1])


def act(
    agent: Agent,
    world: World,
    source: Source,
    system: System,
    start: dict[str, Any] | None = None,
    episodes: int = EPISODES,
    steps: int = STEPS,
    seed: int = 0,
    random: bool = False,
    progress: bool = True,
    others: Sequence[World] = (),
) -> Acted:
    """Let an agent act from the same starts in the dream and in reality.

    Args:
        agent: What acts.
        world: Whose dream and filter are used.
        source: Makes the real environments.
        system: Knows the task.
        start: Reset options in place of the system's.
        episodes: How many.
        steps: Of each at most.
        seed: Of the starts and of the dream's noise.
        random: Whether to let random actions act, too.
        progress: Whether to show progress bars.
        others: Further models of the same data, in whose dreams it acts, too.
    """
    real = source.make_vec(episodes)
    try:
        options = start or system.task_start(episodes, seed)
        result = compare(agent, world, real, steps, seed, options, random, progress, others)
        reference = real.spec.reward_threshold if real.spec else None
    finally:
        real.close()
    return Acted(result, result.metrics() | system.task_metrics(result.real), reference)
