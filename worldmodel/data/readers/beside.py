"""Which tables, pictures and videos lie together; told by their names, see ``tables``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from worldmodel.data.readers import spreadsheet
from worldmodel.data.readers.mapping import called
from worldmodel.data.readers.pictures import PICTURES, VIDEOS
from worldmodel.data.readers.recording import inside, natural
from worldmodel.data.readers.spreadsheet import Sheet, scan
from worldmodel.errors import FileFormatError

FRAMES = "frames"


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


def units(path: Path, root: Path, episode: str | None = None) -> Iterator[Unit]:
    """What lies together at a path, in order; see ``spreadsheet.scan``."""
    if path.is_file():
        yield _named(path, root, episode)
        return
    tables = tables_in(path)
    if not tables:
        for folder in folders(path):
            if tables_in(folder):
                yield _together(folder, root, episode)
    elif len(tables) == 1 and not _own(tables[0]):
        yield _together(path, root, episode)
    elif _alike([spreadsheet.names(inside(root, table)) for table in tables]):
        yield from (_named(table, root, episode) for table in tables)
    else:
        yield _together(path, root, episode)


def _alike(names: list[tuple[str, ...]]) -> bool:
    """Whether tables of these columns are episodes; one of them may lack a column.

    The parts of one episode have equal columns, the actions, in no two tables.
    """
    acted = {called(each, "actions") for each in names}
    return len(set(names)) == 1 or (len(acted) == 1 and all(acted))


def _named(table: Path, root: Path, episode: str | None) -> Unit:
    """A table and what has its name."""
    sheet = scan(inside(root, table), episode)
    folder, video = table.with_name(spreadsheet.stem(table)), _own(table)
    found = _pictures_in(folder) if folder.is_dir() else ()
    pictures = {FRAMES: found} if found else {}
    videos = {FRAMES: video} if video and video.is_file() else {}
    return Unit(folder.name, {"": sheet}, pictures, videos)


def _own(table: Path) -> Path | None:
    """The folder of pictures, or the video, of a table's name."""
    found = [table.with_name(spreadsheet.stem(table) + suffix) for suffix in ("", *VIDEOS)]
    return next((path for path in reversed(found) if path.exists()), None)


def _together(folder: Path, root: Path, episode: str | None) -> Unit:
    """All that lies in a folder."""
    tables = tables_in(folder)
    sheets = {
        f"{spreadsheet.stem(table)}/" if len(tables) > 1 else "": scan(inside(root, table), episode)
        for table in tables
    }
    if len(tables) > 1 and any(len(sheet.episodes) > 1 for sheet in sheets.values()):
        raise FileFormatError(
            f"{folder}: tables of different columns are one episode, but one has an episode column"
        )
    named = any("files" in sheet.kinds.values() for sheet in sheets.values())
    pictures = {} if named else {FRAMES: _pictures_in(folder)}
    pictures |= {} if named else {sub.name: _pictures_in(sub) for sub in folders(folder)}
    videos = {f.stem: f for f in sorted(folder.iterdir()) if f.suffix.lower() in VIDEOS}
    return Unit(folder.name, sheets, {n: files for n, files in pictures.items() if files}, videos)


def tables_in(folder: Path) -> list[Path]:
    """The tables of a folder, in order."""
    found = [f for f in folder.iterdir() if spreadsheet.is_table(f)]
    return sorted(found, key=lambda f: natural(f.name))


def folders(path: Path) -> list[Path]:
    """The folders in a folder, in order."""
    return sorted((f for f in path.iterdir() if f.is_dir()), key=lambda f: natural(f.name))


def _pictures_in(folder: Path) -> tuple[Path, ...]:
    found = [f for f in folder.iterdir() if f.suffix.lower() in PICTURES]
    return tuple(sorted(found, key=lambda f: natural(f.name)))


def left(path: Path, units: tuple[Unit, ...]) -> Iterator[str]:
    """What nothing can be learned from."""
    sheets = units[0].sheets.items()
    texts = [
        f"{p}{n} ({sheet.texts[n]})" if n in sheet.texts else p + n
        for p, sheet in sheets
        for n, kind in sheet.kinds.items()
        if kind == "text"
    ]
    if texts:
        yield f"left out, being no numbers: {', '.join(texts)}"
    named = any("files" in sheet.kinds.values() for unit in units for sheet in unit.sheets.values())
    if path.is_file() or named:
        return
    used = {file for unit in units for files in unit.pictures.values() for file in files}
    used |= {file for unit in units for file in unit.videos.values()}
    media = (f for f in path.rglob("*") if f.suffix.lower() in (*PICTURES, *VIDEOS))
    if unused := sorted(file for file in media if file not in used):
        yield (
            f"{len(unused)} pictures or videos belong to no table by their names, among them "
            f"{unused[0].relative_to(path)}"
        )
