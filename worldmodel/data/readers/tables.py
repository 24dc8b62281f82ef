"""Tables (CSV or Parquet) of steps, with pictures or videos beside them.

What lies together is told by names:

- ``run.csv`` alone, or a folder of tables with the same columns: each is an episode; a column
  ``episode`` tells several in one table apart.
- Its pictures are named in a column, or lie in the folder ``run/``, or are the video ``run.mp4``.
- A folder with one table is an episode too: pictures beside the table are the stream ``frames``,
  each folder of pictures and each video the stream of its name. A folder of such folders is many.
- A folder with several tables of different columns is one episode, recorded with several clocks:
  the column ``x`` of ``joints.csv`` is called ``joints/x``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from worldmodel.data.readers import spreadsheet
from worldmodel.data.readers.beside import Unit, folders, left, tables_in, units
from worldmodel.data.readers.mapping import NAMES, guessed
from worldmodel.data.readers.pictures import (
    Size,
    read_picture,
    read_pictures,
    read_video,
    video_shape,
    video_times,
)
from worldmodel.data.readers.recording import (
    Column,
    Recording,
    Table,
    inside,
    require_columns,
)
from worldmodel.data.readers.spreadsheet import Sheet
from worldmodel.errors import FileFormatError

# Beside a video's name: when its frames are shown.
_TIME = "/time"


@dataclass(frozen=True)
class Tables(Recording):
    """Tables, pictures and videos.

    Attributes:
        units: In order.
    """

    format: ClassVar[str] = "tables"
    units: tuple[Unit, ...] = ()

    @property
    def root(self) -> Path:
        """The folder that all must lie in."""
        return self.path if self.path.is_dir() else self.path.parent

    def episodes(self, columns: Collection[str], size: Size | None = None) -> Iterator[Table]:
        """See ``Recording``."""
        require_columns(self, columns)
        for unit in self.units:
            found = _columns(self.root, unit)
            for name in columns:
                got = found[name].describe() if name in found else _instead(unit, name)
                if got != (expected := self.columns[name].describe()):
                    raise FileFormatError(
                        f"{self.path}, episode {unit.name}: {name} is {got}; expected {expected} "
                        f"as in {self.units[0].name}"
                    )
            yield from _tables(self.root, unit, columns, size)


def _tables(root: Path, unit: Unit, columns: Collection[str], size: Size | None) -> Iterator[Table]:
    wanted = {
        prefix: [c.removeprefix(prefix) for c in columns if _in(c, prefix, sheet)]
        for prefix, sheet in unit.sheets.items()
    }
    blocks = [unit.sheets[prefix].blocks(names) for prefix, names in wanted.items()]
    begin = 0
    for (name, rows), *parts in zip(unit.episodes, *blocks, strict=True):
        what = f"{root}, episode {name}"
        taken: dict[str, np.ndarray] = {}
        for (prefix, sheet), block in zip(unit.sheets.items(), parts, strict=True):
            for column, values in block.items():
                if isinstance(values, list):
                    files = [_beside(root, sheet, v, f"{what}: {column}") for v in values]
                    values = read_pictures(files, f"{what}: {column}", size)
                taken[prefix + column] = values
        for column in columns:
            if column in unit.pictures:
                files = unit.pictures[column]
                stop = begin + rows if len(unit.episodes) > 1 else len(files)
                taken[column] = read_pictures(
                    [inside(root, file) for file in files[begin:stop]], f"{what}: {column}", size
                )
            elif column in unit.videos:
                taken[column] = _video(root, unit.videos[column], f"{what}: {column}", size)
            elif column.removesuffix(_TIME) in unit.videos:
                file = inside(root, unit.videos[column.removesuffix(_TIME)])
                taken[column] = video_times(file, f"{what}: {column}")
        begin += rows
        yield Table(name, taken)


def _instead(unit: Unit, column: str) -> str:
    """What there is where a column is no numbers."""
    prefix, sheet = next((p, s) for p, s in unit.sheets.items() if column.startswith(p))
    return sheet.texts.get(column.removeprefix(prefix), "missing")


def _in(column: str, prefix: str, sheet: Sheet) -> bool:
    return column.startswith(prefix) and column.removeprefix(prefix) in sheet.kinds


def _beside(root: Path, sheet: Sheet, name: str, what: str) -> Path:
    try:
        return inside(root, sheet.path.parent / name)
    except FileFormatError as error:
        raise FileFormatError(f"{what}: {error}") from error


def _video(root: Path, file: Path, what: str, size: Size | None) -> np.ndarray:
    times = video_times(inside(root, file), what)
    if not len(times):
        raise FileFormatError(f"{what}: the video has no frames")
    shortest = float(np.diff(times).min()) if len(times) > 1 else 1.0
    return read_video(file, times, shortest / 2, what, size)


def recognises(path: Path) -> bool:
    """Whether there is a table at a path, in the folder, or in a folder within it."""
    if path.is_file():
        return spreadsheet.is_table(path)
    return bool(tables_in(path)) or any(tables_in(folder) for folder in folders(path))


def read(path: Path, episode: str | None = None) -> Recording:
    """Pass over the tables once, and look at the first episode.

    Args:
        path: Of a table or a folder.
        episode: Column that tells episodes apart; by default one that is called so, if any.

    Raises:
        SpecError: A table has no such column.
        FileFormatError: A file is truncated, corrupt or leads out of the folder; lengths do not
            fit.
        MissingExtraError: pyarrow or PyAV is not installed and is needed.
    """
    root = path if path.is_dir() else path.parent
    found = _of_one_kind(tuple(units(path, root, episode)))
    if not found:
        raise FileFormatError(f"{path} has no table (CSV or Parquet) of steps")
    columns = _columns(root, found[0])
    return Tables(
        path,
        columns,
        _roles(found[0], columns),
        sum(len(unit.episodes) for unit in found),
        notes=tuple(left(path, found)),
        units=found,
    )


def _of_one_kind(units: tuple[Unit, ...]) -> tuple[Unit, ...]:
    prefixes = units[0].sheets if units else ()
    sheets: dict[str, list[Sheet]] = {
        p: spreadsheet.of_one_kind([unit.sheets[p] for unit in units if p in unit.sheets])
        for p in prefixes
    }
    rest = {prefix: iter(each) for prefix, each in sheets.items()}
    return tuple(
        replace(unit, sheets={p: next(rest[p]) if p in rest else s for p, s in unit.sheets.items()})
        for unit in units
    )


def _columns(root: Path, unit: Unit) -> dict[str, Column]:
    """Of one unit, after a look at its first pictures."""
    columns: dict[str, Column] = {}
    rows = sum(count for _, count in unit.episodes)
    for prefix, sheet in unit.sheets.items():
        for name, kind in sheet.kinds.items():
            if kind == "files":
                first = next(sheet.blocks([name]))[name][0]
                file = _beside(root, sheet, first, f"{root}, episode {unit.name}: {name} at time 0")
                columns[prefix + name] = _column_of(file)
            elif kind != "text":
                dtype = "float64" if kind == "date" else kind
                columns[prefix + name] = Column(sheet.shapes[name], dtype)
    for name, files in unit.pictures.items():
        columns[name] = _column_of(inside(root, files[0]), len(files) == rows + 1)
    for name, file in unit.videos.items():
        what = f"{root}, episode {unit.name}: {name}"
        final = len(video_times(inside(root, file), what)) == rows + 1
        columns[name] = Column(video_shape(file, what), "uint8", final)
        columns[name + _TIME] = Column((), "float64", final)
    return columns


def _column_of(file: Path, final: bool = False) -> Column:
    picture = read_picture(file, str(file))
    return Column(picture.shape, picture.dtype.name, final)


def _roles(unit: Unit, columns: Mapping[str, Column]) -> dict[str, tuple[str, ...]]:
    """What names tell: of a table its columns', of several their own."""
    roles: dict[str, tuple[str, ...]] = {}
    if len(unit.sheets) == 1:
        sheet = unit.sheets[""]
        roles = guessed({name: columns[name] for name in sheet.kinds if name in columns})
        roles |= {name: (name,) for name, kind in sheet.kinds.items() if kind == "files"}
    else:
        for prefix, sheet in unit.sheets.items():
            roles |= _roles_of(prefix, sheet)
    roles |= {stream: (stream,) for stream in (*unit.pictures, *unit.videos)}
    rows = unit.episodes[0][1]
    for stream, file in unit.videos.items():
        if len(video_times(file, stream)) not in (rows, rows + 1):
            roles[f"timestamps.{stream}"] = (stream + _TIME,)
    return roles


def _roles_of(prefix: str, sheet: Sheet) -> dict[str, tuple[str, ...]]:
    """A table of several is what it is called, and its time is the clock of that."""
    stem = prefix.removesuffix("/")
    role = next((role for role, names in NAMES.items() if stem.lower() in names), stem)
    time = next((c for c in sheet.kinds if c.lower() in NAMES["timestamps"]), None)
    held = tuple(prefix + c for c, kind in sheet.kinds.items() if c != time and kind != "text")
    roles = {role: held} if held else {}
    return roles | ({f"timestamps.{role}": (prefix + time,)} if time else {})
