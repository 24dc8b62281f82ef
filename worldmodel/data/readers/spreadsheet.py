"""One table, CSV or Parquet, whose rows are steps; an ``episode`` column may tell several apart."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data.readers.mapping import EPISODE
from worldmodel.data.readers.parquet import Rows, is_time, to_array
from worldmodel.data.readers.pictures import PICTURES
from worldmodel.data.readers.recording import require_moderate
from worldmodel.errors import FileFormatError, SpecError

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
# From the narrowest kind of cell to the widest; "date" is ISO 8601, "files" are names of pictures.
_KINDS = ("bool", "int64", "float64", "date", "files", "text")
_SEPARATORS = ",;\t|"
# Where commas do not separate cells they may begin fractions.
_FRACTION = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")
_ROWS = 4096


@dataclass(frozen=True)
class Sheet:
    """What a table holds.

    Attributes:
        path: Of the file.
        kinds: Dtype of a column's numbers, or "files", or "text", by its name.
        shapes: Of one entry, likewise.
        episodes: Name and number of rows of each.
        texts: The first cell of a column that is no number, and where it is, by the column's name.
    """

    path: Path
    kinds: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    episodes: tuple[tuple[str, int], ...]
    texts: Mapping[str, str] = field(default_factory=dict)

    def blocks(self, columns: Collection[str]) -> Iterator[dict[str, Any]]:
        """Columns of one episode after the other; names of files as lists.

        Raises:
            FileFormatError: The file is truncated or corrupt, or has no value somewhere; the
                message names episode, column and time.
        """
        read = _parquet_blocks if _is_parquet(self.path) else _csv_blocks
        return read(self, list(columns))


def is_table(path: Path) -> bool:
    """Whether a file is a table by its name."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """The name of a table without what says that it is one."""
    return path.stem.removesuffix(".csv").removesuffix(".tsv")


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def scan(path: Path, episode: str | None = None) -> Sheet:
    """Pass over a table once; that of a whole file is called by the file's stem.

    Args:
        path: Of the table.
        episode: Column that tells episodes apart; by default one that is called so, if any.

    Raises:
        SpecError: There is no such column.
        FileFormatError: It is truncated, corrupt or empty, two of its columns have one name, its
            rows differ in length, or those of an episode do not follow each other.
    """
    sheet = _scan_parquet(path, episode) if _is_parquet(path) else _scan_csv(path, episode)
    told = [name for name, _ in sheet.episodes]
    if not told:
        raise FileFormatError(f"{path} has no rows")
    if twice := next((name for name in told if told.count(name) > 1), None):
        raise FileFormatError(f"{path}: the rows of episode {twice} do not follow each other")
    return sheet


def names(path: Path) -> tuple[str, ...]:
    """Of the columns; what has no name in a CSV is none.

    Raises:
        FileFormatError: The file is truncated or corrupt, or two have one name.
    """
    columns = Rows(path).schema.names if _is_parquet(path) else next(_csv_rows(path))
    return tuple(name for name in _named_once(path, columns) if name)


def _named_once(path: Path, columns: list[str]) -> list[str]:
    """The columns themselves.

    Raises:
        FileFormatError: Two have one name.
    """
    if twice := next((name for name in columns if name and columns.count(name) > 1), None):
        raise FileFormatError(f"{path} has two columns {twice!r}; expected names of their own")
    return columns


def _runs(told: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple((name, sum(1 for _ in group)) for name, group in groupby(told))


def _key(path: Path, columns: Collection[str], asked: str | None) -> str | None:
    if asked is not None:
        if asked not in columns:
            raise SpecError(
                f"{path}: episode is to be column {asked!r}, which is missing; the columns are "
                f"{', '.join(columns)}"
            )
        return asked
    return next((name for name in columns if name.lower() in EPISODE), None)


def _csv_rows(path: Path) -> Iterator[list[str]]:
    """The header, then rows of the same length; fractions begin with a point."""
    opened: Any = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
            first = file.readline(csv.field_size_limit())
            separator = max(_SEPARATORS, key=first.count)
            rows = csv.reader(chain([first], file), delimiter=separator)
            header = [name.strip() for name in next(rows, [])]
            yield header
            for row in rows:
                if len(row) != len(header) and row:
                    raise FileFormatError(
                        f"{path}, line {rows.line_num} has {len(row)} cells; expected the "
                        f"{len(header)} of the header"
                    )
                if row:
                    yield [_pointed(cell.strip(), separator) for cell in row]
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"{path} is no text in UTF-8, in which to save it: {error}"
        ) from error
    except (csv.Error, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FileFormatError(f"{path} is truncated, corrupt or no CSV: {error}") from error


def _pointed(cell: str, separator: str) -> str:
    fraction = separator != "," and "," in cell and _FRACTION.fullmatch(cell)
    return cell.replace(",", ".") if fraction else cell


def _scan_csv(path: Path, episode: str | None) -> Sheet:
    rows = _csv_rows(path)
    header = _named_once(path, next(rows))
    key = _key(path, header, episode)
    kinds, texts = dict.fromkeys(header, _KINDS[0]), {}

    def told() -> Iterator[str]:
        time, last = 0, None
        for row in rows:
            now = row[header.index(key)] if key else stem(path)
            time, last = time + 1 if now == last else 0, now
            for name, cell in zip(header, row, strict=True):
                kinds[name] = max(kinds[name], kind := _kind(cell), key=_KINDS.index)
                if name and kind == "text":
                    texts.setdefault(name, f"{cell!r} at time {time} of episode {now}")
            yield now

    episodes = _runs(told())
    kinds = {name: kind for name, kind in kinds.items() if name and name != key}
    return Sheet(path, kinds, dict.fromkeys(kinds, ()), episodes, texts)


def of_one_kind(sheets: Collection[Sheet]) -> list[Sheet]:
    """Tables with the same columns, whose numbers are of the widest kind in any of them.

    A CSV does not declare kinds: what is whole in one of them need not be so in the next.
    """
    widest: dict[str, str] = {}
    numbers = _KINDS[:3]
    for sheet in sheets:
        for name, kind in sheet.kinds.items():
            if not _is_parquet(sheet.path) and kind in numbers:
                widest[name] = max(widest.get(name, kind), kind, key=numbers.index)
    return [
        sheet
        if _is_parquet(sheet.path)
        else replace(
            sheet, kinds={n: widest[n] if k in numbers else k for n, k in sheet.kinds.items()}
        )
        for sheet in sheets
    ]


def _kind(cell: str) -> str:
    """The narrowest kind that holds a cell; an empty one fits any."""
    if not cell or cell.lower() in ("true", "false"):
        return "bool"
    for kind, parse in (("int64", int), ("float64", float), ("date", datetime.fromisoformat)):
        try:
            parse(cell)
            return kind
        except ValueError:
            pass
    return "files" if cell.lower().endswith(PICTURES) else "text"


def _csv_blocks(sheet: Sheet, columns: list[str]) -> Iterator[dict[str, Any]]:
    rows = _csv_rows(sheet.path)
    place = {name: i for i, name in enumerate(next(rows))}
    for episode, count in sheet.episodes:
        what = f"{sheet.path}, episode {episode}"
        require_moderate(what, (count, len(columns)), np.dtype(np.float64))
        parts: dict[str, list[Any]] = {name: [] for name in columns}
        for begin in range(0, count, _ROWS):
            block = list(islice(rows, min(_ROWS, count - begin)))
            for name in columns:
                cells = [row[place[name]] for row in block]
                parts[name].append(_cells(cells, sheet.kinds[name], f"{what}: {name}", begin))
        yield {
            name: list(chain.from_iterable(part))
            if sheet.kinds[name] in ("files", "text")
            else np.concatenate(part)
            for name, part in parts.items()
        }


def _cells(cells: list[str], kind: str, what: str, begin: int) -> Any:
    if "" in cells:
        raise FileFormatError(f"{what} is empty at time {begin + cells.index('')}")
    if kind in ("files", "text"):
        return cells
    if kind == "date":
        for t, cell in enumerate(cells, begin):
            if _kind(cell) != "date":
                raise FileFormatError(f"{what} is {cell!r} at time {t}; expected a date")
        return np.array([_since_1970(cell) for cell in cells])
    if kind == "bool":
        return np.array([cell.lower() == "true" for cell in cells])
    # Booleans in a column of numbers are 0 and 1.
    words = {"true": "1", "false": "0"}
    return np.array([words.get(cell.lower(), cell) for cell in cells]).astype(kind)


def _since_1970(cell: str) -> float:
    """Seconds; without a zone it is Greenwich's."""
    date = datetime.fromisoformat(cell)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _scan_parquet(path: Path, episode: str | None) -> Sheet:
    rows = Rows(path)
    columns = _named_once(path, rows.schema.names)
    first = rows.take(0, min(1, rows.count))
    kinds, shapes = {}, {}
    for name in columns:
        # Nanoseconds are no Python objects without pandas.
        timed = is_time(first[name].type)
        cell: list[Any] = [0.0] * min(1, rows.count) if timed else first[name].to_pylist()[:1]
        if cell and isinstance(cell[0], str):
            kinds[name] = "files" if cell[0].lower().endswith(PICTURES) else "text"
            shapes[name] = ()
        elif cell and isinstance(cell[0], (bool, int, float, list)):
            array = to_array(first[name], f"{path}: {name}")
            kinds[name], shapes[name] = array.dtype.name, array.shape[1:]
        elif cell:
            kinds[name], shapes[name] = "text", ()
    if (key := _key(path, columns, episode)) is None:
        return Sheet(path, kinds, shapes, ((stem(path), rows.count),) if rows.count else ())
    told = Rows(path, [key]).take(0, rows.count)[key].to_pylist()
    kinds.pop(key, None)
    return Sheet(path, kinds, shapes, _runs(map(str, told)))


def _parquet_blocks(sheet: Sheet, columns: list[str]) -> Iterator[dict[str, Any]]:
    rows, begin = Rows(sheet.path, columns), 0
    for episode, count in sheet.episodes:
        table, block = rows.take(begin, count), {}
        begin += count
        for name in columns:
            if sheet.kinds[name] in ("files", "text"):
                block[name] = table[name].to_pylist()
                continue
            array = to_array(table[name], f"{sheet.path}, episode {episode}: {name}")
            if (array.dtype.name, array.shape[1:]) != (sheet.kinds[name], sheet.shapes[name]):
                raise FileFormatError(
                    f"{sheet.path}, episode {episode}: {name} is {array.dtype.name} "
                    f"{array.shape[1:]}; expected {sheet.kinds[name]} {sheet.shapes[name]}"
                )
            block[name] = array
        yield block
