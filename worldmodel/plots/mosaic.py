"""Frames in rows: takes of the same episodes below each other, time from left to right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import SubFigure

from worldmodel.plots.style import DPI, GREY, INK, SMALL, TEXT, VERMILION

# Inches.
_SIDE, _LARGEST = 0.62, 1.0  # of a frame, unless it has more pixels than that
_LEFT, _HEAD, _LINE = 1.15, 0.42, 0.2
_LETTER = 0.06  # width of one in SMALL


class Mosaic:
    """Frames (episodes, columns, height, width, 3) by title of the take.

    Args:
        takes: Pictures, all of the same shape.
        numbers: Of the frames, from 1.
        cut: After which frame a bar stands.
        cut_text: What it means.
        name: Of the stream; empty if there is but one.
        key: Colours to explain below the frames, and what they mean.

    Attributes:
        width: Inches.
        height: Likewise.
    """

    def __init__(
        self,
        takes: Mapping[str, UInt8[np.ndarray, "episodes columns height width 3"]],
        numbers: Sequence[int],
        cut: int,
        cut_text: str,
        name: str = "",
        key: tuple[ScalarMappable, str] | None = None,
    ) -> None:
        self._titles, self._frames = list(takes), np.stack(list(takes.values()), 1)
        self._numbers, self._cut, self._cut_text = numbers, cut, cut_text
        self._name, self._key = name, key
        episodes, kinds, columns, high, wide, _ = self._frames.shape
        side = float(np.sqrt(high * wide))
        scale = min(np.clip(side / DPI, _SIDE, _LARGEST) / side, _LARGEST / high)
        self._tile = wide * scale, high * scale
        # Numbers above columns and titles beside rows need their room, too.
        self._step = max(1.08 * self._tile[0], 0.34), max(1.08 * self._tile[1], 0.17)
        self._group = kinds * self._step[1] + 0.18
        self._head = _HEAD + (0.22 if name else 0.0)
        self._bottom = self._head + episodes * self._group - 0.18
        self.width = _LEFT + columns * self._step[0] + 0.1
        self.height = self._bottom + 0.12 + _LINE + (0.5 if key else 0.1)

    def draw(self, fig: SubFigure, width: float) -> None:
        """Draw into a figure of that width in inches, and of its own height."""
        axes = fig.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(self.height, 0)
        self._draw_frames(axes)
        self._draw_titles(axes)
        if self._numbers[0] <= self._cut < self._numbers[-1]:
            self._draw_cut(axes, width)
        if self._key:
            self._draw_key(fig, axes, *self._key)

    def _corner(self, episode: int, kind: int, column: int) -> tuple[float, float]:
        step_x, step_y = self._step
        return _LEFT + column * step_x, self._head + episode * self._group + kind * step_y

    def _draw_frames(self, axes: Axes) -> None:
        wide, high = self._tile
        for e, k, c in np.ndindex(self._frames.shape[:3]):
            x, y = self._corner(e, k, c)
            place = (x, x + wide, y + high, y)
            axes.imshow(self._frames[e, k, c], extent=place, interpolation="nearest", aspect="auto")

    def _draw_titles(self, axes: Axes) -> None:
        style: dict[str, Any] = dict(fontsize=SMALL, color=INK)
        if self._name:
            axes.text(0.1, 0.2, self._name, fontsize=TEXT, color=INK, weight="bold")
        above = self._head - 0.08
        axes.text(_LEFT - 0.1, above, "frame", ha="right", **style)
        for c, number in enumerate(self._numbers):
            x = self._corner(0, 0, c)[0] + self._tile[0] / 2
            axes.text(x, above, str(number), ha="center", fontsize=TEXT, color=INK)
        for e in range(len(self._frames)):
            for k, text in enumerate(self._titles):
                y = self._corner(e, k, 0)[1] + self._tile[1] / 2
                axes.text(_LEFT - 0.1, y, text, ha="right", va="center", **style)

    def _draw_cut(self, axes: Axes, width: float) -> None:
        seen = sum(number <= self._cut for number in self._numbers)
        gap = self._step[0] - self._tile[0]
        x = self._corner(0, 0, seen)[0] - gap / 2
        axes.plot(
            [x, x], [self._head - 0.04, self._bottom + 0.04], color=VERMILION, lw=2.5, zorder=3
        )
        half = len(self._cut_text) * _LETTER / 2
        x = float(np.clip(x, half + 0.05, max(width - half - 0.05, half + 0.05)))
        style: dict[str, Any] = dict(ha="center", va="top", fontsize=SMALL, color=INK)
        axes.text(x, self._bottom + 0.1, self._cut_text, **style)

    def _draw_key(self, fig: SubFigure, axes: Axes, colours: ScalarMappable, text: str) -> None:
        """What colours mean, below the frames and what the bar means."""
        width, thick = axes.get_xlim()[1], 0.12
        x, y = _LEFT + len(text) * _LETTER + 0.15, 0.24  # from the left, from below
        place = (x / width, y / self.height, 1.9 / width, thick / self.height)
        key = fig.colorbar(colours, cax=fig.add_axes(place), orientation="horizontal")
        key.outline.set_visible(False)  # type: ignore[operator] (a Spine)
        key.set_ticks([0, 0.1, 0.2, 0.3, 0.4, 0.5])
        key.ax.tick_params(labelsize=SMALL, color=GREY, labelcolor=INK, length=2)
        axes.text(_LEFT, self.height - y - thick / 2, text, va="center", fontsize=SMALL, color=INK)
