"""Many dreams as one ``gymnasium.vector.VectorEnv``: a single tensor step for all of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from worldmodel.errors import DivergenceError, ResetNeeded, ShapeError, SpecError
from worldmodel.models.base import StateSpaceModel
from worldmodel.simulator.actions import ActionReader
from worldmodel.simulator.dynamics import Dynamics, latent_box, resolve
from worldmodel.simulator.env import LatentEnv
from worldmodel.simulator.rendering import check_render_mode, draw
from worldmodel.simulator.start import states_from_options

# First states drawn ahead at a time: a draw of a few costs nearly as much as one of hundreds.
_RESERVE = 1024


class LatentVectorEnv(VectorEnv):
    """``num_envs`` independent dreams; each is a ``LatentEnv``, with the same spaces and rules.

    Conventions are those of ``gymnasium.vector.SyncVectorEnv``: "final_obs" and "final_info" in
    SAME_STEP mode, ``options={"reset_mask": mask}`` to reset some (in any mode), and in DISABLED
    mode a step is refused while an ended episode has not been reset. Rewards are ``float32``.
    Arrays that are returned are never written to again.

    One generator, seeded from ``np_random`` by a reset of all, serves all environments: noise is
    one draw for all of them. So environment i under seed s is not the single environment under
    seed s + i; without noise and from given states the two agree.

    Args:
        checkpoint: Checkpoint folder, or the name of a bundled one.
        num_envs: How many.
        max_episode_steps: Truncate after so many steps; None never does.
        autoreset_mode: A member of ``AutoresetMode`` or its value.
        render_mode: "rgb_array" or None.
        noise: Whether the dreams have the model's process noise.
        truncate_outside: Whether leaving the support ends an episode.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        FileFormatError: The checkpoint cannot be read.
        SpecError: The model's support is not fitted, or an argument is not one of those above.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        noise: bool = True,
        truncate_outside: bool = True,
    ) -> None:
        model = resolve(checkpoint)
        self._open(model, num_envs, max_episode_steps, autoreset_mode, render_mode)
        self._noise, self._truncate_outside = noise, truncate_outside

    @classmethod
    def from_model(
        cls,
        model: StateSpaceModel,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        noise: bool = True,
        truncate_outside: bool = True,
    ) -> LatentVectorEnv:
        """Dreams of a model in memory: used as it is, switched to evaluation mode, no spec."""
        env = cls.__new__(cls)
        env._open(model, num_envs, max_episode_steps, autoreset_mode, render_mode)
        env._noise, env._truncate_outside = noise, truncate_outside
        return env

    def _open(
        self,
        model: StateSpaceModel,
        num_envs: int,
        max_episode_steps: int | None,
        autoreset_mode: AutoresetMode | str,
        render_mode: str | None,
    ) -> None:
        for name, count in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if count is not None and count < 1:
                raise SpecError(f"{name} must be at least 1, got {count}")
        self.render_mode = render_mode
        self.num_envs = num_envs
        self._mode = _mode(autoreset_mode)
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": LatentEnv.metadata["render_fps"],
            "autoreset_mode": self._mode,
        }
        check_render_mode(model, render_mode, self.metadata["render_modes"])
        self.single_observation_space = latent_box(model)
        self.single_action_space = model.action_spec.space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        box = self.single_observation_space
        # Columns, for states are kept as (latent, num_envs) in memory.
        self._low, self._high = (
            torch.from_numpy(bound).to(model.device).unsqueeze(1) for bound in (box.low, box.high)
        )
        self._limit = max_episode_steps
        self._dynamics = Dynamics(model)
        self._read = ActionReader(model.action_spec, (num_envs,), model.device, model.dtype)
        self._generator = torch.Generator(model.device)
        self._device, self._dtype = model.device, model.dtype
        self._noise_shape = (model.noise_size, num_envs)
        self._states: Tensor | None = None
        self._reserve = torch.empty(0, model.latent_size)
        self._elapsed = np.zeros(num_envs, np.int64)
        self._done = np.zeros(num_envs, np.bool_)
        # Whether any of them is done, so that the usual step looks at one bool and not at n.
        self._some_done = False

    @property
    def model(self) -> StateSpaceModel:
        """The model that dreams."""
        return self._dynamics.model

    @property
    def states(self) -> np.ndarray:
        """The latent states (num_envs, latent), unclipped; a copy.

        Raises:
            ResetNeeded: There are none yet.
        """
        return self._current().cpu().numpy().copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start episodes, of all or of those that ``options["reset_mask"]`` picks.

        Other options are those of ``LatentEnv.reset``, for each environment or shared by all.
        A reset of some goes on with the generator as it is, unless a seed is given.

        Raises:
            SpecError: An option is unknown, or the options contradict each other.
            ShapeError: An option does not fit the model or the number of environments.
            ResetNeeded: A reset of some came before the first reset of all.
        """
        options = dict(options or {})
        mask = self._mask(options.pop("reset_mask", None))
        super().reset(seed=seed)
        if seed is not None or mask.all():
            self._generator.manual_seed(int(self.np_random.integers(2**63 - 1)))
            self._reserve = self._reserve[:0]
        with torch.inference_mode():
            states = states_from_options(self.model, options, self.num_envs)
            states = self._first_states(int(mask.sum())) if states is None else states[mask]
            if mask.all():
                # Cloned, for it may be a part of the reserve, and is written to in place.
                self._states = states.clone()
            else:
                self._current()[mask] = states
            inside = self._dynamics.inside(self._current()).cpu().numpy()
            observations = self._observe(self._current())
        self._elapsed[mask] = 0
        self._done = self._done & ~mask
        self._some_done = bool(self._done.any())
        return observations, {"outside_support": ~inside & mask, "_outside_support": mask}

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of every dream.

        Raises:
            ResetNeeded: There was no reset yet, or in DISABLED mode an episode is over.
            InvalidAction: The actions have another shape or dtype, or are not finite.
            DivergenceError: The model dreamt a state or reward that is not finite.
        """
        states = self._current()
        if self._some_done and self._mode is AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"environments {np.flatnonzero(self._done).tolist()} are over; reset them with "
                "options={'reset_mask': mask}"
            )
        controls = self._read(actions)
        with torch.inference_mode():
            step = self._dynamics.step(states, controls, self._draw_noise())
            self._states = step.next_state
            rewards, terminations = step.reward.cpu().numpy(), step.terminated.cpu().numpy()
            outside = (~step.inside).cpu().numpy()
            self._elapsed += 1
            if self._some_done and self._mode is AutoresetMode.NEXT_STEP:
                ended = np.flatnonzero(self._done)
                for array in (rewards, terminations, outside):
                    array[ended] = 0
                self._restart(ended)
            self._check_finite(rewards)
            observations = self._observe(self._states)
            truncations = self._truncate(outside)
            self._done = terminations | truncations
            self._some_done = bool(self._done.any())
            infos = {"outside_support": outside, "_outside_support": np.ones_like(outside)}
            if self._some_done and self._mode is AutoresetMode.SAME_STEP:
                observations, infos = self._finish(observations, outside)
        return observations, rewards, terminations, truncations, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Decoded frames, each (height, width, 3) ``uint8``, in mode "rgb_array"; else None.

        Raises:
            ResetNeeded: There are no states yet.
        """
        return tuple(draw(self.model, self._current())) if self.render_mode else None

    def _current(self) -> Tensor:
        if self._states is None:
            raise ResetNeeded("call reset() first")
        return self._states

    def _mask(self, mask: Any) -> np.ndarray:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise ShapeError(f"reset_mask must be a numpy array of bool, got {mask!r}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ShapeError(f"reset_mask must be ({self.num_envs},) and pick some, got {mask}")
        if not mask.all():
            self._current()
        return mask.copy()

    def _draw_noise(self) -> Tensor | None:
        if not self._noise:
            return None
        # One row per noise dimension, as states are kept.
        return torch.randn(
            self._noise_shape, generator=self._generator, device=self._device, dtype=self._dtype
        ).T

    def _first_states(self, n: int) -> Tensor:
        if len(self._reserve) < n:
            self._reserve = self._dynamics.reset(max(n, _RESERVE), self._generator)
        states, self._reserve = self._reserve[:n], self._reserve[n:]
        return states

    def _restart(self, index: np.ndarray) -> None:
        rows = torch.from_numpy(index).to(self._device)
        self._current().index_copy_(0, rows, self._first_states(len(index)))
        self._elapsed[index] = 0

    def _finish(self, final: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """SAME_STEP: keep how the ended episodes ended, and begin their next ones."""
        done = self._done
        ended = np.flatnonzero(done)
        self._restart(ended)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in ended:
            final_obs[i] = final[i].copy()
        final_info = {"outside_support": outside & done, "_outside_support": done.copy()}
        infos = {
            "final_obs": final_obs,
            "_final_obs": done.copy(),
            "final_info": final_info,
            "_final_info": done.copy(),
            "outside_support": outside & ~done,
            "_outside_support": np.ones_like(outside),
        }
        self._done, self._some_done = np.zeros_like(done), False
        return self._observe(self._current()), infos

    def _observe(self, states: Tensor) -> np.ndarray:
        # The clamp makes a new tensor, so that callers may do what they like with the array.
        clamped = torch.clamp(states.T, self._low, self._high).T.contiguous()
        return clamped.cpu().numpy().astype(np.float32, copy=False)

    def _truncate(self, outside: np.ndarray) -> np.ndarray:
        left = outside.copy() if self._truncate_outside else np.zeros_like(outside)
        return left if self._limit is None else left | (self._elapsed >= self._limit)

    def _check_finite(self, rewards: np.ndarray) -> None:
        # A sum is finite only if all it adds up are, and costs less than looking at each. Torch's,
        # for numpy's would warn where it is not.
        if math.isfinite(torch.from_numpy(rewards).sum()) and math.isfinite(self._current().sum()):
            return
        finite = self._current().isfinite().all(1).cpu().numpy() & np.isfinite(rewards)
        if not finite.all():
            raise DivergenceError(
                f"the model dreamt a state or reward that is not finite in environments "
                f"{np.flatnonzero(~finite).tolist()}"
            )


def _mode(value: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(value)
    except ValueError:
        known = [mode.value for mode in AutoresetMode]
        raise SpecError(f"autoreset_mode must be one of {known}, got {value!r}") from None
