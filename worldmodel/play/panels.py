"""What the window shows beside the cloud: frames, traces, rows of words, and the help.

Every function paints all of a surface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pygame
from jaxtyping import Float, UInt8

from worldmodel.play.pen import BAD, LINE, PAGE, PALE, PANEL, WORDS, Colour, Pen, polyline

_EDGE = 10  # pixels inside a panel's border

Words = Sequence[tuple[str, Colour]]


def paint_frame(
    pen: Pen,
    surface: pygame.Surface,
    picture: UInt8[np.ndarray, "height width 3"],
    title: str,
    note: str,
    colour: Colour,
) -> None:
    """One picture in a border, enlarged by a whole number without blur; title and note above.

    A picture for which there is no room is made smaller.
    """
    surface.fill(PANEL)
    width, height = surface.get_size()
    room = width - 2 * _EDGE
    title_box = pen.write(surface, title, (_EDGE, 8), colour, 14, most=room)
    if pen.width(note, 13) <= room - title_box.width - 12:
        pen.write(surface, note, (width - _EDGE, 9), PALE, 13, "topright")
    top = title_box.bottom + 6
    area = pygame.Rect(_EDGE, top, max(room, 1), max(height - top - _EDGE, 1))
    high, wide = picture.shape[:2]
    image = pygame.surfarray.make_surface(picture.swapaxes(0, 1))
    factor = min(area.width // wide, area.height // high)
    if factor >= 1:
        image = pygame.transform.scale(image, (factor * wide, factor * high))
    else:
        fraction = min(area.width / wide, area.height / high)
        small = max(int(fraction * wide), 1), max(int(fraction * high), 1)
        image = pygame.transform.smoothscale(image, small)
    place = surface.blit(image, image.get_rect(center=area.center))
    pygame.draw.rect(surface, colour, place.inflate(4, 4), 2)


@dataclass(frozen=True)
class Line:
    """One line of a trace.

    Attributes:
        name: Beside its last value; empty if it needs none.
        values: Oldest first; NaN where there is none.
        colour: Of line and words.
        stairs: Whether each value held throughout its step.
    """

    name: str
    values: Float[np.ndarray, " n"]
    colour: Colour
    stairs: bool = False


@dataclass(frozen=True)
class Trace:
    """Lines over time.

    Attributes:
        title: What is traced, with its unit.
        lines: What is drawn, of at most ``steps`` values.
        low: Value at the foot; lines are clipped to it.
        high: Value at the top.
        marks: Values drawn as horizontal lines, and labelled.
        steps: How many steps the panel is wide.
        seconds: How long they take.
    """

    title: str
    lines: Sequence[Line]
    low: float
    high: float
    marks: Sequence[float]
    steps: int
    seconds: float


def paint_trace(pen: Pen, surface: pygame.Surface, trace: Trace) -> None:
    """Axes, lines that end in the present at the right, and the latest values."""
    surface.fill(PANEL)
    width, height = surface.get_size()
    title = pen.write(surface, trace.title, (_EDGE, 7), WORDS, 13, most=width - 2 * _EDGE)
    marks = [_number(mark, "g") for mark in trace.marks]
    left = _EDGE + 6 + max(pen.width(text, 12) for text in marks)
    top = title.bottom + 8
    plot = pygame.Rect(left, top, width - left - _EDGE, height - top - pen.pixels(24))
    if plot.height < 12 or plot.width < 20:
        return
    for y, text in zip(_heights(np.array(trace.marks), trace, plot).tolist(), marks, strict=True):
        pygame.draw.line(surface, LINE, (plot.left, y), (plot.right, y))
        pen.write(surface, text, (plot.left - 5, round(y)), PALE, 12, "midright")
    ago = f"{_number(-trace.seconds, 'g')} s"
    pen.write(surface, ago, (plot.left, height - 5), PALE, 12, "bottomleft")
    pen.write(surface, "now", (plot.right, height - 5), PALE, 12, "bottomright")
    right = width - _EDGE
    for line in trace.lines:
        _paint_line(surface, line, trace, plot)
    for line in reversed(trace.lines):  # from right to left, as they are written
        latest = line.values[-1] if len(line.values) else np.nan
        text = f"{line.name} {_number(latest, '.2f')}".strip()
        if np.isfinite(latest) and pen.width(text, 13) + 8 <= right - title.right:
            box = pen.write(surface, text, (right, 7), line.colour, 13, "topright")
            right = box.left - 12


def _paint_line(surface: pygame.Surface, line: Line, trace: Trace, plot: pygame.Rect) -> None:
    step, n = plot.width / trace.steps, len(line.values)
    known = np.isfinite(line.values)
    x = plot.right - step * (n - 1 - np.arange(n))
    y = _heights(line.values, trace, plot)
    if line.stairs:
        # Each value held from the step before to its own.
        x = np.stack([np.maximum(x - step, plot.left), x], 1).ravel()
        y, known = y.repeat(2), known.repeat(2)
    polyline(surface, line.colour, np.stack([x, y], 1)[known].tolist())


def _heights(values: np.ndarray, trace: Trace, plot: pygame.Rect) -> np.ndarray:
    fraction = np.clip((values - trace.low) / (trace.high - trace.low), 0, 1)
    return plot.bottom - fraction * plot.height


def _number(value: float, how: str) -> str:
    # "z" leaves a zero no sign.
    return f"{value:z{how}}".replace("-", "−")  # noqa: RUF001 (a minus)


def paint_words(pen: Pen, surface: pygame.Surface, left: Words, right: Words) -> None:
    """One row of words; those at the left give way to those at the right."""
    surface.fill(PAGE)
    width, height = surface.get_size()
    middle, end = height // 2, width - _EDGE
    for text, colour in right:
        box = pen.write(surface, text, (end, middle), colour, 13, "midright")
        end = box.left - 16
    start = _EDGE
    for text, colour in left:
        if end - start < 30:
            return
        box = pen.write(surface, text, (start, middle), colour, 14, "midleft", most=end - start)
        start = box.right + 16


def paint_help(pen: Pen, surface: pygame.Surface, rows: Sequence[tuple[str, str]]) -> None:
    """Keys and what they do, in the largest letters that fit."""
    surface.fill(PANEL)
    pygame.draw.rect(surface, LINE, surface.get_rect(), 1)
    width, height = surface.get_size()
    sizes = [(size, *_table(pen, rows, size)) for size in range(16, 8, -1)]
    fits = [s for s in sizes if s[1] + s[2] + 48 <= width and s[3] * len(rows) + 24 <= height]
    size, keys, does, least = (fits or sizes[-1:])[0]
    line = min(least + pen.pixels(6), (height - 24) // len(rows))
    top = (height - line * len(rows)) // 2
    left = max((width - keys - does - 20) // 2, 6)
    for i, (key, text) in enumerate(rows):
        y = top + i * line + line // 2
        pen.write(surface, key, (left + keys, y), BAD, size, "midright")
        pen.write(surface, text, (left + keys + 20, y), WORDS, size, "midleft")


def _table(pen: Pen, rows: Sequence[tuple[str, str]], size: int) -> tuple[int, int, int]:
    """Widths of the two columns, and the height of a row, in letters of a size."""
    keys, does = (max(pen.width(row[column], size) for row in rows) for column in (0, 1))
    return keys, does, pen.height(size)
