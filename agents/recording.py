"""Record what an agent does in reality, as a ``Batch`` like any other recording."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from agents.rollout import Agent, rollout
from worldmodel.data.tape import Tape
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
    witness = _Witness(env, progress)
    acted = rollout(agent, VectorFilterObservation(witness, world), steps, seed, options)
    tape = Tape(world.model.observation_spec, world.model.action_spec.encode(acted.actions))
    everyone = np.arange(env.num_envs)

    def arrive(rows: np.ndarray, t: int) -> None:
        state = None if acted.states is None else acted.states[rows, t]
        tape.arrive(rows, t, witness.frames[t][rows], state)

    arrive(everyone, 0)
    last = acted.lengths - 1
    for t in range(acted.mask.shape[1]):
        rows = everyone[acted.mask[:, t]]
        tape.pay(rows, t, acted.rewards[rows, t], acted.terminated[rows] & (last[rows] == t))
        arrive(rows, t + 1)
    return tape.batch()


class _Witness(VectorWrapper):
    """Keeps what the environment shows before anybody filters it."""

    def __init__(self, env: VectorEnv, progress: Callable[[], None]) -> None:
        super().__init__(env)
        self.frames: list[np.ndarray] = []
        self._progress = progress

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        observation, info = self.env.reset(seed=seed, options=options)
        self.frames = [np.array(observation)]
        return observation, info

    def step(self, actions: Any) -> Any:
        observation, *rest = self.env.step(actions)
        self.frames.append(np.array(observation))
        self._progress()
        return observation, *rest
