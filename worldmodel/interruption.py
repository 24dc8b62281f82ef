"""Ctrl-C and termination that wait until there is nothing to lose."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Held:
    """What was asked for meanwhile.

    Attributes:
        signal: The first one that came; None if none did.
    """

    def __init__(self) -> None:
        self.signal: int | None = None


@contextmanager
def held_signals() -> Iterator[Held]:
    """Hold back SIGINT and SIGTERM, to raise them again at the end of the block.

    One that is ignored stays so. A second one does not wait. Outside of the main thread, which
    alone gets signals, nothing is held.

    Raises:
        KeyboardInterrupt: A signal came, and whoever handles it did not end the program.
    """
    held = Held()
    if threading.current_thread() is not threading.main_thread():
        yield held
        return
    before: dict[int, Any] = {
        number: handler
        for number in _SIGNALS
        if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: Any) -> None:
        if held.signal is not None:
            restore()
            signal.raise_signal(number)
        held.signal = number

    for number in before:
        signal.signal(number, note)
    try:
        yield held
    finally:
        restore()
    if held.signal is not None:
        signal.raise_signal(held.signal)
        raise KeyboardInterrupt
