"""The film of an imagination: real, filtered and imagined frames of the same episodes."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from worldmodel.plots.film import BACKGROUND, side_by_side
from worldmodel.plots.imagination import Imagination, pictures

_ROWS = 4  # of episodes below each other; more of them begin another column
_WIDTH, _HEIGHT, _SCALE = 1200, 640, 10  # pixels that a film's pictures fill at most


def dream_film(
    shown: Imagination, fps: float = 10.0
) -> UInt8[np.ndarray, "time film_height film_width 3"]:
    """One panel per kind of frame; in each the episodes at the same places of a grid.

    Args:
        shown: Of any model. If it observes pictures they are filmed and nothing else.
        fps: Frames per second of the film, and of the environment if time is to be real.
    """
    imagined = f"imagined from {shown.looked / fps:.1f} s"
    panels = {
        imagined if title == "imagined" else title: _grid(film)
        for title, film in pictures(shown, shown.space.filmed).items()
    }
    height, width = next(iter(panels.values())).shape[1:3]
    scale = max(1, min(_SCALE, _WIDTH // (width * len(panels)), _HEIGHT // height))
    captions = [
        "imagined: still filtering" if t < shown.looked else "imagined: open loop"
        for t in range(shown.recorded.shape[1])
    ]
    return side_by_side(panels, scale, captions, fps)


def _grid(films: np.ndarray) -> np.ndarray:
    """Episodes (B, T, h, w, 3) in a grid, a dark line between them: (T, height, width, 3)."""
    columns = -(-len(films) // _ROWS)
    rows = -(-len(films) // columns)
    spare = rows * columns - len(films)
    cells = np.pad(films, ((0, spare), (0, 0), (0, 1), (0, 1), (0, 0)))
    cells[:, :, -1] = cells[:, :, :, -1] = BACKGROUND
    cells[len(films) :] = BACKGROUND
    _, steps, height, width, _ = cells.shape
    laid = cells.reshape(rows, columns, steps, height, width, 3).transpose(2, 0, 3, 1, 4, 5)
    return laid.reshape(steps, rows * height, columns * width, 3)[:, :-1, :-1]
