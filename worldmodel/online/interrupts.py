"""Ctrl-C and SIGTERM wait until what is being written is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupts:
    """Both raise ``KeyboardInterrupt``, but not while they are held back; a context manager.

    Elsewhere than in the main thread nothing is changed: no signal arrives there.
    """

    def __init__(self) -> None:
        self._held, self._waiting = 0, False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._arrive)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _arrive(self, number: int, frame: Any) -> None:
        if not self._held:
            raise KeyboardInterrupt
        self._waiting = True

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Until the end of the block."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._waiting and not self._held:
            self._waiting = False
            raise KeyboardInterrupt
