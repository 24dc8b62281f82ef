"""Episodes that have files of their own; which belong together is told by names.

- ``*.npz``: an episode each, or several where ends are marked within;
- ``*.npy`` with fields (structured arrays): likewise;
- ``ep0_observations.npy``, ``ep0_actions.npy``, ``ep1_…``, or ``observations_0.npy``, …: an episode
  for each number;
- folders of ``*.npy`` (``episode_000/observations.npy``, …): an episode for each folder;
- ``observations/0.npy``, ``actions/0.npy``, …: an episode for each name;
- folders of ``*.npz``: as above.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from worldmodel.data.readers import spreadsheet
from worldmodel.data.readers.blocks import Arrays, described
from worldmodel.data.readers.mapping import NAMES
from worldmodel.data.readers.pictures import Size
from worldmodel.data.readers.recording import Recording, Table, inside, natural, require_columns
from worldmodel.data.readers.stored import Archive, Mapped, Source, mapped
from worldmodel.errors import FileFormatError

_ONE = "each file, or what belongs together, is one episode"
# Names of episodes, and what opens their files.
Units = Sequence[tuple[str, Callable[[], Source]]]
# A name and a number of it, in either order.
_NUMBERED = (r"(?P<name>.*?)[_.-]?(?P<episode>\d+)", r"(?P<episode>.*?\d+)[_.-](?P<name>.+)")


@dataclass(frozen=True)
class Apart(Recording):
    """Episodes in files of their own.

    Attributes:
        units: What is read one after the other; mostly an episode each.
    """

    format: ClassVar[str] = "arrays"
    units: tuple[tuple[str, Callable[[], Source]], ...] = ()

    def episodes(self, columns: Collection[str], size: Size | None = None) -> Iterator[Table]:
        """See ``Recording``."""
        require_columns(self, columns)
        for name, opened in self.units:
            one = _opened(opened)
            for column in columns:
                found, expected = one.columns.get(column), self.columns[column]
                if found is None or found.describe() != expected.describe():
                    raise FileFormatError(
                        f"{self.path}, episode {name}: {column} is "
                        f"{found.describe() if found else 'missing'}; expected "
                        f"{expected.describe()} as in {self.units[0][0]}"
                    )
            for table in one.episodes(columns, size):
                several = "" if one.count == 1 else f".{table.name}"
                yield Table(f"{name}{several}", table.columns)


def read(path: Path) -> Apart | None:
    """Open a folder whose episodes have files of their own; None if they have not.

    Raises:
        FileFormatError: The first is truncated or corrupt, or a file leads out of the folder.
    """
    units = tuple(_units(path))
    if not units:
        return None
    first = _opened(units[0][1])
    marked = first.layout == "flat"
    # How many are in files that mark them is not known before they are read.
    return Apart(
        path,
        first.columns,
        first.roles,
        None if marked else len(units),
        notes=(f"{_ONE}, or as many as it marks" if marked else _ONE,),
        units=units,
    )


def holds(folder: Path) -> bool:
    """Whether there are arrays in a folder."""
    return any(folder.glob("*.np[yz]"))


def subfolders(path: Path) -> list[Path]:
    """Folders of arrays in a folder, in order; none if tables lie beside them."""
    found = [f for f in path.iterdir() if f.is_dir() and holds(f)]
    tables = any(spreadsheet.is_table(f) for folder in (path, *found) for f in folder.iterdir())
    return [] if tables else sorted(found, key=lambda f: natural(f.name))


def _opened(opened: Callable[[], Source]) -> Arrays:
    source = opened()
    return described(source.path, source, batched=False)


def _units(path: Path) -> Units:
    if holds(path):
        return _files(path, path)
    folders = subfolders(path)
    if any(folder.name.lower() in NAMES["actions"] for folder in folders):
        named = {(file.stem, f.name): file for f in folders for file in _sorted(f, "*.npy")}
        return _gathered(path, path, named)
    units: list[tuple[str, Callable[[], Source]]] = []
    for folder in folders:
        within = _files(path, folder)
        units += [(f"{folder.name}/{name}", opened) for name, opened in within]
        if not within:
            files = {(folder.name, file.stem): file for file in _sorted(folder, "*.npy")}
            units += _gathered(path, folder, files)
    return units


def _files(root: Path, folder: Path) -> Units:
    """Of one folder; none if its arrays belong together."""
    if archives := _sorted(folder, "*.npz"):
        return [(f.stem, partial(_archive, root, f)) for f in archives]
    arrays = _sorted(folder, "*.npy")
    if all(mapped(root, file).dtype.names for file in arrays):
        return [(f.stem, partial(_fields, root, f)) for f in arrays]
    for pattern in _NUMBERED:
        found = [re.fullmatch(pattern, file.stem) for file in arrays]
        files = {(m["episode"], m["name"]): f for m, f in zip(found, arrays, strict=True) if m}
        if all(found) and _are_episodes(root, files):
            return _gathered(root, folder, files)
    return []


def _are_episodes(root: Path, files: Mapping[tuple[str, str], Path]) -> bool:
    """Whether numbers are of episodes, and not of the parts of a vector."""
    named = any(name.lower() in NAMES["actions"] for _, name in files)
    return named and any(mapped(root, file).ndim > 1 for file in files.values())


def _gathered(root: Path, path: Path, files: Mapping[tuple[str, str], Path]) -> Units:
    """Units by the first part of the files' names, their arrays by the second."""
    episodes: dict[str, dict[str, Path]] = {}
    for (episode, name), file in files.items():
        episodes.setdefault(episode, {})[name] = file
    order = sorted(episodes, key=natural)
    return [(name, partial(_together, root, path, episodes[name])) for name in order]


def _archive(root: Path, file: Path) -> Source:
    return Archive(inside(root, file))


def _fields(root: Path, file: Path) -> Source:
    array = mapped(root, file)
    return Mapped(file, {name: array[name] for name in array.dtype.names or ()})


def _together(root: Path, path: Path, files: Mapping[str, Path]) -> Source:
    return Mapped(path, {name: mapped(root, file) for name, file in files.items()})


def _sorted(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda f: natural(f.name))
