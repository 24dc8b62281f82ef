"""Arrays of all episodes under one name each; NumPy's ``.npz`` and ``.npy``.

There are three layouts, told by the shapes: *flat*, all steps one after the other with the ends
marked (``terminals``, ``timeouts``, ``dones``, …), or the beginnings (``episode_starts``, …), or
the number of its episode beside each (``episode``, …); *batched*, (episode, time, …); or *one
episode*.
In a folder of archives each is one episode. What is compressed is decompressed as it is read,
never whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from worldmodel.data.readers.mapping import ENDS, EPISODE, NAMES, STARTS, guessed
from worldmodel.data.readers.pictures import Size, resize_all
from worldmodel.data.readers.recording import (
    Column,
    Recording,
    Table,
    inside,
    require_columns,
    require_moderate,
    spans,
)
from worldmodel.data.readers.stored import Archive, Folder, Header, Rows, Source, last_part
from worldmodel.errors import FileFormatError

Layout = Literal["flat", "batched", "one episode"]
# Before the name of what is observed: the same one step later.
_NEXT = "next_"
# What tells the episodes of flat arrays apart.
_MARKS = (*ENDS, *STARTS, *EPISODE)


@dataclass(frozen=True)
class Arrays(Recording):
    """All episodes of a source in one array each.

    Attributes:
        layout: How episodes lie in the arrays.
        source: Of the arrays.
    """

    format: ClassVar[str] = "arrays"
    source: Source | None = None
    layout: Layout = "flat"

    def episodes(self, columns: Collection[str], size: Size | None = None) -> Iterator[Table]:
        """See ``Recording``."""
        require_columns(self, columns)
        source = self.source
        assert source is not None
        with ExitStack() as stack:
            after = [name for c in columns if (name := _NEXT + c) in source.headers]
            _require_one_length(source, self.layout, (*columns, *after))
            rows = {name: source.rows(name, stack) for name in (*columns, *after)}
            for number, (begin, stop) in enumerate(_spans(source, self.layout)):
                what = f"{self.path}, episode {number}"
                taken = {
                    name: _episode(source.headers[name], read, stop - begin, self.layout, what)
                    for name, read in rows.items()
                }
                for name in after:
                    last = taken.pop(name)[-1:]
                    now = name.removeprefix(_NEXT)
                    if last.shape[1:] != taken[now].shape[1:]:
                        raise FileFormatError(
                            f"{what}: {name} are {last.shape[1:]} each; expected "
                            f"{taken[now].shape[1:]} as {now}"
                        )
                    taken[now] = np.concatenate([taken[now], last])
                yield Table(str(number), _scaled(self.columns, taken, size))


@dataclass(frozen=True)
class Archives(Recording):
    """A folder of ``.npz``, each one episode."""

    format: ClassVar[str] = "arrays"
    files: tuple[Path, ...] = ()

    def episodes(self, columns: Collection[str], size: Size | None = None) -> Iterator[Table]:
        """See ``Recording``."""
        require_columns(self, columns)
        for file in self.files:
            one = described(file, Archive(inside(self.path, file)), layout="one episode")
            for name in columns:
                found, expected = one.columns.get(name), self.columns[name]
                if found is None or found.describe() != expected.describe():
                    raise FileFormatError(
                        f"{file}: {name} is {found.describe() if found else 'missing'}; expected "
                        f"{expected.describe()} as in {self.files[0].name}"
                    )
            for table in one.episodes(columns, size):
                yield Table(file.stem, table.columns)


def recognises(path: Path) -> bool:
    """Whether a path looks like arrays of NumPy."""
    if path.is_dir():
        return any(path.glob("*.np[yz]"))
    return path.suffix == ".npz"


def read(path: Path) -> Recording:
    """Open an ``.npz``, a folder of them, or a folder of ``.npy``.

    Raises:
        FileFormatError: It is truncated or corrupt, holds no arrays of numbers, or is a dataset of
            this package.
    """
    if not path.is_dir():
        return described(path, Archive(path))
    archives = sorted(path.glob("*.npz"))
    if not archives:
        return described(path, Folder(path))
    first = described(archives[0], Archive(inside(path, archives[0])), layout="one episode")
    note = "each archive of the folder is one episode"
    return Archives(
        path, first.columns, first.roles, len(archives), notes=(note,), files=tuple(archives)
    )


def described(
    path: Path, source: Source, kind: type[Arrays] = Arrays, layout: Layout | None = None
) -> Arrays:
    """What arrays hold, by their names and shapes."""
    headers = source.headers
    if not headers:
        raise FileFormatError(f"{path} holds no arrays with episodes or steps")
    layout = layout or _layout(headers)
    lead = 2 if layout == "batched" else 1
    roles = guessed([n for n in headers if not n.startswith(_NEXT)])
    acts = next((headers[c].shape for c in roles.get("actions", ())), None)
    observed = {c for role, names in roles.items() if role not in NAMES for c in names}
    observed |= set(roles.get("observations", ()))
    columns = {}
    for name, header in headers.items():
        if (name.startswith(_NEXT) and name.removeprefix(_NEXT) in headers) or not acts:
            continue
        longer = len(header.shape) >= lead and header.shape[lead - 1] == acts[lead - 1] + 1
        final = (longer and layout != "flat") or (name in observed and _NEXT + name in headers)
        columns[name] = Column(header.shape[lead:], header.dtype.name, final)
    if not acts:
        columns = {n: Column(h.shape[lead:], h.dtype.name) for n, h in headers.items()}
    return kind(
        path,
        columns,
        roles,
        len(_spans(source, layout)),
        nbytes=sum(header.nbytes for header in headers.values()),
        notes=tuple(_notes(source, layout)),
        source=source,
        layout=layout,
    )


def _layout(headers: Mapping[str, Header]) -> Layout:
    """See the module; without marked ends, what every step has one number of tells it."""
    flags = [h for name, h in headers.items() if last_part(name) in (*ENDS, *NAMES["rewards"])]
    if flags and len(flags[0].shape) == 2 and flags[0].shape[1] > 1:
        return "batched"
    if flags or _flat(headers) == "flat":
        return _flat(headers)
    leads = {h.shape[:2] for h in headers.values()}
    alike = len({lead[0] for lead in leads}) == 1 and all(len(lead) == 2 for lead in leads)
    lengths = sorted({lead[-1] for lead in leads})
    if len(headers) > 1 and alike and lengths[-1] - lengths[0] <= 1:
        return "batched"
    return "one episode"


def _flat(headers: Mapping[str, Header]) -> Layout:
    return "flat" if any(last_part(name) in _MARKS for name in headers) else "one episode"


def _ends(source: Source) -> np.ndarray:
    """(N,), true on the last step of an episode."""
    marked = [n for n in source.headers if last_part(n) in _MARKS]
    ends = [_last_steps(last_part(name), source.whole(name).reshape(-1)) for name in marked]
    lengths = {len(flags) for flags in ends}
    if len(lengths) > 1:
        raise FileFormatError(f"{source.path}: marks of ends have the lengths {sorted(lengths)}")
    return np.logical_or.reduce(ends)


def _last_steps(name: str, values: np.ndarray) -> np.ndarray:
    """Where episodes end by one kind of mark."""
    if name in ENDS:
        return values.astype(bool)
    begins = values[1:].astype(bool) if name in STARTS else values[1:] != values[:-1]
    return np.append(begins, True)[: len(values)]


def _spans(source: Source, layout: Layout) -> list[tuple[int, int]]:
    first = next(iter(source.headers.values())).shape
    if layout == "flat":
        return spans(_ends(source))
    return [(i, i + 1) for i in range(first[0])] if layout == "batched" else [(0, first[0])]


def _require_one_length(source: Source, layout: Layout, names: Collection[str]) -> None:
    lengths = {name: source.headers[name].shape[0] for name in names}
    if layout != "one episode" and len(set(lengths.values())) > 1:
        what = "steps" if layout == "flat" else "episodes"
        raise FileFormatError(
            f"{source.path}: the arrays must have equally many {what}, got {lengths}"
        )


def _notes(source: Source, layout: Layout) -> Iterator[str]:
    yield f"the arrays are taken as {layout}"
    if source.left:
        yield f"left out, being no numbers: {', '.join(source.left)}"
    if layout == "flat":
        ends = _ends(source)
        if len(ends) and not ends[:-1].any():
            yield "no end is marked within: all steps are one episode"
        elif len(ends) and not ends[-1]:
            yield "the steps after the last marked end are an episode that was cut off"


def _episode(header: Header, read: Rows, steps: int, layout: Layout, what: str) -> np.ndarray:
    """The next episode of one array."""
    count = header.shape[0] if layout == "one episode" else 1 if layout == "batched" else steps
    require_moderate(what, (count, *header.shape[1:]), header.dtype)
    block = read(count)
    return block[0] if layout == "batched" else block


def _scaled(
    columns: Mapping[str, Column], taken: dict[str, np.ndarray], size: Size | None
) -> dict[str, np.ndarray]:
    return {n: resize_all(a, size) if columns[n].picture else a for n, a in taken.items()}
