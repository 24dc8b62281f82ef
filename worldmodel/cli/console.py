"""Where commands print."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from rich.text import Text

from worldmodel.terminal import Terminal


def console(stderr: bool = False) -> Terminal:
    """As wide as the terminal is now."""
    return Terminal(stderr)


def say(text: str) -> None:
    """Print one line, however long."""
    console().print(text, soft_wrap=True)


def note(text: str) -> None:
    """Print one line that asks for attention."""
    console().print(Text.assemble(("note: ", "yellow"), text), soft_wrap=True)


def warn(text: str) -> None:
    """Print one line that must not be overlooked."""
    console().print(Text.assemble(("WARNING: ", "bold red"), text), soft_wrap=True)


def complain(text: str) -> None:
    """Print one line of an error."""
    console(stderr=True).print(Text.assemble(("error: ", "red"), text), soft_wrap=True)


@contextmanager
def numbers_alone(json: bool) -> Iterator[dict[str, Any]]:
    """If ``json``, print what the block puts in here, and nothing else, to stdout.

    All that is said on the way goes to stderr, so that another program can read the rest.
    """
    numbers: dict[str, Any] = {}
    if not json:
        yield numbers
        return
    with redirect_stdout(sys.stderr):
        yield numbers
    console().print_json(data=numbers)
