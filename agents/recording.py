"""Record what an agent does in reality, as a ``Batch`` like any other recording."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from agents.rollout import Agent, rollout
from worldmodel.data.buffer import EpisodeBuffer
from worldmodel.spaces import map_arrays
from worldmodel.types import Batch
from worldmodel.world.filter import VectorFilterObservation
from worldmodel.world.world import World


def record_agent(
    agent: Agent,
    world: World,
    env: VectorEnv,
    steps: int,
    seed: int,
    options: dict[str, Any] | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Batch:
    """One real episode per environment, in which an agent acts on what the filter believes.

    Args:
        agent: Acts on latent observations.
        world: Whose filter the agent sees through.
        env: Real vector environment, unfiltered; not closed here. It must not reset within the
            step that ends an episode.
        steps: Steps per episode at most; an episode that ends before is padded.
        seed: Of the reset.
        options: Of the reset.
        progress: Called after every step.

    Raises:
        SpecError: The environment does not fit the world, or shows what is not finite.
    """
    recorder = FrameRecorder(env, progress)
    acted = rollout(agent, VectorFilterObservation(recorder, world), steps, seed, options)
    model, shape = world.model, acted.mask.shape
    buffer = EpisodeBuffer(model.observation_spec, model.action_spec.encode(acted.actions, shape))
    everyone = np.arange(env.num_envs)

    def arrive(rows: np.ndarray, t: int) -> None:
        state = None if acted.states is None else acted.states[rows, t]
        seen = map_arrays(lambda array: array[rows], recorder.frames[t])
        buffer.observe(rows, t, seen, state)

    arrive(everyone, 0)
    last = acted.lengths - 1
    for t in range(acted.mask.shape[1]):
        rows = everyone[acted.mask[:, t]]
        ended, over = acted.terminated[rows], last[rows] == t
        # Who was still going when the last step was taken was cut off here, not by the environment.
        limited = ~ended & over & (t + 1 < steps)
        buffer.reward(rows, t, acted.rewards[rows, t], ended & over, limited)
        arrive(rows, t + 1)
    return buffer.batch()


class FrameRecorder(VectorWrapper):
    """Keeps what the environment shows before anybody filters it."""

    def __init__(self, env: VectorEnv, progress: Callable[[], None]) -> None:
        super().__init__(env)
        self.frames: list[Any] = []
        self._progress = progress

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        """Reset, and begin anew."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.frames = [map_arrays(np.array, observation)]
        return observation, info

    def step(self, actions: Any) -> Any:
        """Step, and keep what is shown."""
        observation, *rest = self.env.step(actions)
        self.frames.append(map_arrays(np.array, observation))
        self._progress()
        return observation, *rest
