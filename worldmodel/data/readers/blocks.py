"""Episodes that lie in one array for each name; see ``layout``.

What is compressed is decompressed as it is read, never whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from worldmodel.data.readers import layout as layouts
from worldmodel.data.readers.layout import Layout, episode_spans, layout_of
from worldmodel.data.readers.mapping import NAMES, guessed
from worldmodel.data.readers.pictures import Size, resize_all
from worldmodel.data.readers.recording import (
    Column,
    Recording,
    Table,
    require_columns,
    require_moderate,
)
from worldmodel.data.readers.stored import Header, Rows, Source
from worldmodel.errors import FileFormatError

# Before the name of what is observed: the same one step later.
_NEXT = "next_"


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
            _require_layout(source, self.layout, (*columns, *after))
            rows = {name: source.rows(name, stack) for name in (*columns, *after)}
            for number, (begin, stop) in enumerate(episode_spans(source, self.layout)):
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


def described(
    path: Path, source: Source, kind: type[Arrays] = Arrays, batched: bool = True
) -> Arrays:
    """What arrays hold, by their names and shapes.

    Args:
        path: For errors.
        source: Of the arrays.
        kind: What to make.
        batched: Whether they may be (episode, time, ...).

    Raises:
        FileFormatError: There are none, or their marks are truncated or corrupt.
    """
    headers = source.headers
    if not headers:
        raise FileFormatError(f"{path} holds no arrays with episodes or steps")
    layout = layout_of(source, batched)
    columns = _columns(headers, layout)
    return kind(
        path,
        columns,
        guessed(columns),
        len(episode_spans(source, layout)),
        nbytes=sum(header.nbytes for header in headers.values()),
        notes=tuple(layouts.notes(source, layout)),
        source=source,
        layout=layout,
    )


def _columns(headers: Mapping[str, Header], layout: Layout) -> dict[str, Column]:
    """All but those that are others one step later."""
    lead = 2 if layout == "batched" else 1
    columns = {name: Column(h.shape[lead:], h.dtype.name) for name, h in headers.items()}
    roles = guessed({n: c for n, c in columns.items() if not n.startswith(_NEXT)})
    acts = next((headers[c].shape for c in roles.get("actions", ())), ())
    if len(acts) < lead:
        return columns
    observed = {c for role, names in roles.items() if role not in NAMES for c in names}
    observed |= set(roles.get("observations", ()))
    found = {}
    for name, header in headers.items():
        if name.startswith(_NEXT) and name.removeprefix(_NEXT) in headers:
            continue
        longer = len(header.shape) >= lead and header.shape[lead - 1] == acts[lead - 1] + 1
        final = (longer and layout != "flat") or (name in observed and _NEXT + name in headers)
        found[name] = Column(header.shape[lead:], header.dtype.name, final)
    return found


def _require_layout(source: Source, layout: Layout, names: Collection[str]) -> None:
    for name in names if layout == "batched" else ():
        if len(shape := source.headers[name].shape) < 2:
            raise FileFormatError(
                f"{source.path}: {name} is {shape}; expected (episode, time, ...) as of the others"
            )
    lengths = {name: source.headers[name].shape[0] for name in names}
    if layout != "one episode" and len(set(lengths.values())) > 1:
        what = "steps" if layout == "flat" else "episodes"
        raise FileFormatError(
            f"{source.path}: the arrays must have equally many {what}, got {lengths}"
        )


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
