"""One dream as a ``gymnasium.Env``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from worldmodel.errors import DivergenceError, ResetNeeded
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.world.actions import ActionReader
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.rendering import Window, check_render_mode, draw
from worldmodel.world.start import states_from_options
from worldmodel.world.world import World, resolve

_METADATA = {"render_modes": ["rgb_array", "human"], "render_fps": 10}


class LatentEnv(gym.Env):
    """The dream of a trained model; the observation is the latent state.

    The observation space is the finite Box that bounds the support of the training data, and the
    action space is that of the recorded environment, with its units and control interval. A
    finite action outside a Box is clipped to it; other unusable ones are refused.

    An episode terminates where the model holds ending more likely than not. It is truncated on
    leaving the support (unless ``truncate_outside`` is off), with the reward that ``Dynamics``
    describes. Time limits are ``gymnasium.make``'s. ``info`` holds "outside_support"; outside, the
    observation is clipped into its Box while the state goes on unclipped.

    At reset the first state is drawn from the model's prior, or is where
    ``options`` say (``start.states_from_options``): {"state": z} or {"observations": frames,
    "actions": actions}. All noise comes from a generator that reset seeds from ``np_random``.

    Args:
        checkpoint: A world, which is used as it is, its model switched to evaluation mode; or a
            checkpoint folder, or the name of a bundled one. A string in ``gymnasium.make`` lets the
            spec be written as JSON.
        render_mode: "rgb_array" (the decoded frame, enlarged), "human" (a window) or None.
        noise: Whether the dream has the model's process noise.
        truncate_outside: Whether leaving the support ends the episode.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        FileFormatError: The checkpoint cannot be read.
        SpecError: The model's support is not fitted, or it cannot be drawn as ``render_mode`` asks.
        MissingExtraError: ``render_mode`` is "human" and pygame is not installed.
    """

    metadata: dict[str, Any] = _METADATA

    def __init__(
        self,
        checkpoint: World | str | Path,
        render_mode: str | None = None,
        noise: bool = True,
        truncate_outside: bool = True,
    ) -> None:
        world = resolve(checkpoint)
        model = world.model
        if not model.observation_spec.pixels:
            self.metadata = {**_METADATA, "render_modes": []}
        check_render_mode(world, render_mode, _METADATA["render_modes"])
        self.observation_space = latent_box(world)
        self.action_space = model.action_spec.space()
        self.render_mode = render_mode
        self._window = Window(self.metadata["render_fps"]) if render_mode == "human" else None
        self._dynamics = Dynamics(world)
        self._read = ActionReader(model.action_spec, (), model.device, model.dtype)
        self._generator = torch.Generator(model.device)
        self._noise, self._truncate_outside = noise, truncate_outside
        self._state: Tensor | None = None
        self._over = False

    @property
    def world(self) -> World:
        """What is dreamt of."""
        return self._dynamics.world

    @property
    def model(self) -> StateSpaceModel:
        """The model that dreams."""
        return self._dynamics.model

    @property
    def state(self) -> np.ndarray:
        """The latent state (latent,), unclipped; a copy.

        Raises:
            ResetNeeded: There is none yet.
        """
        return self._current()[0].cpu().numpy().copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; see the class for ``options``.

        Raises:
            SpecError: An option is unknown, or the options contradict each other.
            ShapeError: An option does not fit the model.
        """
        super().reset(seed=seed)
        self._generator.manual_seed(int(self.np_random.integers(2**63 - 1)))
        with torch.inference_mode():
            state = states_from_options(self.model, options, 1)
            self._state = self._dynamics.reset(1, self._generator) if state is None else state
            outside = not bool(self._dynamics.inside(self._state))
        self._over = False
        self._show()
        return self._observe(), {"outside_support": outside}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step of the dream.

        Raises:
            ResetNeeded: There was no reset yet, or the episode is over.
            InvalidAction: The action has another shape or dtype, or is not finite.
            DivergenceError: The model dreamt a state or reward that is not finite.
        """
        state = self._current()
        if self._over:
            raise ResetNeeded("the episode is over; call reset() before the next step()")
        control = self._read(action).unsqueeze(0)
        with torch.inference_mode():
            step = self._dynamics.step(state, control, self._draw_noise())
            reward, outside = float(step.reward), not bool(step.inside)
            if not (step.next_state.isfinite().all() and np.isfinite(reward)):
                raise DivergenceError(
                    f"the model dreamt state {step.next_state[0].tolist()} and reward {reward}"
                )
        self._state = step.next_state
        terminated, truncated = bool(step.terminated), outside and self._truncate_outside
        self._over = terminated or truncated
        self._show()
        return self._observe(), reward, terminated, truncated, {"outside_support": outside}

    def render(self) -> np.ndarray | None:
        """The decoded frame (height, width, 3) ``uint8`` in mode "rgb_array", else None.

        Raises:
            ResetNeeded: There is no state yet.
        """
        if self.render_mode != "rgb_array":
            return None
        return draw(self.world, self._current())[0]

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()

    def _current(self) -> Tensor:
        if self._state is None:
            raise ResetNeeded("call reset() first")
        return self._state

    def _draw_noise(self) -> Tensor | None:
        if not self._noise:
            return None
        model = self.model
        return torch.randn(
            1, model.noise_size, generator=self._generator, device=model.device, dtype=model.dtype
        )

    def _observe(self) -> np.ndarray:
        box = self.observation_space
        assert isinstance(box, gym.spaces.Box)
        return np.clip(self._current()[0].cpu().numpy(), box.low, box.high).astype(np.float32)

    def _show(self) -> None:
        if self._window is not None:
            self._window.show(draw(self.world, self._current())[0])
