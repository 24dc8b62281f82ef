"""Flags of several words that are given again; those that there are not, and what may be meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_origin, get_type_hints

_FLAG = re.compile(r"(?<![\w-])--[a-z][\w.-]*")
_MOST = 4  # that are named


def gathered(words: Sequence[str], command: Callable[..., Any]) -> list[str]:
    """The same words; of a flag that takes several, all of them where it was given first.

    Args:
        words: Of the command line.
        command: Whose arguments say which flags do; the last alone would count of these.
    """
    hints = get_type_hints(command)
    several = [f"--{name}" for name, hint in hints.items() if get_origin(hint) is tuple]
    parts: list[list[str]] = [[]]
    firsts: dict[str, list[str]] = {}
    part = parts[0]
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in several:
            if flag not in firsts:
                parts.append(firsts.setdefault(flag, [flag]))
            part = firsts[flag]
            part += [value] * bool(equals)
            continue
        if word.startswith("--"):
            parts.append(part := [])
        part.append(word)
    return [word for part in parts for word in part]


def strange(words: Sequence[str], help: str) -> Iterator[str]:
    """A sentence for each flag that a command does not have.

    Args:
        words: Of the command line, the command first.
        help: Of the command; all its flags are in there.
    """
    known = list(dict.fromkeys(_FLAG.findall(help)))
    command, *rest = words
    for word in rest:
        flag = word.partition("=")[0].replace("_", "-")
        if word.startswith("--") and len(flag) > 2 and flag not in known:
            yield f"worldmodel {command} has no {flag}{_meant(flag, known)}"


def _meant(flag: str, known: Sequence[str]) -> str:
    """Settings of a part are typed without it more often than misspelt."""
    last = _last(flag)
    within = [name for name in known if _last(name) == last]
    close = within or get_close_matches(flag, known, _MOST)
    if not close:
        parts = get_close_matches(last, {_last(name) for name in known}, _MOST)
        close = [name for name in known if _last(name) in parts]
    return f"; did you mean {' or '.join(close[:_MOST])}?" if close else ""


def _last(flag: str) -> str:
    return flag.removeprefix("--").rpartition(".")[2]
