"""A window to show frames in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import UInt8


def check_render_mode(mode: str | None, known: Sequence[str]) -> None:
    """Raise ValueError unless ``mode`` is None or known."""
    if mode is not None and mode not in known:
        raise ValueError(f"render_mode must be None or one of {list(known)}, got {mode!r}")


class Window:
    """A pygame window that shows frames at a fixed rate; opened by the first frame.

    Args:
        title: Caption.
        fps: Frames per second; ``show`` waits so as not to exceed it.

    Raises:
        gymnasium.error.DependencyNotInstalled: pygame is missing.
    """

    def __init__(self, title: str, fps: int) -> None:
        try:
            import pygame
        except ImportError as error:
            raise gym.error.DependencyNotInstalled(
                "render_mode='human' needs pygame; "
                "install it with: pip install 'worldmodel[viewer]'"
            ) from error
        self._pygame = pygame
        self._title, self._fps = title, fps
        self._screen: Any = None
        self._clock = pygame.time.Clock()

    def show(self, frame: UInt8[np.ndarray, "height width 3"]) -> None:
        """Display an RGB frame, then wait until it is due to be replaced."""
        pygame = self._pygame
        if self._screen is None:
            pygame.display.init()
            pygame.display.set_caption(self._title)
            self._screen = pygame.display.set_mode((frame.shape[1], frame.shape[0]))
        pygame.event.pump()
        pygame.surfarray.blit_array(self._screen, frame.swapaxes(0, 1))
        pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Close the window; harmless if it is not open."""
        if self._screen is not None:
            self._pygame.display.quit()
            self._screen = None
