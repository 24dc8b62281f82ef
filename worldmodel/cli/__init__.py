"""The command line: the composition root, the only room that knows everybody."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym

import envs  # noqa: F401 (registers the environments that ship)
from worldmodel import __version__
from worldmodel.cli.agent import agent
from worldmodel.cli.bench import bench
from worldmodel.cli.calibrate import calibrate
from worldmodel.cli.collect import collect
from worldmodel.cli.compare import compare
from worldmodel.cli.console import complain, console, say
from worldmodel.cli.data import export
from worldmodel.cli.demo import demo
from worldmodel.cli.empowerment import empowerment
from worldmodel.cli.evaluate import evaluate
from worldmodel.cli.imagine import imagine
from worldmodel.cli.import_ import import_
from worldmodel.cli.learn import learn
from worldmodel.cli.play import play
from worldmodel.cli.presets import presets
from worldmodel.cli.report import report
from worldmodel.cli.show import show
from worldmodel.cli.train import train
from worldmodel.cli.words import understood
from worldmodel.errors import WorldModelError

COMMANDS = {
    "demo": demo,
    "collect": collect,
    "import": import_,
    "data export": export,
    "data show": show,
    "train": train,
    "learn": learn,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "compare": compare,
    "agent": agent,
    "empowerment": empowerment,
    "imagine": imagine,
    "report": report,
    "play": play,
    "presets": presets,
    "bench": bench,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``worldmodel``; errors that name their cause are printed without a traceback.

    Args:
        arguments: In place of the process's.

    Raises:
        SystemExit: With status 1 after such an error, 2 if the arguments make no sense, 130 after
            an interrupt from the keyboard, and 143 after SIGTERM.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        say(f"worldmodel {__version__}")
        return
    try:
        with _terminable():
            understood(words, COMMANDS)()
    except KeyboardInterrupt:
        console(stderr=True).print("interrupted")
        sys.exit(130)
    except _Terminated:
        console(stderr=True).print("terminated")
        sys.exit(143)
    except (WorldModelError, gym.error.Error, OSError) as error:
        complain(str(error))
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        # PyTorch's, on any device, is told by its words alone.
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        complain(f"not enough memory: {str(error).partition(chr(10))[0]}")
        sys.exit(1)


class _Terminated(BaseException):
    """SIGTERM came: what is half done is tidied up, as after Ctrl-C."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Have SIGTERM raise ``_Terminated`` in the block, where signals come at all."""

    def terminate(*_: Any) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
