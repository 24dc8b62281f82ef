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
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from worldmodel.data.readers import spreadsheet
from worldmodel.data.readers.mapping import NAMES, guessed
from worldmodel.data.readers.pictures import (
    PICTURES,
    VIDEOS,
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
    natural,
    require_columns,
)
from worldmodel.data.readers.spreadsheet import Sheet
from worldmodel.errors import FileFormatError

FRAMES = "frames"
# Beside a video's name: when its frames are shown.
_TIME = "/time"


@dataclass(frozen=True)
class Unit:
    """What lies together: an episode, or the several of one table.

    Attributes:
        name: Of the episode, unless the table names several.
        sheets: By the name that goes before those of its columns; "" where there is one.
        pictures: Files by stream, in order.
        videos: File by stream.
    """

    name: str
    sheets: Mapping[str, Sheet]
    pictures: Mapping[str, tuple[Path, ...]]
    videos: Mapping[str, Path]

    @property
    def episodes(self) -> tuple[tuple[str, int], ...]:
        """Names and rows."""
        told = next(iter(self.sheets.values())).episodes
        return told if len(told) > 1 else tuple((self.name, rows) for _, rows in told)


@dataclass(frozen=True)
class Tables(Recording):
    """Tables, pictures and videos.

    Attributes:
        units: In order.
    """

    format: ClassVar[str] = "tables"
    units: tuple[Unit, ...] = ()

    def episodes(self, columns: Collection[str], size: Size | None = None) -> Iterator[Table]:
        """See ``Recording``."""
        require_columns(self, columns)
        for unit in self.units:
            found = _columns(self.path, unit)
            for name in columns:
                got = found[name].describe() if name in found else "missing"
                if got != (expected := self.columns[name].describe()):
                    raise FileFormatError(
                        f"{self.path}, episode {unit.name}: {name} is {got}; expected {expected} "
                        f"as in {self.units[0].name}"
                    )
            yield from _tables(self.path, unit, columns, size)


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
                taken[column] = video_times(inside(root, unit.videos[column.removesuffix(_TIME)]))
        begin += rows
        yield Table(name, taken)


def _in(column: str, prefix: str, sheet: Sheet) -> bool:
    return column.startswith(prefix) and column.removeprefix(prefix) in sheet.kinds


def _beside(root: Path, sheet: Sheet, name: str, what: str) -> Path:
    try:
        return inside(root, sheet.path.parent / name)
    except FileFormatError as error:
        raise FileFormatError(f"{what}: {error}") from error


def _video(root: Path, file: Path, what: str, size: Size | None) -> np.ndarray:
    times = video_times(inside(root, file))
    if not len(times):
        raise FileFormatError(f"{what}: the video has no frames")
    shortest = float(np.diff(times).min()) if len(times) > 1 else 1.0
    return read_video(file, times, shortest / 2, what, size)


def recognises(path: Path) -> bool:
    """Whether there is a table at a path, in the folder, or in a folder within it."""
    if path.is_file():
        return path.suffix.lower() in spreadsheet.SUFFIXES
    return bool(_tables_in(path)) or any(_tables_in(folder) for folder in _folders(path))


def read(path: Path) -> Recording:
    """Pass over the tables once, and look at the first episode.

    Raises:
        FileFormatError: A file is truncated, corrupt or leads out of the folder; lengths do not
            fit.
        MissingExtraError: pyarrow or PyAV is not installed and is needed.
    """
    root = path if path.is_dir() else path.parent
    units = tuple(_units(path, root))
    if not units:
        raise FileFormatError(f"{path} has no table (CSV or Parquet) of steps")
    columns = _columns(root, units[0])
    return Tables(
        root,
        columns,
        _roles(units[0], columns),
        sum(len(unit.episodes) for unit in units),
        units=units,
    )


def _units(path: Path, root: Path) -> Iterator[Unit]:
    if path.is_file():
        yield _named(path, root)
        return
    tables = _tables_in(path)
    if not tables:
        for folder in _folders(path):
            if _tables_in(folder):
                yield _together(folder, root)
    elif len(tables) == 1 and not _own(tables[0]):
        yield _together(path, root)
    elif len({spreadsheet.names(inside(root, table)) for table in tables}) == 1:
        yield from (_named(table, root) for table in tables)
    else:
        yield _together(path, root)


def _named(table: Path, root: Path) -> Unit:
    """A table and what has its name."""
    sheet = spreadsheet.scan(inside(root, table))
    folder, video = table.with_suffix(""), _own(table)
    pictures = {FRAMES: _pictures_in(folder)} if folder.is_dir() else {}
    videos = {FRAMES: video} if video and video.is_file() else {}
    return Unit(table.stem, {"": sheet}, pictures, videos)


def _own(table: Path) -> Path | None:
    """The folder of pictures, or the video, of a table's name."""
    found = [table.with_suffix(suffix) for suffix in ("", *VIDEOS)]
    return next((path for path in reversed(found) if path.exists()), None)


def _together(folder: Path, root: Path) -> Unit:
    """All that lies in a folder."""
    tables = _tables_in(folder)
    sheets = {
        "" if len(tables) == 1 else f"{table.stem}/": spreadsheet.scan(inside(root, table))
        for table in tables
    }
    if len(tables) > 1 and any(len(sheet.episodes) > 1 for sheet in sheets.values()):
        raise FileFormatError(
            f"{folder}: tables of different columns are one episode, but one has an episode column"
        )
    named = any("files" in sheet.kinds.values() for sheet in sheets.values())
    pictures = {} if named else {FRAMES: _pictures_in(folder)}
    pictures |= {} if named else {sub.name: _pictures_in(sub) for sub in _folders(folder)}
    videos = {f.stem: f for f in sorted(folder.iterdir()) if f.suffix.lower() in VIDEOS}
    return Unit(folder.name, sheets, {n: files for n, files in pictures.items() if files}, videos)


def _tables_in(folder: Path) -> list[Path]:
    found = [f for f in folder.iterdir() if f.suffix.lower() in spreadsheet.SUFFIXES]
    return sorted(found, key=lambda f: natural(f.name))


def _folders(path: Path) -> list[Path]:
    return sorted((f for f in path.iterdir() if f.is_dir()), key=lambda f: natural(f.name))


def _pictures_in(folder: Path) -> tuple[Path, ...]:
    found = [f for f in folder.iterdir() if f.suffix.lower() in PICTURES]
    return tuple(sorted(found, key=lambda f: natural(f.name)))


def _columns(root: Path, unit: Unit) -> dict[str, Column]:
    """Of one unit, after a look at its first pictures."""
    columns: dict[str, Column] = {}
    rows = sum(count for _, count in unit.episodes)
    for prefix, sheet in unit.sheets.items():
        for name, kind in sheet.kinds.items():
            if kind == "files":
                first = next(sheet.blocks([name]))[name][0]
                file = _beside(root, sheet, first, f"{root}, episode {unit.name}: {name} at time 0")
                columns[prefix + name] = Column(read_picture(file, str(file)).shape, "uint8")
            elif kind != "text":
                columns[prefix + name] = Column(sheet.shapes[name], kind)
    for name, files in unit.pictures.items():
        shape = read_picture(inside(root, files[0]), str(files[0])).shape
        columns[name] = Column(shape, "uint8", len(files) == rows + 1)
    for name, file in unit.videos.items():
        final = len(video_times(inside(root, file))) == rows + 1
        columns[name] = Column(video_shape(file), "uint8", final)
        columns[name + _TIME] = Column((), "float64", final)
    return columns


def _roles(unit: Unit, columns: Mapping[str, Column]) -> dict[str, tuple[str, ...]]:
    """What names tell: of a table its columns', of several their own."""
    roles: dict[str, tuple[str, ...]] = {}
    if len(unit.sheets) == 1:
        sheet = unit.sheets[""]
        roles = guessed([name for name in sheet.kinds if name in columns])
        roles |= {name: (name,) for name, kind in sheet.kinds.items() if kind == "files"}
    else:
        for prefix, sheet in unit.sheets.items():
            roles |= _roles_of(prefix, sheet)
    roles |= {stream: (stream,) for stream in (*unit.pictures, *unit.videos)}
    rows = unit.episodes[0][1]
    for stream, file in unit.videos.items():
        if len(video_times(file)) not in (rows, rows + 1):
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
