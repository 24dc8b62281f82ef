"""An imagination as files: film, video and picture, whatever there can be of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worldmodel.plots.dream import dream_film
from worldmodel.plots.film import write_gif, write_mp4
from worldmodel.plots.imagination import Imagination
from worldmodel.plots.strips import imagination_strips
from worldmodel.progress import track

_LIMIT = 6_000_000  # bytes of the GIF: more panels than a page's film, and none of its colours lost


def write_imagination(imagination: Imagination, out: Path, fps: float, mp4: bool) -> list[Path]:
    """Write ``imagine.gif``, ``imagine.mp4`` if asked for, and ``imagine.png``.

    Args:
        imagination: Where nothing is observed that is a picture there is no film.
        out: Folder.
        fps: Frames per second.
        mp4: Whether to write a video; needs the extra "mp4".

    Returns:
        The files written.
    """
    drawings: list[Callable[[], Path]] = []
    if imagination.space.filmed:
        film = dream_film(imagination, fps)
        drawings.append(lambda: write_gif(film, out / "imagine.gif", fps, _LIMIT))
        if mp4:
            drawings.append(lambda: write_mp4(film, out / "imagine.mp4", fps))
    drawings.append(lambda: imagination_strips(imagination, out / "imagine.png"))
    return [draw() for draw in track(drawings, "draw")]
