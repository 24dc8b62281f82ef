"""Words and lines on a pygame surface, in one look."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import pygame
from matplotlib import get_data_path

from worldmodel.plots.film import ACCENT, BACKGROUND, FAINT, TEXT

Colour = tuple[int, int, int]

# Okabe and Ito's palette, of which the bright ones stand out from a dark page.
DREAM: Colour = ACCENT
REAL: Colour = (86, 180, 233)
GOOD: Colour = (0, 158, 115)
BAD: Colour = (230, 100, 40)
PURPLE: Colour = (204, 121, 167)
YELLOW: Colour = (240, 228, 66)
# Of actions, which are neither dreamt nor real.
SERIES = (PURPLE, YELLOW, GOOD, BAD, TEXT, FAINT)
PANEL: Colour = (33, 37, 46)
LINE: Colour = (62, 68, 80)
PAGE: Colour = BACKGROUND
WORDS: Colour = TEXT
PALE: Colour = FAINT

_KEPT = 512  # rendered texts


class Pen:
    """Writes text, and keeps what it has rendered, since most of it is written again.

    Lives between ``pygame.font.init`` and ``pygame.font.quit``.

    Attributes:
        scale: Of all sizes; what is written does not know how large the window is.
    """

    def __init__(self) -> None:
        self.scale = 1.0
        # Matplotlib carries this font with it, so that windows and films look the same everywhere.
        self._file = str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
        self._fonts: dict[int, pygame.font.Font] = {}
        self._texts: OrderedDict[Hashable, pygame.Surface] = OrderedDict()

    def write(
        self,
        surface: pygame.Surface,
        text: str,
        place: tuple[int, int],
        colour: Colour = WORDS,
        size: int = 14,
        anchor: str = "topleft",
        most: int | None = None,
    ) -> pygame.Rect:
        """Write one line.

        Args:
            surface: To write on.
            text: What to write.
            place: Where its anchor goes.
            colour: Of the letters.
            size: Of the letters, in pixels.
            anchor: Name of the point of the text's rectangle that goes there.
            most: Pixels that it may be wide; what does not fit is replaced by an ellipsis.

        Returns:
            Where it stands.
        """
        image = self._image(self.fit(text, size, most), size, colour)
        where: Any = {anchor: place}
        return surface.blit(image, image.get_rect(**where))

    def width(self, text: str, size: int = 14) -> int:
        """Pixels that a line is wide."""
        return self._font(size).size(text)[0]

    def fit(self, text: str, size: int, most: int | None) -> str:
        """The text, or as much of its beginning as fits."""
        if most is None or self.width(text, size) <= most:
            return text
        while text and self.width(text + "…", size) > most:
            text = text[:-1]
        return text.rstrip() + "…" if text else ""

    def pixels(self, length: int) -> int:
        """A length at the present scale."""
        return round(self.scale * length)

    def height(self, size: int = 14) -> int:
        """Pixels from one line to the next."""
        return self._font(size).get_linesize()

    def _font(self, size: int) -> pygame.font.Font:
        size = self.pixels(size)
        if size not in self._fonts:
            self._fonts[size] = pygame.font.Font(self._file, size)
        return self._fonts[size]

    def _image(self, text: str, size: int, colour: Colour) -> pygame.Surface:
        key = (text, self.pixels(size), colour)
        if key not in self._texts:
            self._texts[key] = self._font(size).render(text, True, colour)
            if len(self._texts) > _KEPT:
                self._texts.popitem(last=False)
        self._texts.move_to_end(key)
        return self._texts[key]


def polyline(
    surface: pygame.Surface, colour: Colour, points: Sequence[Sequence[float]], width: int = 2
) -> None:
    """A line through points; fewer than two draw nothing."""
    if len(points) > 1:
        pygame.draw.lines(surface, colour, False, points, width)
        # Lines wider than a pixel are not smoothed, so a smooth one is laid over them.
        pygame.draw.aalines(surface, colour, False, points)


class Panel:
    """A part of the window that is painted again only when what it shows has changed."""

    def __init__(self) -> None:
        self._surface: pygame.Surface | None = None
        self._shown: Hashable = None

    def show(
        self,
        screen: pygame.Surface,
        place: pygame.Rect,
        shown: Hashable,
        paint: Callable[[pygame.Surface], None],
        copy: bool = False,
    ) -> bool:
        """Put the panel on the screen, unless it is there already.

        Args:
            screen: To put it on.
            place: Where.
            shown: Stands for all that is painted: as long as it is equal nothing is.
            paint: Paints all of a surface of the place's size.
            copy: Whether the screen has lost what was on it.

        Returns:
            Whether the screen was changed.
        """
        fresh = self._surface is None or self._surface.get_size() != place.size
        if fresh:
            self._surface = pygame.Surface(place.size).convert(screen)
        assert self._surface is not None
        if fresh or shown != self._shown:
            self._shown = shown
            paint(self._surface)
        elif not copy:
            return False
        screen.blit(self._surface, place)
        return True
