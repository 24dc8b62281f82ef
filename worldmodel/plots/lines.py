"""Numbers over time: takes of the same episodes in the same panels, one row a component.

Streams of many components are maps instead: components from top to bottom, one row a take.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import MaxNLocator

from worldmodel.plots.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    SEQUENTIAL,
    SMALL,
    VERMILION,
    dress,
)
from worldmodel.spaces import Stream

_ROWS = 8  # components of a stream; more of them are a map
_STYLES: tuple[dict[str, Any], ...] = (
    dict(color=INK, lw=2.2),
    dict(color=BLUE, lw=1.4, dashes=(4, 2)),
    dict(color=VERMILION, lw=1.4),
)
_BAND = "dreams: mean ± 2 std, of steps min to max"
_MAPS = "colours: each component from its real min (dark) to max (bright); std up to half of that"
_WIDEST_TEXT = 5.8  # inches that the legend needs

Takes = Mapping[str, np.ndarray]  # (episodes, frames, *shape) of one stream by title


class _Row(NamedTuple):
    """One row of panels: lines (episodes, frames) by title, or a map (episodes, frames, n)."""

    label: str
    lines: Mapping[str, Float64[np.ndarray, "episodes frames"]] = {}
    band: tuple[Float64[np.ndarray, "episodes frames"], ...] = ()
    steps: bool = False
    map: Float64[np.ndarray, "episodes frames n"] | None = None
    brightest: float = 1.0


class Lines:
    """Streams of numbers, each with all of its components.

    Args:
        streams: To draw.
        takes: Three, by name of the stream and title of the take.
        dreams: (dreams, episodes, frames, *shape) by name of the stream; there may be none.
        recorded: False past the end of an episode.
        cut: After which frame a line stands.

    Attributes:
        width: Inches.
        height: Likewise.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        takes: Mapping[str, Takes],
        dreams: Mapping[str, np.ndarray],
        recorded: Bool[np.ndarray, "episodes frames"],
        cut: int,
    ) -> None:
        self._recorded, self._cut = recorded, cut
        self._rows = [
            row
            for stream in streams
            for row in _rows(stream, takes[stream.name], dreams.get(stream.name))
        ]
        self._tall = 1.2 if len(self._rows) <= 6 else 0.75
        self.width = max(_WIDEST_TEXT, 1.6 + 2.9 * len(recorded))
        self.height = 1.2 + self._tall * len(self._rows)

    def draw(self, fig: SubFigure, width: float) -> None:
        """Draw into a figure of any width, and of its own height."""
        episodes = len(self._recorded)
        grid = fig.subplots(len(self._rows), episodes, sharex=True, sharey="row", squeeze=False)
        for (i, e), axes in np.ndenumerate(grid):
            row, last = self._rows[i], i == len(self._rows) - 1
            ended = ~self._recorded[e]
            if row.map is not None:
                _draw_map(axes, np.where(ended[:, None], np.nan, row.map[e]), row.brightest)
            else:
                _draw_lines(axes, row, e, ended)
            axes.axvline(self._cut, color=GREY if row.map is None else VERMILION, lw=1, ls=":")
            axes.set_xlim(0.5, len(ended) + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            title = f"episode {e + 1}" if i == 0 else ""
            dress(axes, "frame" if last else "", "", title, grid=row.map is None)
            if e == 0:
                style: dict[str, Any] = dict(rotation=0, ha="right", va="center", color=INK)
                axes.set_ylabel(row.label, fontsize=SMALL, **style)
        if any(row.map is not None for row in self._rows):
            fig.supxlabel(_MAPS, fontsize=SMALL, color=INK)
        drawn = next((i for i, row in enumerate(self._rows) if row.lines), None)
        if drawn is not None:
            handles, texts = grid[drawn, 0].get_legend_handles_labels()
            place: dict[str, Any] = dict(loc="outside upper center", ncols=4)
            fig.legend(handles, texts, fontsize=SMALL, frameon=False, **place)


def _rows(stream: Stream, takes: Takes, dreams: np.ndarray | None) -> Iterator[_Row]:
    name = stream.name.replace(".", ".\n")
    lines = {title: stream.lines(values) for title, values in takes.items()}
    drawn = None if dreams is None or not len(dreams) else stream.lines(dreams)
    size, steps = next(iter(lines.values())).shape[-1], stream.drawn == "steps"
    if size > _ROWS:
        yield from _maps(f"{name}\n({size})", lines, drawn)
        return
    for i in range(size):
        band = ()
        if drawn is not None and steps:
            band = drawn[..., i].min(0), drawn[..., i].max(0)
        elif drawn is not None:
            mean, reach = drawn[..., i].mean(0), 2 * drawn[..., i].std(0)
            band = mean - reach, mean + reach
        label = name if size == 1 else f"{name} {i}"
        yield _Row(label, {title: line[..., i] for title, line in lines.items()}, band, steps)


def _maps(name: str, lines: Mapping[str, np.ndarray], drawn: np.ndarray | None) -> Iterator[_Row]:
    """Every component in [0, 1] between its least and its greatest value in the first take."""
    first = next(iter(lines.values()))
    low, high = first.min((0, 1)), first.max((0, 1))
    room = np.where(high > low, high - low, 1.0)
    for title, line in lines.items():
        yield _Row(f"{name}\n{title}", map=(line - low) / room)
    if drawn is not None:
        yield _Row(f"{name}\nstd of {len(drawn)}", map=drawn.std(0) / room, brightest=0.5)


def _draw_map(axes: Axes, values: Float64[np.ndarray, "frames n"], brightest: float) -> None:
    frames, size = values.shape
    place = (0.5, frames + 0.5, size - 0.5, -0.5)
    style: dict[str, Any] = dict(cmap=SEQUENTIAL, vmin=0, vmax=brightest, interpolation="nearest")
    axes.imshow(values.T, extent=place, aspect="auto", **style)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))


def _draw_lines(axes: Axes, row: _Row, episode: int, ended: np.ndarray) -> None:
    frames = np.arange(1, len(ended) + 1)
    if row.band:
        low, high = (np.where(ended, np.nan, edge[episode]) for edge in row.band)
        look: dict[str, Any] = dict(color=ORANGE, alpha=0.35, lw=0, label=_BAND)
        axes.fill_between(frames, low, high, step="mid" if row.steps else None, **look)
    for (title, line), style in zip(row.lines.items(), _STYLES, strict=True):
        shape = "steps-mid" if row.steps else "default"
        shown = np.where(ended, np.nan, line[episode])
        axes.plot(frames, shown, label=title, drawstyle=shape, **style)
    if row.steps:
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
