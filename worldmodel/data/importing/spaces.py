"""Spaces of a recording: as its source declares them, else as its columns tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from worldmodel.data.importing.opened import Import
from worldmodel.data.readers.mapping import OBSERVATIONS, base, by_role, is_stream

# Whole numbers of at most so many values are indices, unless they are said to be amounts.
MOST_INDICES = 256


def spaces(found: Import) -> tuple[gym.Space, gym.Space, list[str]]:
    """Of observations and of actions.

    Floats without declared bounds have none, booleans are switches. Whole numbers, one a step, are
    indices where none is negative or beyond ``MOST_INDICES``; the source is passed over once for
    their largest.

    Returns:
        Both, and what was assumed, a sentence each.

    Raises:
        FileFormatError: The source is truncated or corrupt.
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
    counts = _counts(found, [role for role in wanted if _whole(found, role)])
    members = {r: _space(found, r, counts.get(r), notes) for r in found.roles if r in wanted}
    streams = {role: space for role, space in members.items() if is_stream(role)}
    parts = {role: space for role, space in members.items() if not is_stream(role)}
    seen = _together(streams, OBSERVATIONS) if seen is None else seen
    return seen, _together(parts, "actions") if acted is None else acted, notes


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


def _counts(found: Import, roles: list[str]) -> dict[str, int]:
    """Of columns of indices the number of values; those that hold others are left out."""
    if not roles:
        return {}
    chosen = {role: found.roles[role] for role in roles}
    low, high = dict.fromkeys(roles, 0), dict.fromkeys(roles, 0)
    for table in found.recording.episodes([c for columns in chosen.values() for c in columns]):
        for role, array in by_role(table, chosen).items():
            low[role] = min(low[role], int(array.min(initial=0)))
            high[role] = max(high[role], int(array.max(initial=0)))
    return {r: high[r] + 1 for r in roles if low[r] >= 0 and high[r] < MOST_INDICES}


def _space(found: Import, role: str, values: int | None, notes: list[str]) -> gym.Space:
    dtype, shape = _kind(found, role)
    kind: Any = dtype.type
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
    return gym.spaces.Box(-np.inf, np.inf, shape or (1,), kind)
