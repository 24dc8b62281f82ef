"""How far something long is: a bar in a terminal, elsewhere a line now and then.

What takes more than two seconds is told of.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from operator import length_hint
from typing import Any, TypeVar

from rich.progress import (
    BarColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from worldmodel.terminal import Terminal

T = TypeVar("T")
FIRST, EVERY = 2.0, 10.0  # seconds before the first line, and between lines


class Progress(Bars):
    """Rich's progress bars, which where there is no terminal are lines, soon and every ten seconds.

    Args:
        columns: Of the bars; Rich's usual ones by default.
        disable: Whether to say nothing at all.
    """

    def __init__(self, *columns: str | ProgressColumn, disable: bool = False) -> None:
        terminal = Terminal()
        self._lines = not disable and not terminal.is_terminal
        self._due = time.monotonic() + min(FIRST, EVERY)
        super().__init__(*columns, console=terminal, disable=disable or self._lines)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """See ``rich.progress.Progress.update``."""
        super().update(task_id, **changes)
        self._say(task_id)

    def tell(self, task_id: TaskID, **changes: Any) -> None:
        """As ``update``, of what is worth a line whenever it happens."""
        self._due = 0.0
        self.update(task_id, **changes)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """See ``rich.progress.Progress.advance``."""
        super().advance(task_id, advance)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        now = time.monotonic()
        if not self._lines or now < self._due:
            return
        self._due = now + EVERY
        task = self._tasks[task_id]
        words = [task.description, f"{task.completed:,.0f}"]
        words += [f"of {task.total:,.0f}"] if task.total else []
        words += [str(value) for value in task.fields.values() if value]
        self.console.print(f"{' '.join(words)}, {task.elapsed or 0:.0f} s", soft_wrap=True)


def track(
    sequence: Iterable[T],
    description: str = "",
    total: float | None = None,
    disable: bool = False,
) -> Iterator[T]:
    """The sequence, with a bar.

    Args:
        sequence: Whose length is its total, if it has one.
        description: What is done.
        total: How many there are, where the sequence does not know.
        disable: Whether to say nothing at all.
    """
    if total is None:
        total = length_hint(sequence) or None
    # Rich's own ``track`` counts in a thread that ends at once where there is no terminal.
    with Progress(disable=disable) as bar:
        task = bar.add_task(description, total=total)
        for item in sequence:
            yield item
            bar.advance(task)


class Steps:
    """Counts episodes that are kept, and their steps or frames.

    Args:
        done: What has become of them, a word.
        total: Number of episodes, or None if nobody knows.
        unit: What ``advance`` counts beside episodes.
        disable: Whether to say nothing at all.
    """

    def __init__(
        self, done: str, total: int | None, unit: str = "steps", disable: bool = False
    ) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[kept]}"))
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, *times, disable=disable)
        self._task = self._bar.add_task(done, total=total, kept="")
        self._unit, self._steps, self._total = unit, 0, total

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, steps: int) -> None:
        """Take note of one more episode."""
        self._steps += steps
        kept = f"episodes, {self._steps:,} {self._unit}"
        self._bar.update(self._task, advance=1, kept=kept)
