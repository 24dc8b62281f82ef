"""What is seen of training while it lasts: a bar, its pace, curves."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from worldmodel.errors import require_extra
from worldmodel.progress import Progress

_EVERY = 1.0  # seconds that a pace is measured over at least


class Shown(Progress):
    """A bar of updates.

    Args:
        total: Updates in all.
        done: Of them, already.
        disable: Whether to say nothing at all.
    """

    def __init__(self, total: int, done: int, disable: bool) -> None:
        columns = (
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[pace]}"),
            TextColumn("{task.fields[note]}"),
        )
        super().__init__(*columns, disable=disable)
        self._task = self.add_task("train", total=total, completed=done, pace="", note="")
        self._updates, self._frames, self._since = 0, 0, time.perf_counter()

    def count(self, frames: int) -> None:
        """Take note of one update on so many frames."""
        self._updates, self._frames = self._updates + 1, self._frames + frames
        seconds = time.perf_counter() - self._since
        changes = {}
        if seconds >= _EVERY:
            changes = {"pace": pace(self._updates, self._frames, seconds)}
            self._updates, self._frames, self._since = 0, 0, time.perf_counter()
        self.update(self._task, advance=1, **changes)

    def validated(self, logs: dict[str, float]) -> None:
        """Show what a validation found; its time counts as no update's."""
        shares = {n: logs[f"validation/{n}"] for n in ("prediction", "last_frame", "mean_frame")}
        note = (
            f"{in_words(shares)}  "
            f"reconstruction {logs['validation/reconstruction']:.0f}  "
            f"kl {logs['validation/kl']:.1f}"
        )
        self.update(self._task, note=note)
        self._updates, self._frames, self._since = 0, 0, time.perf_counter()


def in_words(shares: dict[str, float]) -> str:
    """What a prediction errs by, beside those that know nothing; fractions of the variance."""
    if math.isnan(shares["mean_frame"]):
        return "nothing to predict: all frames are the same"
    return (
        f"prediction {shares['prediction']:.0%} of the variance "
        f"(last frame {shares['last_frame']:.0%}, mean frame {shares['mean_frame']:.0%})"
    )


def pace(updates: int, frames: int, seconds: float) -> str:
    """In words."""
    return f"{updates / seconds:.3g} updates/s, {frames / seconds:,.0f} frames/s"


def event_writer(folder: Path, update: int) -> Any:
    """A writer of TensorBoard's event files, from an update on.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    require_extra("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder / "tensorboard", purge_step=update)
