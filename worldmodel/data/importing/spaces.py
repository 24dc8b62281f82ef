"""Spaces of a recording: as its source declares them, else as its columns tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from worldmodel.data.importing.opened import Import
from worldmodel.data.readers.mapping import OBSERVATIONS, base, by_role, is_stream
from worldmodel.errors import SpecError

# Whole numbers of at most so many values are indices, unless they are said to be amounts.
MOST_INDICES = 256


def spaces(found: Import) -> tuple[gym.Space, gym.Space, dict[str, float], list[str]]:
    """Of observations and of actions.

    Floats without declared bounds have none, booleans are switches. Whole numbers, one a step, are
    indices where none is negative or beyond ``MOST_INDICES``; arrays of the shape of pictures that
    are not of 8 bits are pictures where none is negative. The source is passed over once for their
    smallest and largest.

    Returns:
        Both; by role what is white in those pictures, which are to be divided by it; and what was
        assumed, a sentence each.

    Raises:
        FileFormatError: The source is truncated or corrupt.
        SpecError: Entries of a role hold nothing.
    """
    recording, asked, notes = found.recording, found.choices.roles, []
    seen, acted = recording.observation_space, recording.action_space
    if any(is_stream(role) for role in asked):
        seen = None
    elif seen is not None and found.choices.size is not None:
        seen = resized(seen, found.choices.size)
    if any(base(role) == "actions" for role in asked):
        acted = None
    wanted = {
        role
        for role in found.roles
        if (is_stream(role) and seen is None) or (base(role) == "actions" and acted is None)
    }
    looked = [role for role in wanted if _whole(found, role) or _dim(found, role)]
    ranges = _ranges(found, looked) if looked else {}
    white = {r: w for r in ranges if _dim(found, r) and (w := _white(found, r, ranges[r], notes))}
    counts = {
        role: int(high) + 1
        for role, (low, high) in ranges.items()
        if _whole(found, role) and low >= 0 and high < MOST_INDICES
    }
    members = {
        r: gym.spaces.Box(0, 1, _kind(found, r)[1], np.float32)
        if r in white
        else _space(found, r, counts.get(r), notes)
        for r in found.roles
        if r in wanted
    }
    streams = {role: space for role, space in members.items() if is_stream(role)}
    parts = {role: space for role, space in members.items() if not is_stream(role)}
    seen = _together(streams, OBSERVATIONS) if seen is None else seen
    acted = _together(parts, "actions") if acted is None else acted
    return seen, acted, white, notes


def arranged(space: gym.Space, values: Mapping[str, np.ndarray], root: str, path: str = "") -> Any:
    """Arrays by role as the parts of a space.

    Args:
        space: Of observations or of actions.
        values: By role: a part is called by its keys with dots between, the only one ``root``.
        root: "observations" or "actions".
        path: Of the part, in the recursion.
    """
    before = f"{path}." if path else "actions." if root == "actions" else ""
    if isinstance(space, gym.spaces.Dict):
        return {k: arranged(s, values, root, f"{before}{k}") for k, s in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        parts = enumerate(space.spaces)
        return tuple(arranged(part, values, root, f"{before}{i}") for i, part in parts)
    return values[path or root]


def resized(space: gym.Space, size: tuple[int, int]) -> gym.Space:
    """A space whose pictures have another size."""
    if isinstance(space, gym.spaces.Dict):
        return gym.spaces.Dict({key: resized(part, size) for key, part in space.spaces.items()})
    if isinstance(space, gym.spaces.Tuple):
        return gym.spaces.Tuple([resized(part, size) for part in space.spaces])
    if isinstance(space, gym.spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3):
        return gym.spaces.Box(0, 255, (*size, *space.shape[2:]), np.uint8)
    return space


def _together(members: Mapping[str, gym.Space], root: str) -> gym.Space:
    """One space, or a Dict of several by what is behind ``actions.``."""
    if set(members) == {root}:
        return members[root]
    return gym.spaces.Dict({name.removeprefix("actions."): s for name, s in members.items()})


def _kind(found: Import, role: str) -> tuple[np.dtype, tuple[int, ...]]:
    """Dtype and shape of one entry of a role."""
    columns = [found.recording.columns[name] for name in found.roles[role]]
    if len(columns) > 1:
        dtype = np.result_type(*[np.dtype(column.dtype) for column in columns])
        return dtype, (sum(int(np.prod(column.shape)) for column in columns),)
    (column,) = columns
    size = found.choices.size
    shape = (*size, *column.shape[2:]) if column.picture and size else column.shape
    return np.dtype(column.dtype), shape


def _whole(found: Import, role: str) -> bool:
    dtype, shape = _kind(found, role)
    return dtype.kind in "iu" and shape in ((), (1,)) and role not in found.choices.amounts


def _dim(found: Import, role: str) -> bool:
    """Whether something observed may be pictures whose white is not known."""
    columns = [found.recording.columns[name] for name in found.roles[role]]
    unknown = len(columns) == 1 and columns[0].picture and columns[0].dtype != "uint8"
    return unknown and is_stream(role) and role not in found.choices.amounts


def _ranges(found: Import, roles: list[str]) -> dict[str, tuple[float, float]]:
    """The smallest and largest of each, or 0."""
    chosen = {role: found.roles[role] for role in roles}
    ranges = dict.fromkeys(roles, (0.0, 0.0))
    columns = [c for columns in chosen.values() for c in columns]
    for table in found.recording.episodes(columns, found.choices.size):
        for role, array in by_role(table, chosen).items():
            low, high = ranges[role]
            ranges[role] = (
                min(low, float(array.min(initial=0))),
                max(high, float(array.max(initial=0))),
            )
    return ranges


def _white(
    found: Import, role: str, between: tuple[float, float], notes: list[str]
) -> float | None:
    """What is white in pictures that are not of 8 bits; None if they are none."""
    (low, high), (dtype, shape) = between, _kind(found, role)
    told = f"{role} are {dtype} {' x '.join(map(str, shape))} from {low:.4g} to {high:.4g}"
    if low < 0 or not 0 < high < np.inf:
        notes.append(f"{told} and taken for numbers, not for pictures")
        return None
    usual = 1.0 if high <= 1 else 255.0 if 127 < high <= 255 else None
    usual = usual if dtype.kind == "f" else None
    white = usual or high
    notes.append(
        f"{told} and taken for pictures, white being {white:.4g}; --amounts {role} takes them for "
        "numbers"
    )
    return white


def _space(found: Import, role: str, values: int | None, notes: list[str]) -> gym.Space:
    dtype, shape = _kind(found, role)
    kind: Any = dtype.type
    if 0 in shape:
        raise SpecError(f"{role} has entries of shape {shape}; expected a number in each at least")
    if values is not None:
        notes.append(
            f"{role} are whole numbers below {values} and taken for indices of as many values; "
            f"--amounts {role} takes them for amounts"
        )
        return gym.spaces.Discrete(values)
    if is_stream(role) and dtype == np.uint8 and len(shape) in (2, 3):
        return gym.spaces.Box(0, 255, shape, np.uint8)
    if dtype.kind == "b":
        return gym.spaces.MultiBinary(shape or (1,))
    if base(role) == "actions":
        notes.append(f"{role} are declared without bounds and scaled by what was recorded")
    if dtype.kind == "f" and dtype.itemsize < 4:
        kind = np.float32
    kind = np.int64 if dtype.kind == "u" else kind  # of those without a sign zero would be a bound
    return gym.spaces.Box(-np.inf, np.inf, shape or (1,), kind)
