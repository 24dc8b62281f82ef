"""How it goes: a line a round on disk, TensorBoard, films; and whoever looks on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worldmodel.errors import require_extra
from worldmodel.files import write_whole
from worldmodel.plots.dream import dream_film
from worldmodel.plots.film import write_gif
from worldmodel.plots.imagination import imagine
from worldmodel.plots.learning import PROGRESS
from worldmodel.plots.strips import imagination_strips
from worldmodel.types import Batch
from worldmodel.world.world import World

# Of a film: episodes, steps, frames that are looked at, dreams, and bytes.
_EPISODES, _STEPS, _LOOKED, _DREAMS, _LIMIT = 3, 100, 15, 8, 6_000_000


class Watcher:
    """Writes ``progress.jsonl`` and TensorBoard's files; a subclass may show more."""

    _writer: Any = None

    def begin(self, run: Path, rows: Sequence[dict[str, Any]], tensorboard: bool) -> None:
        """Go on after the rounds that are complete, whatever the file holds beyond them."""
        self._path = run / PROGRESS
        write_whole(self._path, "".join(_line(row) for row in rows).encode())
        if tensorboard:
            require_extra("tensorboard", "tensorboard")
            from torch.utils.tensorboard import SummaryWriter

            step = rows[-1]["real_steps"] + 1 if rows else 0
            self._writer = SummaryWriter(run / "tensorboard", purge_step=step)

    def phase(self, doing: str) -> None:
        """What is being done now."""

    def note(self, sentence: str) -> None:
        """What went wrong without stopping it."""

    def row(self, row: dict[str, Any]) -> None:
        """A round is complete."""
        with self._path.open("a") as file:
            file.write(_line(row))
        if self._writer is not None:
            for name, value in row.items():
                if value is not None:
                    self._writer.add_scalar(f"online/{name}", value, row["real_steps"])
            self._writer.flush()

    def close(self) -> None:
        """Nothing comes any more."""
        if self._writer is not None:
            self._writer.close()


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def draw_film(
    world: World, batches: Sequence[Batch], run: Path, real_steps: int, fps: float
) -> None:
    """What the agent did, and what the model imagines of it, in ``films/<real steps>.png``.

    Of pictures also a film, ``.gif``. Episodes of a frame or two are not drawn.
    """
    batch = batches[0][:_EPISODES]
    frames = int(batch.frame_mask.sum(1).max())
    if frames < 3:
        return
    batch = batch.window(0, min(frames - 1, _STEPS))
    shown = imagine(world, batch, min(_LOOKED, batch.steps // 2), _DREAMS)
    place = run / "films" / f"{real_steps:07d}"
    place.parent.mkdir(exist_ok=True)
    imagination_strips(shown, place.with_suffix(".png"))
    if shown.space.filmed:
        write_gif(dream_film(shown, fps), place.with_suffix(".gif"), fps, _LIMIT)
