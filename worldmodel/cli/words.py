"""From the words of a command line to what is to be done, or a line of what is wrong with them."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial, wraps
from typing import Any

import tyro

from worldmodel.cli.arguments import REGISTRY
from worldmodel.cli.console import complain
from worldmodel.cli.defaults import with_defaults
from worldmodel.cli.flags import gathered, strange
from worldmodel.errors import WorldModelError, meant
from worldmodel.systems import DEMOS
from worldmodel.terminal import shown

_ABOUT = "Learn a simulator from frames and actions, and train agents in it. --version tells the "


def understood(
    words: Sequence[str], commands: Mapping[str, Callable[..., Any]]
) -> Callable[[], Any]:
    """The command that is named, with its arguments; it is not called yet.

    Args:
        words: Of the command line.
        commands: By name.

    Raises:
        SystemExit: With status 2, after saying why, if the words make no sense; 0 after a help.
        WorldModelError: As ``with_defaults``.
    """
    words = joined(words, commands)
    _require_known(words[:1], "command", commands)
    if words[:1] == ["demo"]:
        _require_known(words[1:2], "demo", DEMOS)
    if words[:1] and words[0] in commands:
        words = gathered(words, commands[words[0]])
    deferred = {name: _deferred(command) for name, command in commands.items()}
    read = partial(
        tyro.extras.subcommand_cli_from_dict,
        with_defaults(words, deferred),
        prog="worldmodel",
        description=_ABOUT + "version.",
        registry=REGISTRY,
    )
    words, said = _name_demo(words), io.StringIO()
    try:
        with redirect_stderr(said):
            return read(args=words)
    except SystemExit as exit:
        # Settings refuse each other while they are put together, under names that nobody typed.
        cause = _cause(exit) if exit.code else None
        told = [str(cause)] if cause else _strange(words, read) if exit.code else []
        for sentence in told:
            complain(sentence)
        if not told:
            # What a shell puts in may be names of others.
            escaped = not "".join(words).isprintable()
            sys.stderr.write(shown(said.getvalue()) if escaped else said.getvalue())
        raise


def _strange(words: Sequence[str], read: Callable[..., Any]) -> list[str]:
    """What is said of flags that the command that is named does not have."""
    named, help = words[: 2 if words[:1] == ["demo"] else 1], io.StringIO()
    with redirect_stdout(help), suppress(SystemExit):
        read(args=[*named, "--help"])
    return list(strange([" ".join(named), *words[len(named) :]], help.getvalue()))


def joined(words: Sequence[str], commands: Iterable[str]) -> list[str]:
    """The same words, with the two of a command of a group as one."""
    both = " ".join(words[:2])
    return [both, *words[2:]] if both in commands else list(words)


def _require_known(named: Sequence[str], kind: str, names: Iterable[str]) -> None:
    """Exit unless what is named, if anything is, is one of the names."""
    for name in named:
        if not name.startswith("-") and name not in names:
            complain(f"there is no {kind} {name!r}{meant(name, names)}")
            complain(f"expected one of {', '.join(names)}")
            sys.exit(2)


def _deferred(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same arguments, but nothing is done yet."""

    @wraps(command)
    def keep(*positional: Any, **named: Any) -> Callable[[], Any]:
        return partial(command, *positional, **named)

    return keep


def _cause(error: BaseException | None) -> WorldModelError | None:
    """What a setting said of itself, if that is behind an exit."""
    while error is not None and not isinstance(error, WorldModelError):
        error = error.__context__
    return error


def _name_demo(words: list[str]) -> list[str]:
    """The same words, naming the default demo: tyro takes a demo's flags after its name only."""
    if words[:1] != ["demo"] or words[1:2] in (["-h"], ["--help"]):
        return words
    named = len(words) > 1 and not words[1].startswith("-")
    return words if named else ["demo", "pendulum", *words[1:]]
