"""Play one episode after the other in one environment: nothing is stepped that is not kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.error import InvalidAction

from worldmodel.data.behaviour import Behaviour, explored
from worldmodel.data.blame import blamed
from worldmodel.data.buffer import EpisodeBuffer, Played
from worldmodel.data.environments import CheckedObservation, Source, observed
from worldmodel.data.truth import Truth
from worldmodel.spaces import ActionSpace, map_arrays


@dataclass(frozen=True)
class Job:
    """One episode to play: what there is to know of it, so that it does not matter where.

    Attributes:
        steps: Most of them.
        seed: Of the reset.
        options: Of the reset.
        actions: (T, *action shape), drawn beforehand.
        exploring: Seed of the exploration of a policy that acts; None where none does.
    """

    steps: int
    seed: int
    options: dict[str, Any] | None
    actions: Any
    exploring: int | None = None


class EpisodePlayer:
    """Plays jobs in an environment of its own.

    Attributes:
        spaces: Of observations and of actions.

    Args:
        source: Makes the environment.
        behaviour: Who acts in those jobs that explore.
    """

    def __init__(self, source: Source, behaviour: Behaviour | None = None) -> None:
        env = source.make()
        try:
            self.spaces = observed(env.observation_space), ActionSpace.from_space(env.action_space)
            self._env = CheckedObservation(env)
            self._actor = behaviour.make(self._env) if behaviour else None
        except Exception:
            env.close()
            raise
        self._seen, self._acted = self.spaces
        self._behaviour, self._id = behaviour, source.env_id

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def __call__(self, job: Job) -> Played:
        """What happens in an episode.

        Raises:
            ShapeError: An observation breaks its declared space.
            SpecError: Ground truth comes and goes.
            InvalidAction: The policy's action cannot be taken.
            SourceError: The environment, or the policy, raised something; the message says what,
                where and when.
        """
        size, truth = self._acted.size, Truth()
        buffer = EpisodeBuffer(self._seen, np.zeros((1, job.steps, size), np.float32))
        one = np.zeros(1, np.int64)
        rng = np.random.default_rng(job.exploring)
        options = None if job.options is None else dict(job.options)
        with blamed(self._id, f"at its reset (seed {job.seed})"):
            observation, info = self._env.reset(seed=job.seed, options=options)
        buffer.observe(one, 0, _batched(observation), truth.read(_told(info), one))
        taken = None
        for t in range(job.steps):
            taken, encoded = self._choose(job, t, observation, taken, rng)
            buffer.act(one, t, encoded[None])
            with blamed(self._id, _when(job, t)):
                observation, reward, terminated, truncated, info = self._env.step(taken)
            ends = np.array([terminated]), np.array([truncated])
            buffer.reward(one, t, np.array([reward]), *ends)
            buffer.observe(one, t + 1, _batched(observation), truth.read(_told(info), one))
            if terminated or truncated:
                break
        return buffer.played(0, truth.note)

    def _choose(
        self, job: Job, t: int, observation: Any, taken: Any, rng: np.random.Generator
    ) -> tuple[Any, np.ndarray]:
        """An action, and the same as controls."""
        drawn = map_arrays(lambda array: array[t], job.actions)
        if job.exploring is None or self._actor is None or self._behaviour is None:
            return drawn, self._acted.encode(drawn)
        name, noise = self._behaviour.name, self._behaviour.exploration
        try:
            with blamed(name, _when(job, t)):
                asked = self._actor(observation, taken)
            chosen = explored(self._acted, asked, drawn, noise, rng)
            return chosen, self._acted.encode(chosen)
        except InvalidAction as error:
            raise InvalidAction(f"{name}, {_when(job, t)}: {error}") from error


def _when(job: Job, t: int) -> str:
    return f"in step {t + 1} of an episode (seed {job.seed})"


def _batched(observation: Any) -> Any:
    return map_arrays(lambda value: np.asarray(value)[np.newaxis], observation)


def _told(info: dict[str, Any]) -> dict[str, Any]:
    """The state as a vector environment of one would tell it."""
    if "state" not in info:
        return {}
    try:
        state = np.asarray(info["state"])
    except ValueError:  # of lists of different lengths
        state = np.array(None)
    return {"state": state[np.newaxis] if state.dtype.kind in "biuf" else [info["state"]]}
