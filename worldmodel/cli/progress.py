"""How far a long command is: a bar in a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from worldmodel.cli.console import console, say

_EVERY = 10.0  # seconds


class Steps:
    """Counts episodes and their steps.

    Args:
        done: What has become of them, a word.
        total: Number of episodes, or None if nobody knows.
    """

    def __init__(self, done: str, total: int | None) -> None:
        self._done, self._total = done, total
        self._episodes = self._steps = 0
        self._said = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        terminal = console()
        self._bar = Progress(*columns, console=terminal, disable=not terminal.is_terminal)
        self._task = self._bar.add_task(done, total=total)

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, steps: int) -> None:
        """Take note of one more episode."""
        self._episodes += 1
        self._steps += steps
        count = f"{self._episodes:,}" + (f" of {self._total:,}" if self._total else "")
        told = f"{self._done} {count} episodes, {self._steps:,} steps"
        self._bar.update(self._task, advance=1, description=told)
        if self._bar.disable and time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            say(told)
