"""What the command ``worldmodel`` and ``python -m worldmodel`` run; ``torchrun`` does the latter.

Importing the command line takes seconds. Ctrl-C meanwhile is one line, as it is later. Nothing is
lost by leaving at once, and whatever library is being imported cannot take the interrupt for
something else.
"""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Import the command line, and run it."""
    stoppable = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if stoppable:
        signal.signal(signal.SIGINT, _leave)
    from worldmodel.cli import main as command

    if stoppable:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


def _leave(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
