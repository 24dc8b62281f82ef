"""Play given actions in a vector environment, under whichever of Gymnasium's autoreset modes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array
from jaxtyping import Int

from worldmodel.data.blame import blamed
from worldmodel.data.buffer import EpisodeBuffer
from worldmodel.data.truth import Truth
from worldmodel.errors import SpecError
from worldmodel.spaces import map_arrays


def autoreset_mode(env: VectorEnv) -> AutoresetMode:
    """What an environment does after the end of an episode.

    Raises:
        SpecError: It does not declare it.
    """
    mode = env.metadata.get("autoreset_mode")
    if not isinstance(mode, AutoresetMode):
        raise SpecError(
            f"{env} declares the autoreset mode {mode!r}; expected a gymnasium.vector."
            "AutoresetMode in metadata['autoreset_mode']"
        )
    return mode


@dataclass(frozen=True)
class Player:
    """Plays episodes, one per environment, round by round.

    Attributes:
        env: Where they are played.
        buffer: What they are written to.
        truth: Reads their ground truth.
        actions: (B, T, *action shape), in Gymnasium's layout of a batch.
        steps: T.
        seeds: Of the resets, B.
        options: Of the resets.
        advance: Called with the number of frames of every episode that has come to its end.
    """

    env: VectorEnv
    buffer: EpisodeBuffer
    truth: Truth
    actions: Any
    steps: int
    seeds: list[int]
    options: dict[str, Any] | None
    advance: Callable[[int], None]

    def play(self, first: int) -> None:
        """Play the episodes from ``first`` on until all have ended."""
        mode = autoreset_mode(self.env)
        numbers = np.arange(first, first + self.env.num_envs)
        # Environments beyond the last episode play it again; nothing of that is kept.
        episode, alive = np.minimum(numbers, len(self.seeds) - 1), numbers < len(self.seeds)
        seed = self._reset_seed(episode)
        name = self.env.spec.id if self.env.spec else str(self.env)
        with blamed(name, "at its reset"):
            observation, infos = self.env.reset(seed=seed, options=self._fresh_options())
        self._observe(episode, np.flatnonzero(alive), 0, observation, infos)
        for t in range(self.steps):
            actions = map_arrays(lambda array, t=t: array[episode, t], self.actions)
            with blamed(name, f"in step {t + 1} of episodes {first} to {episode[-1]}"):
                observation, reward, terminated, truncated, infos = self.env.step(actions)
            ended = terminated | truncated
            outcome = (part[alive] for part in (reward, terminated, truncated))
            self.buffer.reward(episode[alive], t, *outcome)
            replaced = ended if mode is AutoresetMode.SAME_STEP else np.zeros_like(ended)
            self._observe(episode, np.flatnonzero(alive & ~replaced), t + 1, observation, infos)
            self._observe_last(episode, np.flatnonzero(alive & replaced), t + 1, infos)
            last = ended if t + 1 < self.steps else np.ones_like(ended)
            self._end(episode[alive & last], t + 2)
            alive &= ~last
            if not alive.any():
                break
            if mode is AutoresetMode.DISABLED and ended.any():
                self.env.reset(options={**(self.options or {}), "reset_mask": ended})

    def _end(self, episodes: Int[np.ndarray, " k"], frames: int) -> None:
        self.buffer.complete[episodes] = True
        for _ in episodes:
            self.advance(frames)

    def _observe(
        self,
        episode: Int[np.ndarray, " num_envs"],
        rows: Int[np.ndarray, " k"],
        t: int,
        observation: Any,
        infos: dict[str, Any],
    ) -> None:
        if len(rows):
            seen = map_arrays(lambda array: array[rows], observation)
            self.buffer.observe(episode[rows], t, seen, self.truth.read(infos, rows))

    def _observe_last(
        self,
        episode: Int[np.ndarray, " num_envs"],
        rows: Int[np.ndarray, " k"],
        t: int,
        infos: dict[str, Any],
    ) -> None:
        """Of the environments that ended and were reset in one step."""
        if not len(rows):
            return
        final = infos.get("final_obs")
        if final is None:
            raise SpecError(f"{self.env} resets in the same step, but gave no infos['final_obs']")
        if isinstance(final, np.ndarray) and final.dtype == object:
            space = self.env.single_observation_space
            seen = create_empty_array(space, len(rows))
            seen = concatenate(space, [final[i] for i in rows], seen)
        else:
            seen = map_arrays(lambda array: array[rows], final)
        states = self.truth.read(infos.get("final_info", {}), rows)
        self.buffer.observe(episode[rows], t, seen, states)

    def _reset_seed(self, episode: Int[np.ndarray, " num_envs"]) -> Any:
        """One seed per environment where each has its own generator, else one for all."""
        if isinstance(self.env.unwrapped, SyncVectorEnv | AsyncVectorEnv):
            return [self.seeds[i] for i in episode]
        return self.seeds[episode[0]]

    def _fresh_options(self) -> dict[str, Any] | None:
        """Environments may take their options out of the dictionary; the next round needs them."""
        return None if self.options is None else dict(self.options)
