"""Which step the entries of actions, rewards and ends are of.

Mostly entry t is of the step that begins with observation t: it *leaves* it. In some recordings it
is of the step that led to observation t: it *arrives* there. So are the rewards and ends of all
that mark the first observation of an episode (``is_first``), and of some of them the actions too:
in Dreamer's replay they were until its third version, with zeros beside the first observation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from worldmodel.data.readers.mapping import Roles, base, by_role, final, is_stream
from worldmodel.data.readers.recording import Recording
from worldmodel.errors import ConfigError

STEPPED = ("actions", "rewards", "terminated", "truncated")
_FIRST, _LAST = "is_first", "is_last"
Arrays = Mapping[str, np.ndarray]


def arriving(
    recording: Recording, roles: Roles, asked: Collection[str], denied: Collection[str]
) -> tuple[frozenset[str], list[str]]:
    """Roles whose entry t is of the step that led to observation t.

    Without ``is_first`` they are those that are asked for. With it the source is passed over once:
    what is zero beside every first observation, and not beside every last one, arrives there.

    Args:
        recording: The source.
        roles: Its columns by role.
        asked: Roles that are said to arrive.
        denied: Roles that are said to leave.

    Returns:
        Both the roles, and what was assumed, a sentence each.

    Raises:
        ConfigError: A role is no such thing, or of both kinds; or it cannot be told of what kind
            actions or rewards are.
        FileFormatError: The source is truncated or corrupt.
    """
    stepped = [role for role in roles if base(role) in STEPPED]
    known = {base(role) for role in stepped}
    for name in (*asked, *denied):
        if name not in known or (name in asked and name in denied):
            raise ConfigError(
                f"--arriving and --leaving each take some of {', '.join(sorted(known))}, "
                f"got {name!r}"
            )
    chosen = {role for role in stepped if base(role) in asked}
    marks = {_last_part(name): name for name in recording.columns}
    if _FIRST not in marks or final(recording, roles):
        return frozenset(chosen), []
    left = [role for role in stepped if base(role) not in {*asked, *denied}]
    ends = {role for role in left if _last_part(roles[role][0]).startswith("is_")}
    left = [role for role in left if role not in ends]
    zeros = _zeros(recording, {role: roles[role] for role in left}, marks) if left else {}
    found = {role for role in left if _arrives(recording, roles[role], role, zeros[role])}
    return frozenset(chosen | ends | found), list(_said(found, set(left) - found))


def aligned(arrays: Arrays, times: Arrays, arriving: Collection[str]) -> tuple[Arrays, Arrays]:
    """One episode of T + 1 observations, T actions, and T of what else is given by step.

    Args:
        arrays: By role; what is given by step has T or T + 1 entries.
        times: Of their entries, by role.
        arriving: Roles whose first entry is of no step; of the others it is the last.

    Returns:
        Both, the times of a step being those when it begins.
    """
    frames = max(len(array) for role, array in arrays.items() if is_stream(role))
    whole = [r for r, a in arrays.items() if base(r) in STEPPED and len(a) == frames]
    cut = {r: arrays[r][1:] if r in arriving else arrays[r][:-1] for r in whole}
    return {**arrays, **cut}, {**times, **{r: times[r][:-1] for r in whole if r in times}}


def _zeros(
    recording: Recording, roles: Roles, marks: Mapping[str, str]
) -> dict[str, tuple[bool, bool]]:
    """By role whether it is zero beside every first observation, and beside every last."""
    wanted = dict(roles) | {mark: (marks[mark],) for mark in (_FIRST, _LAST) if mark in marks}
    columns = sorted({column for names in wanted.values() for column in names})
    found: dict[str, tuple[bool, bool]] = dict.fromkeys(roles, (True, True))
    for table in recording.episodes(columns):
        arrays = by_role(table, wanted)
        begins = bool(arrays[_FIRST][:1].any())
        ends = bool(arrays[_LAST][-1:].any()) if _LAST in arrays else True
        for role, (first, last) in found.items():
            found[role] = (
                first and not (begins and arrays[role][:1].any()),
                last and not (ends and arrays[role][-1:].any()),
            )
    return found


def _arrives(
    recording: Recording, columns: Collection[str], role: str, zeros: tuple[bool, bool]
) -> bool:
    first, last = zeros
    # An index of zero is an action like any other.
    indices = all(np.dtype(recording.columns[name].dtype).kind in "iu" for name in columns)
    if first and (last or indices):
        raise ConfigError(
            f"{recording.path} marks the first observations of episodes (is_first), but the zeros "
            f"among its {role} do not tell which step they are of: say --arriving {base(role)} if "
            "entry t is of the step that led to observation t (Dreamer, before its third "
            f"version), --leaving {base(role)} if of the one that begins there"
        )
    return first


def _said(arriving: Collection[str], leaving: Collection[str]) -> Iterator[str]:
    if arriving:
        yield (
            f"{', '.join(sorted(arriving))} beside observation t are taken for those of the step "
            "that led to it, being zero beside all first observations (is_first); --leaving takes "
            "them for those of the step that begins there"
        )
    if leaving:
        yield (
            f"{', '.join(sorted(leaving))} beside observation t are taken for those of the step "
            "that begins there, not being zero beside all first observations (is_first); "
            "--arriving takes them for those of the step that led to it"
        )


def _last_part(column: str) -> str:
    return column.rpartition("/")[2].lower()
