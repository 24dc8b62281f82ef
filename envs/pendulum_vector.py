"""Many pendulums in one numpy step."""

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

from envs.pendulum import (
    RENDER_SIZE,
    Observation,
    Pendulum,
    PendulumConfig,
    babbling_start,
    pack_state,
    reward,
    rk4_step,
    wrap_angle,
)
from envs.rendering import BLUR, Painter, check_render_mode, draw_scene


class PendulumVector(
    gym.vector.VectorEnv[Shaped[np.ndarray, "n ..."], Float32[np.ndarray, "n 1"], np.ndarray]
):
    """N pendulums, each bit for bit what a ``Pendulum`` of its own seed would be.

    Spaces, reward, resets and errors are those of ``Pendulum``; what differs follows
    ``gymnasium.vector.SyncVectorEnv``: env i is seeded with ``seed + i`` (or a list of seeds), and
    infos carry masks (``_state``) and, in mode "SameStep", ``final_obs`` and ``final_info``.

    Reset options: as ``Pendulum``'s, where ``state`` may be (2,) or (num_envs, 2), and
    ``reset_mask``, bool (num_envs,): resets only those, the others stay as they are. An autoreset
    always draws a babbling start.

    Args:
        num_envs: How many.
        max_episode_steps: Truncate after so many steps; None never does.
        observation: "pixels" or "state".
        size: Width and height of the pixels.
        max_torque: N m.
        blur: Width in pixels of an edge in the pixels, 1 (sharp) to ``size``.
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
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        observation: Observation = "pixels",
        size: int = 16,
        max_torque: float = 5.0,
        blur: float = BLUR,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        for name, value in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        self.autoreset_mode = _read_autoreset_mode(autoreset_mode)
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": Pendulum.metadata["render_fps"],
            "autoreset_mode": self.autoreset_mode,
        }
        self.config = PendulumConfig(observation, size, max_torque, blur)
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self.single_observation_space = self.config.observation_space
        self.single_action_space = self.config.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._painter = Painter(size, num_envs, blur)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._angle, self._velocity, self._torque = np.zeros((3, num_envs))
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
        start = self.config.read_start(options, self.num_envs)
        seeds = self._read_seeds(seed)
        if not self._ready and not chosen.all():
            raise ResetNeeded("the first reset must include every env")
        for i in np.flatnonzero(chosen).tolist():
            if seeds[i] is not None or self._generators[i] is None:
                self._generators[i] = seeding.np_random(seeds[i])[0]
        self._place(chosen, start)
        self._ready = True
        observations = self.config.observe(self._painter, self._angle, self._velocity)
        return observations, self._info(chosen)

    def step(
        self, actions: Float32[np.ndarray, "n 1"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Apply torques for 0.1 s; in mode "NextStep", reset the envs that ended last time."""
        if not self._ready:
            raise ResetNeeded("call reset before step")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._done.any():
            ended = np.flatnonzero(self._done).tolist()
            raise ResetNeeded(f"envs {ended} have ended; reset them with option 'reset_mask'")
        self._torque = self.config.read_torque(actions, (self.num_envs, 1))
        rewards = reward(self._angle, self._velocity, self._torque)
        angle, self._velocity = rk4_step(self._angle, self._velocity, self._torque)
        self._angle = wrap_angle(angle)
        self._elapsed += 1
        if self._done.any():
            rewards[self._done] = 0.0
            self._place(self._done)
        limit = np.inf if self.max_episode_steps is None else self.max_episode_steps
        truncated = self._elapsed >= limit
        observations = self.config.observe(self._painter, self._angle, self._velocity)
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
        torque = self._torque / self.config.max_torque
        # One at a time: the scratch memory of a thousand large colour pictures is gigabytes.
        return tuple(
            draw_scene(self._angle[i : i + 1], torque[i : i + 1], RENDER_SIZE)[0]
            for i in range(self.num_envs)
        )

    def _place(self, chosen: Bool[np.ndarray, " n"], start: np.ndarray | None = None) -> None:
        """Start new episodes of the chosen envs, babbling if ``start`` (n, 2) is None."""
        if start is None:
            draws = [babbling_start(self._generator(i)) for i in np.flatnonzero(chosen).tolist()]
            angle, velocity = np.array(draws).T
        else:
            angle, velocity = start[chosen].T
        self._angle[chosen] = wrap_angle(angle)
        self._velocity[chosen] = velocity
        self._torque[chosen] = 0.0
        self._elapsed[chosen] = 0
        self._done[chosen] = False

    def _reset_now(self, ended: Bool[np.ndarray, " n"], observations: np.ndarray) -> dict[str, Any]:
        """Reset ``ended`` envs, replace their rows of ``observations``, return the infos."""
        final = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(ended):
            final[i] = observations[i].copy()
        final_info = self._info(ended)
        self._place(ended)
        observations[ended] = self.config.observe(
            self._painter, self._angle[ended], self._velocity[ended]
        )
        return self._info(np.ones(self.num_envs, np.bool_)) | {
            "final_obs": final,
            "_final_obs": ended.copy(),
            "final_info": final_info,
            "_final_info": ended.copy(),
        }

    def _info(self, chosen: Bool[np.ndarray, " n"]) -> dict[str, Any]:
        """Ground truth of the chosen envs; zeros in the other rows."""
        state = pack_state(self._angle, self._velocity)
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
