"""One real system as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from jaxtyping import Float32, Shaped

from envs.system import RENDER_SIZE, System
from envs.window import Window, check_render_mode

FPS = 10


class SystemEnv(gym.Env[Shaped[np.ndarray, "..."], Float32[np.ndarray, " action"]]):
    """One system; a subclass chooses which, and says what its arguments mean.

    Args:
        system: Physics, pictures and starts.
        render_mode: "rgb_array", "human" (a pygame window in real time) or None.

    Raises:
        ValueError: A bad argument, or bad reset options.
        gymnasium.error.InvalidAction: An action of wrong shape, of wrong dtype or not finite.
        gymnasium.error.ResetNeeded: Stepped or rendered before reset.
        gymnasium.error.DependencyNotInstalled: "human" without pygame.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": FPS}  # noqa: RUF012 - Gymnasium declares an instance's

    def __init__(self, system: System, render_mode: str | None = None) -> None:
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.system = system
        self.render_mode = render_mode
        self.observation_space = system.observation_space
        self.action_space = system.action_space
        self._observe = system.observer(1)
        self._state: np.ndarray | None = None
        self._action = np.zeros((1, system.action_size))
        self._window = Window(type(self).__name__, FPS) if render_mode == "human" else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; see the class for ``options``."""
        start = self.system.read_start(options, 1)
        super().reset(seed=seed)
        self._state = self.system.draw(start, [self.np_random]) if callable(start) else start
        self._action = np.zeros_like(self._action)
        return self._outcome(self._state)

    def step(
        self, action: Float32[np.ndarray, " action"]
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply an action for one control interval."""
        if self._state is None:
            raise ResetNeeded("call reset before step")
        self._action = self.system.read_action(action, (self.system.action_size,))
        self._state, paid = self.system.advance(self._state, self._action)
        observation, info = self._outcome(self._state)
        return observation, float(paid[0]), False, False, info

    def render(self) -> np.ndarray | None:
        """An RGB frame (256, 256, 3) in mode "rgb_array"; None otherwise."""
        if self._state is None:
            raise ResetNeeded("call reset before render")
        if self.render_mode is None:
            gym.logger.warn("render needs a render_mode: pass 'rgb_array' or 'human' to gym.make")
            return None
        frame = self.system.scene(self._state, self._action, RENDER_SIZE)[0]
        if self._window is None:
            return frame
        self._window.show(frame)
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()

    def _outcome(self, state: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        if self.render_mode == "human":
            self.render()
        return self._observe(state)[0], {"state": self.system.truth(state)[0]}
