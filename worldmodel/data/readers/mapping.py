"""Which column of a source is which stream of an episode.

A mapping is a dictionary from role to columns. Roles are ``actions``, ``rewards``, ``terminated``,
``truncated``, ``states`` (ground truth, which models never see), ``timestamps`` and ``seen`` (False
where nothing was observed); any other name is a stream that is observed. Several columns of a role
are put side by side as one vector.
``episode`` is the column of a table that tells episodes apart, whatever it is called.
``timestamps.STREAM`` are those of one stream that has its own clock, ``actions.PART`` the parts of
an action that has several.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from worldmodel.data.readers.recording import Column, Recording, Table
from worldmodel.errors import ConfigError, FileFormatError, SpecError
from worldmodel.files import read_json

Roles = Mapping[str, tuple[str, ...]]
OBSERVATIONS = "observations"
# By role, what people call it; lower case.
NAMES = {
    "actions": ("actions", "action", "acts", "act"),
    "rewards": ("rewards", "reward", "next.reward", "rew"),
    "terminated": ("terminated", "terminals", "terminations", "terminal", "is_terminal"),
    "truncated": ("truncated", "timeouts", "truncations", "timeout"),
    "timestamps": ("timestamps", "timestamp", "time", "times", "t", "stamp", "datetime", "date"),
    "states": ("states", "state"),
    "seen": ("seen",),
    OBSERVATIONS: ("observations", "observation", "obs", "images", "frames", "pictures"),
}
# These say where an episode ends, and not why.
DONE = ("dones", "done", "next.done", "is_last")
ENDS = (*NAMES["terminated"], *NAMES["truncated"], *DONE)
# What pictures are called, or what is in their names.
_PICTURES = ("image", "img", "rgb", "depth", "pixel", "frame", "picture", "cam", "video")
# These tell episodes apart: by a mark on the first step, or by a name or number of each.
STARTS = ("episode_starts", "episode_start", "is_first")
EPISODE = ("episode", "episode_index", "episode_id", "trial", "trajectory")
# Behind the name of a column of times: its unit, in seconds.
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3} | dict.fromkeys(
    ("s", "sec", "secs", "second", "seconds"), 1.0
)
_UNIT = re.compile(rf"(.+?)[\s_.\[(/]+({'|'.join(_UNITS)})[\])]?")
_FLAGS = ("terminated", "truncated", "seen")
_SCALARS = ("rewards", "timestamps", *_FLAGS)


def guessed(columns: Mapping[str, Column]) -> dict[str, tuple[str, ...]]:
    """The roles that names tell.

    ``observations/x`` or ``observation.x`` is the stream ``x``; ``action_0``, ``action[1]``,
    ``action.torque`` are side by side the actions, ``obs_0``, ``observation_1``, … one stream.
    Where nothing is called an observation, pictures are observed, under their own names: of 8 bits
    whatever they are called, others if they are called so (``depth``, ``image``, …).
    """
    roles: dict[str, tuple[str, ...]] = {}
    for role, names in NAMES.items():
        told = _timed if role == "timestamps" else str.lower
        found = [c for c in columns if told(c) in names]
        numbered = [c for c in columns if _part_of(c, names)]
        streams = {m[1]: (c,) for c in columns if (m := _stream_of(c, names))}
        if found:
            roles[role] = (min(found, key=lambda c: names.index(told(c))),)
        elif role == OBSERVATIONS and streams:
            roles |= streams
        elif numbered and role in ("actions", "states", OBSERVATIONS):
            roles[role] = tuple(numbered)
    if not any(is_stream(role) for role in roles):
        pictures = [name for name, column in columns.items() if _pictured(name, column)]
        short = {name.rpartition("/")[2]: (name,) for name in pictures}
        roles |= short if len(short) == len(pictures) else {n: (n,) for n in pictures}
    return roles


def _pictured(name: str, column: Column) -> bool:
    named = any(word in name.lower() for word in _PICTURES)
    return column.picture and (named or (column.dtype == "uint8" and min(column.shape[:2]) > 1))


def called(columns: Iterable[str], role: str) -> frozenset[str]:
    """Those of some columns whose names tell that they are of a role."""
    names = NAMES[role]
    return frozenset(c for c in columns if c.lower() in names or _part_of(c, names))


def unit_of(column: str) -> float | None:
    """The unit of time that the name of a column ends in, in seconds: ``time_ms``, ``t [ns]``."""
    match = _UNIT.fullmatch(column.lower())
    return _UNITS[match[2]] if match else None


def _timed(column: str) -> str:
    """The name of a column of times without a unit; lower case."""
    match = _UNIT.fullmatch(column.lower())
    return match[1] if match else column.lower()


def _part_of(column: str, names: Iterable[str]) -> bool:
    return any(re.fullmatch(rf"{re.escape(n)}[_.\[/].+", column.lower()) for n in names)


def _stream_of(column: str, names: Iterable[str]) -> re.Match[str] | None:
    prefix = "|".join(re.escape(name) for name in names)
    return re.fullmatch(rf"(?:{prefix})[/.](.+)", column)


def parse(words: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """A mapping from ``role=column`` or ``role=column,column``, or from files that hold one.

    A role without columns (``states=``) is left out of the import.

    Raises:
        ConfigError: A word is neither.
        FileFormatError: A file is no mapping.
    """
    mapping: dict[str, tuple[str, ...]] = {}
    for word in words:
        role, equals, columns = word.partition("=")
        if equals and role:
            mapping[role] = tuple(column for column in columns.split(",") if column)
        elif word.endswith(".json"):
            mapping |= load(Path(word))
        else:
            raise ConfigError(f"--map takes stream=column or a file *.json, got {word!r}")
    return mapping


def load(path: Path) -> dict[str, tuple[str, ...]]:
    """A mapping that ``save`` of ``worldmodel.files.write_json`` wrote.

    Raises:
        FileFormatError: It is none.
    """
    plain = read_json(path)
    if not isinstance(plain, dict) or not all(
        isinstance(columns, list) and all(isinstance(c, str) for c in columns)
        for columns in plain.values()
    ):
        raise FileFormatError(
            f"{path} holds {json.dumps(plain):.100}; expected lists of columns by role"
        )
    return {role: tuple(columns) for role, columns in plain.items()}


def settled(recording: Recording, asked: Roles) -> dict[str, tuple[str, ...]]:
    """The roles that a source declares, with those that are asked for in their place.

    Where a stream is given columns, those that the source declares are dropped; one without columns
    is left out alone.

    Raises:
        SpecError: A column is missing, one has no role that it could have, or there are no actions
            or observations; the message lists the columns.
    """
    declared = dict(recording.roles)
    if any(is_stream(role) for role, columns in asked.items() if columns):
        declared = {role: columns for role, columns in declared.items() if not is_stream(role)}
    if any(base(role) == "actions" for role in asked):
        declared = {r: columns for r, columns in declared.items() if base(r) != "actions"}
    roles = {role: columns for role, columns in {**declared, **asked}.items() if columns}
    known = ", ".join(f"{name} ({column.describe()})" for name, column in recording.columns.items())
    for role, columns in roles.items():
        if missing := [column for column in columns if column not in recording.columns]:
            raise SpecError(
                f"{recording.path}: {role} is to be column {missing[0]!r}, which is missing; the "
                f"columns are {known}"
            )
        if base(role) in _SCALARS and len(columns) > 1:
            raise SpecError(f"{role} must be one column, got {', '.join(columns)}")
    for role, present in (
        ("actions", any(base(role) == "actions" for role in roles)),
        (OBSERVATIONS, any(is_stream(role) for role in roles)),
    ):
        if not present:
            raise SpecError(
                f"{recording.path}: no column is known as {role}; name one with --map "
                f"{role}=COLUMN. The columns are {known or 'none'}"
                + "".join(f"; {note}" for note in recording.notes if "left out" in note)
            )
    return roles


def base(role: str) -> str:
    """A role without the stream or part that it is of."""
    head, _, rest = role.partition(".")
    return head if rest and head in ("timestamps", "actions") else role


def is_stream(role: str) -> bool:
    """Whether a role is something that is observed."""
    return base(role) not in NAMES or role == OBSERVATIONS


def is_framed(role: str) -> bool:
    """Whether a role has an entry for what was there after the last action too."""
    return is_stream(role) or role in ("states", "seen")


def clock_of(roles: Roles, role: str) -> str | None:
    """The role that holds the times of another, or None."""
    own = f"timestamps.{role}"
    return own if own in roles else "timestamps" if "timestamps" in roles else None


def by_role(table: Table, roles: Roles) -> dict[str, np.ndarray]:
    """The columns of an episode as what they are mapped to.

    Raises:
        FileFormatError: Columns of one role differ in length, or flags or scalars are none; the
            message names episode and column.
    """
    return {role: _joined(table, role, columns) for role, columns in roles.items()}


def _joined(table: Table, role: str, columns: tuple[str, ...]) -> np.ndarray:
    arrays = [table.columns[column] for column in columns]
    lengths = {column: len(array) for column, array in zip(columns, arrays, strict=True)}
    if len(set(lengths.values())) > 1:
        raise FileFormatError(f"episode {table.name}: {role} is of columns of lengths {lengths}")
    array = arrays[0]
    if len(arrays) > 1:
        array = np.concatenate([a.reshape(len(a), -1) for a in arrays], -1)
    if base(role) in _SCALARS:
        if np.prod(array.shape[1:]) != 1:
            raise FileFormatError(
                f"episode {table.name}: {role} must be one number a step, column {columns[0]!r} "
                f"has {array.shape[1:]}"
            )
        array = array.reshape(len(array))
    return array.astype(np.bool_) if role in _FLAGS else array


def final(recording: Recording, roles: Roles) -> bool:
    """Whether all that is observed has an entry after the last action."""
    return all(column.final for column in _observed(recording, roles))


def _observed(recording: Recording, roles: Roles) -> list[Column]:
    return [
        recording.columns[column]
        for role, columns in roles.items()
        if is_framed(role)
        for column in columns
    ]
