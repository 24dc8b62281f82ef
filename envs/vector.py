"""Many real systems in one numpy step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float32, Shaped

from envs.single import FPS
from envs.system import RENDER_SIZE, Start, State, System
from envs.window import check_render_mode


class SystemVectorEnv(
    gym.vector.VectorEnv[Shaped[np.ndarray, "n ..."], Float32[np.ndarray, "n action"], np.ndarray]
):
    """N systems, each bit for bit what a ``SystemEnv`` of its own seed would be.

    A subclass chooses the system. Spaces, reward, resets and errors are those of the single
    environment; what differs follows ``gymnasium.vector.SyncVectorEnv``: env i is seeded with
    ``seed + i`` (or a list of seeds), and infos carry masks (``_state``) and, in mode "SameStep",
    ``final_obs`` and ``final_info``.

    Reset options: as the single environment's, where ``state`` may be (state,) or
    (num_envs, state), and ``reset_mask``, bool (num_envs,): resets only those, the others stay as
    they are. An autoreset always draws a babbling start.

    Args:
        system: Physics, pictures and starts.
        num_envs: How many.
        max_episode_steps: Truncate after so many steps; None never does.
        render_mode: "rgb_array" or None.
        autoreset_mode: An ``AutoresetMode`` or its value: "NextStep", "SameStep" or "Disabled".

    Raises:
        ValueError: A bad argument, seed list or reset option; the message names it.
        gymnasium.error.InvalidAction: Actions of wrong shape, of wrong dtype or not finite.
        gymnasium.error.ResetNeeded: Stepped before reset, or, in mode "Disabled", an env past the
            end of its episode.
    """

    def __init__(
        self,
        system: System,
        num_envs: int,
        max_episode_steps: int | None,
        render_mode: str | None,
        autoreset_mode: AutoresetMode | str,
    ) -> None:
        for name, value in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        self.autoreset_mode = _read_autoreset_mode(autoreset_mode)
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": FPS,
            "autoreset_mode": self.autoreset_mode,
        }
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.system = system
        self.render_mode = render_mode
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self.single_observation_space = system.observation_space
        self.single_action_space = system.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._observe = system.observer(num_envs)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._state = np.zeros((num_envs, *system.state_space.shape))
        self._action = np.zeros((num_envs, system.action_size))
        self._elapsed = np.zeros(num_envs, np.int64)
        self._done = np.zeros(num_envs, np.bool_)
        self._ready = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start episodes; see the class for ``seed`` and ``options``."""
        options = dict(options or {})
        chosen = self._read_mask(options.pop("reset_mask", None))
        start = self.system.read_start(options, self.num_envs)
        seeds = self._read_seeds(seed)
        if not self._ready and not chosen.all():
            raise ResetNeeded("the first reset must include every env")
        for i in np.flatnonzero(chosen).tolist():
            if seeds[i] is not None or self._generators[i] is None:
                self._generators[i] = seeding.np_random(seeds[i])[0]
        self._place(chosen, start)
        self._ready = True
        observations = self._observe(self._state)
        return observations, self._info(chosen)

    def step(
        self, actions: Float32[np.ndarray, "n action"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Apply actions for one control interval.

        In mode "NextStep", envs that ended last time are reset instead.
        """
        if not self._ready:
            raise ResetNeeded("call reset before step")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._done.any():
            ended = np.flatnonzero(self._done).tolist()
            raise ResetNeeded(f"envs {ended} have ended; reset them with option 'reset_mask'")
        self._action = self.system.read_action(actions, self._action.shape)
        self._state, rewards = self.system.advance(self._state, self._action)
        self._elapsed += 1
        if self._done.any():
            rewards[self._done] = 0.0
            self._place(self._done, self.system.starts["babbling"])
        limit = np.inf if self.max_episode_steps is None else self.max_episode_steps
        truncated = self._elapsed >= limit
        observations = self._observe(self._state)
        if self.autoreset_mode is AutoresetMode.SAME_STEP and truncated.any():
            infos = self._reset_now(truncated, observations)
        else:
            infos = self._info(np.ones(self.num_envs, np.bool_))
            self._done = truncated.copy()
        return observations, rewards, np.zeros(self.num_envs, np.bool_), truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One RGB frame (256, 256, 3) per env in mode "rgb_array"; None otherwise."""
        if not self._ready:
            raise ResetNeeded("call reset before render")
        if self.render_mode is None:
            gym.logger.warn("render needs a render_mode: pass 'rgb_array' to gym.make_vec")
            return None
        # One at a time: the scratch memory of a thousand large colour pictures is gigabytes.
        return tuple(
            self.system.scene(self._state[i : i + 1], self._action[i : i + 1], RENDER_SIZE)[0]
            for i in range(self.num_envs)
        )

    def call(self, name: str) -> tuple[Any, ...]:
        """What Gymnasium's own vector environments give: one attribute, or frame, of each.

        Raises:
            ValueError: It is another method than ``render``: the systems act together only.
        """
        if name == "render":
            return self.render() or (None,) * self.num_envs
        value = getattr(self, name)
        if callable(value):
            raise ValueError(f"the systems act together: {name!r} cannot be called of each")
        return (value,) * self.num_envs

    def _place(self, chosen: Bool[np.ndarray, " n"], start: Start | State) -> None:
        """Start new episodes of the chosen envs: draw them, or take their rows of ``start``."""
        if callable(start):
            generators = [self._generator(i) for i in np.flatnonzero(chosen).tolist()]
            self._state[chosen] = self.system.draw(start, generators)
        else:
            self._state[chosen] = start[chosen]
        self._action[chosen] = 0.0
        self._elapsed[chosen] = 0
        self._done[chosen] = False

    def _reset_now(self, ended: Bool[np.ndarray, " n"], observations: np.ndarray) -> dict[str, Any]:
        """Reset ``ended`` envs, replace their rows of ``observations``, return the infos."""
        final = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(ended):
            final[i] = observations[i].copy()
        final_info = self._info(ended)
        self._place(ended, self.system.starts["babbling"])
        observations[ended] = self._observe(self._state[ended])
        return self._info(np.ones(self.num_envs, np.bool_)) | {
            "final_obs": final,
            "_final_obs": ended.copy(),
            "final_info": final_info,
            "_final_info": ended.copy(),
        }

    def _info(self, chosen: Bool[np.ndarray, " n"]) -> dict[str, Any]:
        """Ground truth of the chosen envs; zeros in the other rows."""
        state = self.system.truth(self._state)
        state[~chosen] = 0.0
        return {"state": state, "_state": chosen.copy()}

    def _generator(self, index: int) -> np.random.Generator:
        generator = self._generators[index]
        assert generator is not None, "reset creates every generator"
        return generator

    def _read_seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"need {self.num_envs} seeds, one per env, got {len(seed)}")
        return seed

    def _read_mask(self, mask: Any) -> Bool[np.ndarray, " n"]:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise ValueError(f"option 'reset_mask' must be a bool array, got {mask!r}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"option 'reset_mask' must be ({self.num_envs},) with at least one True, "
                f"got {mask.shape} with {mask.sum()}"
            )
        return mask.copy()


def _read_autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        known = [member.value for member in AutoresetMode]
        raise ValueError(f"autoreset_mode must be one of {known}, got {mode!r}") from error
