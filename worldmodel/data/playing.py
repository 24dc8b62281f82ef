"""Play one episode after the other in one environment: nothing is stepped that is not kept."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from worldmodel.data.behaviour import Behaviour, explored
from worldmodel.data.buffer import EpisodeBuffer, Played
from worldmodel.data.environments import CheckedObservation, Source, observed
from worldmodel.data.truth import Truth
from worldmodel.errors import SourceError, WorldModelError
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
            SourceError: The environment raised something; the message says what, where and when.
        """
        size, truth = self._acted.size, Truth()
        buffer = EpisodeBuffer(self._seen, np.zeros((1, job.steps, size), np.float32))
        one = np.zeros(1, np.int64)
        rng = np.random.default_rng(job.exploring)
        options = None if job.options is None else dict(job.options)
        with self._blamed("at its reset", job):
            observation, info = self._env.reset(seed=job.seed, options=options)
        buffer.observe(one, 0, _batched(observation), truth.read(_told(info), one))
        taken = None
        for t in range(job.steps):
            taken = self._choose(job, t, observation, taken, rng)
            buffer.act(one, t, self._acted.encode(taken)[None])
            with self._blamed(f"in step {t + 1} of an episode", job):
                observation, reward, terminated, truncated, info = self._env.step(taken)
            ends = np.array([terminated]), np.array([truncated])
            buffer.reward(one, t, np.array([reward]), *ends)
            buffer.observe(one, t + 1, _batched(observation), truth.read(_told(info), one))
            if terminated or truncated:
                break
        return buffer.played(0, truth.note)

    @contextmanager
    def _blamed(self, when: str, job: Job) -> Iterator[None]:
        """Have what the environment raises say so in one line, as a process can hand it on."""
        try:
            yield
        except (WorldModelError, gym.error.Error):
            raise
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            said = " ".join(str(error).split())
            raise SourceError(
                f"{self._id} raised {type(error).__name__} {when} (seed {job.seed}), in "
                f"{Path(last.filename).name}, line {last.lineno}: {said}"
            ) from error

    def _choose(
        self, job: Job, t: int, observation: Any, taken: Any, rng: np.random.Generator
    ) -> Any:
        drawn = map_arrays(lambda array: array[t], job.actions)
        if job.exploring is None or self._actor is None or self._behaviour is None:
            return drawn
        asked = self._actor(observation, taken)
        return explored(self._acted, asked, drawn, self._behaviour.exploration, rng)


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
