"""What the dream looks like: decoded frames, enlarged, and a window to show them in."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from worldmodel.errors import SpecError, require_extra
from worldmodel.world.world import World

# Side in pixels that small frames are enlarged to, roughly: factors are whole numbers.
_SIDE = 256


def check_render_mode(world: World, mode: str | None, modes: list[str]) -> None:
    """Raise unless the world's dreams can be shown in this mode.

    Raises:
        SpecError: The mode is unknown, or the model does not observe grey or RGB pixels.
    """
    if mode is None:
        return
    spec = world.model.observation_spec
    if not spec.pixels or spec.shape[2] not in (1, 3):
        raise SpecError(
            f"render_mode {mode!r} needs a model of grey or RGB pixels, this one observes {spec}"
        )
    if mode not in modes:
        raise SpecError(f"render_mode must be one of {modes} or None, got {mode!r}")


def draw(world: World, states: Tensor) -> np.ndarray:
    """Decoded frames (batch, height, width, 3) ``uint8``, enlarged to about 256 pixels."""
    frames = world.decode(states.cpu().numpy())
    factor = max(1, round(_SIDE / max(frames.shape[1:3])))
    frames = frames.repeat(factor, 1).repeat(factor, 2)
    return frames.repeat(3 // frames.shape[3], 3)


class Window:
    """A pygame window; opened by the first frame it shows.

    Args:
        fps: Frames per second that ``show`` waits for.

    Raises:
        MissingExtraError: pygame is not installed.
    """

    def __init__(self, fps: int) -> None:
        require_extra("pygame", "viewer")
        self._fps = fps
        self._screen = None
        self._clock = None

    def show(self, frame: np.ndarray) -> None:
        """Show one frame (height, width, 3) ``uint8``."""
        import pygame

        if self._screen is None or self._clock is None:
            pygame.display.init()
            pygame.display.set_caption("worldmodel")
            self._screen = pygame.display.set_mode((frame.shape[1], frame.shape[0]))
            self._clock = pygame.time.Clock()
        surface = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        self._screen.blit(surface, (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Close the window; closing it twice is harmless."""
        if self._screen is not None:
            import pygame

            pygame.display.quit()
            self._screen = self._clock = None
