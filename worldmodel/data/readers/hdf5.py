"""HDF5: flat arrays as in D4RL, or a group for each episode as in robomimic.

D4RL: ``observations``, ``actions``, ``rewards``, ``terminals``, ``timeouts``, ``infos/*``, of all
steps one after the other. robomimic: ``data/demo_0/obs/*``, ``actions``, ``rewards``, ``dones``,
``states``. A group of episodes of any other names is read likewise.

Source: https://github.com/Farama-Foundation/D4RL/wiki/Tasks and
https://robomimic.github.io/docs/datasets/overview.html
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from worldmodel.data.readers.blocks import Arrays, described
from worldmodel.data.readers.mapping import guessed
from worldmodel.data.readers.pictures import Size, resize_all
from worldmodel.data.readers.recording import (
    Column,
    Recording,
    Table,
    natural,
    require_columns,
    require_moderate,
)
from worldmodel.data.readers.stored import Header, Rows, Source
from worldmodel.errors import FileFormatError, WorldModelError, require_extra

SUFFIXES = (".hdf5", ".h5")
_NEXT = "next_"


@dataclass(frozen=True)
class Flat(Arrays):
    """D4RL's."""

    format: ClassVar[str] = "hdf5"


class _Datasets(Source):
    """The datasets of a file."""

    def __init__(self, path: Path) -> None:
        with _opened(path) as file:
            found = _datasets(file, path)
            headers = {name: Header(d.shape, d.dtype) for name, d in found.items()}
        super().__init__(path, headers)

    def rows(self, name: str, stack: ExitStack) -> Rows:
        """See ``Source``."""
        dataset = stack.enter_context(_opened(self.path))[name]
        place = 0

        def read(count: int) -> np.ndarray:
            nonlocal place
            place += count
            return _entries(dataset, place - count, place, f"{self.path}: {name}")

        return read


@dataclass(frozen=True)
class Groups(Recording):
    """robomimic's.

    Attributes:
        parent: Path of the group that holds the episodes.
        names: Of the episodes, in order.
    """

    format: ClassVar[str] = "hdf5"
    parent: str = "data"
    names: tuple[str, ...] = ()

    def episodes(self, columns: Collection[str], size: Size | None = None) -> Iterator[Table]:
        """See ``Recording``."""
        require_columns(self, columns)
        with _opened(self.path) as file:
            for name in self.names:
                found = _datasets(file[self.parent][name], self.path)
                taken = {column: self._read(found, name, column) for column in columns}
                yield Table(
                    name,
                    {
                        column: resize_all(array, size) if self.columns[column].picture else array
                        for column, array in taken.items()
                    },
                )

    def _read(self, found: dict[str, Any], episode: str, column: str) -> np.ndarray:
        what, expected = f"{self.path}: {column} of {episode}", self.columns[column]
        if column not in found:
            raise FileFormatError(f"{what} is missing; the episode has {', '.join(found)}")
        dataset = found[column]
        if dataset.shape[1:] != expected.shape or dataset.dtype.name != expected.dtype:
            raise FileFormatError(
                f"{what} is {dataset.dtype.name} {dataset.shape[1:]}; expected "
                f"{expected.describe()} as in {self.names[0]}"
            )
        require_moderate(what, dataset.shape, dataset.dtype)
        array = _entries(dataset, 0, len(dataset), what)
        if (following := _following(column)) not in found:
            return array
        after = found[following]
        return np.concatenate([array, _entries(after, len(after) - 1, len(after), what)])


def recognises(path: Path) -> bool:
    """Whether a file looks like HDF5, by its name or its first bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return path.suffix in SUFFIXES or file.read(8) == b"\x89HDF\r\n\x1a\n"


def read(path: Path) -> Recording:
    """Open a file.

    Raises:
        FileFormatError: It is truncated, corrupt, foreign, or holds links to other files.
        MissingExtraError: h5py is not installed.
    """
    require_extra("h5py", "hdf5")
    parent, names = _groups(path)
    if not names:
        return described(path, _Datasets(path), kind=Flat)
    with _opened(path) as file:
        group = file[parent]
        facts = {key: _plain(value) for key, value in group.attrs.items()}
        found = _datasets(group[names[0]], path)
        columns = _columns(found)
        total = sum(
            d.size * d.dtype.itemsize for n in names for d in _datasets(group[n], path).values()
        )
    return Groups(
        path,
        columns,
        guessed(columns),
        len(names),
        nbytes=total,
        facts=facts,
        parent=parent,
        names=names,
    )


def _columns(found: dict[str, Any]) -> dict[str, Column]:
    acts = len(found["actions"]) if "actions" in found else None
    columns = {}
    for name, dataset in found.items():
        if name.startswith(_NEXT) or dataset.dtype.kind not in "biuf":
            continue
        final = _following(name) in found or (acts is not None and len(dataset) == acts + 1)
        columns[name] = Column(dataset.shape[1:], dataset.dtype.name, final)
    return columns


def _following(column: str) -> str:
    """The name of the same thing one step later."""
    return _NEXT + column


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file; whatever h5py raises on what it finds in it becomes a ``FileFormatError``."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except WorldModelError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise FileFormatError(f"{path} is truncated, corrupt or no HDF5: {error}") from error


def _groups(path: Path) -> tuple[str, tuple[str, ...]]:
    """The group whose members are episodes, and their names in order; none if there is none."""
    import h5py

    with _opened(path) as file:
        for parent in ("data", "/"):
            if isinstance(group := file.get(parent), h5py.Group):
                members = sorted((n for n in map(str, group) if _is_episode(group, n)), key=natural)
                if members and parent == "data" and (left := sorted(set(group) - set(members))):
                    raise FileFormatError(f"{path}: data/{left[0]} has no actions")
                if members:
                    return parent, tuple(members)
    return "", ()


def _is_episode(group: Any, name: str) -> bool:
    import h5py

    member = group.get(name) if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
    return isinstance(member, h5py.Group) and any(
        isinstance(member.get(part), h5py.Dataset) for part in ("actions", "action")
    )


def _datasets(group: Any, path: Path, prefix: str = "") -> dict[str, Any]:
    """All arrays below a group by name, links to other files refused."""
    import h5py

    found: dict[str, Any] = {}
    for name in group:
        if isinstance(link := group.get(name, getlink=True), h5py.ExternalLink):
            raise FileFormatError(
                f"{path}: {prefix}{name} leads out of the file, to {link.filename}"
            )
        member = group[name]
        if isinstance(member, h5py.Group):
            found |= _datasets(member, path, f"{prefix}{name}/")
        elif isinstance(member, h5py.Dataset) and member.shape:
            if member.is_virtual or member.external:
                raise FileFormatError(f"{path}: {prefix}{name} keeps its data in other files")
            found[f"{prefix}{name}"] = member
    return found


def refuse_links(path: Path) -> None:
    """Raise if a file leads to other files.

    Raises:
        FileFormatError: It does, or is truncated or corrupt.
        MissingExtraError: h5py is not installed.
    """
    require_extra("h5py", "hdf5")
    import h5py

    def visit(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            raise FileFormatError(f"{path}: {name} leads out of the file, to {link.filename}")

    with _opened(path) as file:
        file.visititems_links(visit)


def _entries(dataset: Any, begin: int, stop: int, what: str) -> np.ndarray:
    try:
        return dataset[begin:stop]
    except (OSError, RuntimeError) as error:
        raise FileFormatError(
            f"{what} is truncated or corrupt between entries {begin} and {stop}: {error}"
        ) from error


def _plain(value: Any) -> Any:
    """An attribute as JSON."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value.tolist() if hasattr(value, "tolist") else str(value)
