"""How episodes lie in arrays: told by shapes, and by marks of where they end or begin.

There are three layouts: *flat*, all steps one after the other with the ends marked (``terminals``,
``timeouts``, ``dones``, …), or the beginnings (``episode_starts``, …), or the number of its episode
beside each (``episode``, …); *batched*, (episode, time, …); or *one episode*.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

import numpy as np

from worldmodel.data.readers.mapping import ENDS, EPISODE, NAMES, STARTS
from worldmodel.data.readers.recording import spans
from worldmodel.data.readers.stored import Header, Source, last_part
from worldmodel.errors import FileFormatError

Layout = Literal["flat", "batched", "one episode"]
# What tells the episodes of flat arrays apart.
_MARKS = (*ENDS, *STARTS, *EPISODE)


def layout_of(source: Source, batched: bool = True) -> Layout:
    """See the module.

    Args:
        source: Of the arrays.
        batched: Whether they may be that.

    Raises:
        FileFormatError: Marks are truncated or corrupt, or differ in length.
    """
    headers = source.headers
    if batched and _batched(headers):
        return "batched"
    if not _marks(headers):
        return "one episode"
    leads = {len(headers[name].shape) and headers[name].shape[0] for name in headers}
    # An episode of T actions has T + 1 observations, which no flat arrays have.
    alone = len(leads) > 1 and not ends(source)[:-1].any()
    return "one episode" if alone else "flat"


def ends(source: Source) -> np.ndarray:
    """(N,), true on the last step of an episode, as marks say.

    Raises:
        FileFormatError: They are truncated or corrupt, or differ in length.
    """
    found = [
        _last_steps(last_part(name), source.whole(name).reshape(-1))
        for name in _marks(source.headers)
    ]
    lengths = {len(flags) for flags in found}
    if len(lengths) > 1:
        raise FileFormatError(f"{source.path}: marks of ends have the lengths {sorted(lengths)}")
    return np.logical_or.reduce(found)


def episode_spans(source: Source, layout: Layout) -> list[tuple[int, int]]:
    """Where each episode begins and stops."""
    first = next(iter(source.headers.values())).shape
    if layout == "flat":
        return spans(ends(source))
    return [(i, i + 1) for i in range(first[0])] if layout == "batched" else [(0, first[0])]


def notes(source: Source, layout: Layout) -> Iterator[str]:
    """What was decided; a sentence each."""
    yield f"the arrays are taken as {layout}"
    if source.left:
        yield f"left out, being no numbers: {', '.join(source.left)}"
    if layout == "flat":
        marked = ends(source)
        if len(marked) and not marked[:-1].any():
            yield "no end is marked within: all steps are one episode"
        elif len(marked) and not marked[-1]:
            yield "the steps after the last marked end are an episode that was cut off"


def _batched(headers: Mapping[str, Header]) -> bool:
    flags = [h for name, h in headers.items() if last_part(name) in (*ENDS, *NAMES["rewards"])]
    if flags:
        return len(flags[0].shape) == 2 and flags[0].shape[1] > 1
    if _marks(headers) or len(headers) < 2:
        return False
    leads = {h.shape[:2] for h in headers.values()}
    alike = len({lead[0] for lead in leads}) == 1 and all(len(lead) == 2 for lead in leads)
    lengths = sorted({lead[-1] for lead in leads})
    # Two tables of numbers, (time, ...), are one episode, however many numbers there are.
    deep = any(len(h.shape) > 2 for h in headers.values())
    return alike and deep and lengths[-1] - lengths[0] <= 1


def _marks(headers: Collection[str]) -> list[str]:
    return [name for name in headers if last_part(name) in _MARKS]


def _last_steps(name: str, values: np.ndarray) -> np.ndarray:
    """Where episodes end by one kind of mark."""
    if name in ENDS:
        return values.astype(bool)
    begins = values[1:].astype(bool) if name in STARTS else values[1:] != values[:-1]
    return np.append(begins, True)[: len(values)]
