"""Films and screenshots of a game, numbered, and written without holding it up."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from worldmodel.files import write_whole
from worldmodel.plots.film import side_by_side, write_gif

_LONGEST = 900  # frames, after which a film ends by itself
_SIDE = 240  # pixels that a frame's longer side is enlarged to, roughly

Picture = UInt8[np.ndarray, "height width 3"]


class Recorder:
    """Keeps the frames of a film while it runs; a thread writes it afterwards.

    Args:
        folder: Where to; made when there is something to write.
        fps: Frames per second of films.
    """

    def __init__(self, folder: Path, fps: float) -> None:
        self.folder, self.fps = folder, fps
        self._frames: list[tuple[Picture, Picture | None]] | None = None
        self._writer = ThreadPoolExecutor(1)
        self._writing: list[tuple[Path, Future[Path]]] = []
        self._taken: set[Path] = set()

    @property
    def seconds(self) -> float | None:
        """Length of the film that is being recorded, or None."""
        return None if self._frames is None else len(self._frames) / self.fps

    def toggle(self) -> str:
        """Begin a film, or end it and have it written; returns what to say about it."""
        if self._frames is None:
            self._frames = []
            return "recording a film"
        frames, self._frames = self._frames, None
        if not frames:
            return "the film had no frames: nothing is written"
        path = self._free("film", ".gif")
        self._writing.append((path, self._writer.submit(_write, frames, path, self.fps)))
        return f"writing {path}"

    def add(self, dream: Picture, real: Picture | None) -> str:
        """Add a frame to a film that is being recorded; returns what to say about it."""
        if self._frames is None:
            return ""
        self._frames.append((dream, real))
        return self.toggle() if len(self._frames) >= _LONGEST else ""

    def screenshot(self, png: bytes) -> str:
        """Write a picture of the window; returns what to say about it."""
        path = self._free("screenshot", ".png")
        try:
            return f"wrote {write_whole(path, png)}"
        except OSError as error:
            return f"cannot write {path}: {error}"

    def news(self) -> str:
        """What to say about films that have been written since the last call, or not been."""
        done = [pair for pair in self._writing if pair[1].done()]
        self._writing = [pair for pair in self._writing if not pair[1].done()]
        said = [
            f"cannot write {path}: {error}" if (error := job.exception()) else f"wrote {path}"
            for path, job in done
        ]
        return "; ".join(said)

    def close(self) -> str:
        """End the film that is being recorded and wait until all are written; what to say of it."""
        if self._frames:
            self.toggle()
        self._writer.shutdown()
        return self.news()

    def _free(self, stem: str, suffix: str) -> Path:
        """The first name that is taken neither on disk nor by a film that is being written."""
        number = 1
        while (path := self.folder / f"{stem}_{number}{suffix}") in self._taken or path.exists():
            number += 1
        self._taken.add(path)
        return path


def _write(frames: list[tuple[Picture, Picture | None]], path: Path, fps: float) -> Path:
    panels = {"dream": np.stack([dream for dream, _ in frames])}
    real = [picture for _, picture in frames if picture is not None]
    if len(real) == len(frames):  # else a part of the film is of the dream alone, and so is all
        panels["reality"] = np.stack(real)
    scale = max(1, round(_SIDE / max(frames[0][0].shape[:2])))
    return write_gif(side_by_side(panels, scale, fps=fps), path, fps)
