"""What a session looks like: all panels on one surface."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import pygame

from worldmodel.play.cloud import Cloud
from worldmodel.play.layout import Layout, lay_out
from worldmodel.play.panels import Trace, Words, paint_frame, paint_help, paint_trace, paint_words
from worldmodel.play.pen import (
    BAD,
    DREAM,
    GOOD,
    PAGE,
    PALE,
    REAL,
    WORDS,
    YELLOW,
    Colour,
    Panel,
    Pen,
)
from worldmodel.play.session import MODES, Session
from worldmodel.play.traces import TRACES
from worldmodel.world.artist import Artist

_WIDE = 620  # pixels, from which on there is room for how fast it runs
_HELP = (760, 560)  # pixels at most

_Row = tuple[Words, Words]


@dataclass(frozen=True)
class Status:
    """What the window says beside the session.

    Attributes:
        message: What the last key did.
        paused: Whether time stands still.
        filming: Seconds of the film that is being recorded, or None.
        fps: Frames drawn per second.
        help: Whether the keys are shown.
    """

    message: str = ""
    paused: bool = False
    filming: float | None = None
    fps: int = 0
    help: bool = False


class _Shown(NamedTuple):
    """A panel's name, and arguments of ``Panel.show``."""

    name: str
    place: pygame.Rect
    depends: Hashable
    paint: Callable[[pygame.Surface], None]


class Screen:
    """Panels of one session.

    Args:
        session: What is played.
        name: Of the run.
        interval: Seconds per step.
        keys: Keys and what they do, for the help.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        interval: float,
        keys: Sequence[tuple[str, str]],
    ) -> None:
        self.pen = Pen()
        self.artist = Artist(session.world, session.known.latents)
        self.cloud = Cloud(self.pen, session.known.latents, session.known.variables)
        self._session, self._name, self._interval, self._keys = session, name, interval, keys
        self._panels = defaultdict[str, Panel](Panel)
        self._standing: object = None

    def layout(self, size: tuple[int, int]) -> Layout:
        """Where the panels are in a window of a size."""
        return lay_out(size, 1 if self._session.mode == "dream" else 2)

    def forget(self) -> None:
        """Copy everything in the next frame, since the window has lost what was on it."""
        self._standing = None

    def draw(self, surface: pygame.Surface, status: Status) -> list[pygame.Rect]:
        """Draw what has changed.

        Returns:
            The parts of the surface that are new.
        """
        layout = self.layout(surface.get_size())
        self.pen.scale = layout.scale
        before, self._standing = self._standing, (surface, layout, status.help)
        # What lies below the help is not worth cutting out of it.
        copy = status.help or self._standing != before
        if copy:
            surface.fill(PAGE)
        changed = [
            it.place
            for it in self._contents(layout, status)
            if self._panels[it.name].show(surface, it.place, it.depends, it.paint, copy)
        ]
        return [surface.get_rect()] if copy else changed

    def _contents(self, layout: Layout, status: Status) -> Iterator[_Shown]:
        """All that is shown, from the lowest to the highest."""
        session = self._session
        yield _Shown("dream", layout.frames[0], session.revision, self._paint_dream)
        if len(layout.frames) == 2:
            yield _Shown("reality", layout.frames[1], session.revision, self._paint_reality)
        if layout.cloud is not None:
            seen = (session.revision, self.cloud.seen_from)
            yield _Shown("cloud", layout.cloud, seen, self._paint_cloud)
        if layout.traces:
            for place, trace in zip(layout.traces, TRACES, strict=True):
                paint = partial(self._paint_trace, trace)
                yield _Shown(trace.__name__, place, session.revision, paint)
        head, foot = self._words(status, layout.head.width >= _WIDE)
        yield _Shown("head", layout.head, head, partial(self._paint_words, head))
        yield _Shown("foot", layout.foot, foot, partial(self._paint_words, foot))
        if status.help:
            yield _Shown("help", layout.inner(*_HELP), True, self._paint_help)

    def _paint_dream(self, surface: pygame.Surface) -> None:
        session, colour = self._session, DREAM
        title = "what the filter believes" if session.mode == "filter" else "dream"
        if session.distance > 1:
            note, colour = "outside the data", BAD
        elif session.looking:
            note = "closed loop" if session.mode == "filter" else "still closed loop"
        else:
            note = f"open loop for {session.blind * self._interval:.1f} s"
        paint_frame(self.pen, surface, self.artist(session.frame), title, note, colour)

    def _paint_reality(self, surface: pygame.Surface) -> None:
        assert self._session.real_frame is not None, "modes with reality have seen it"
        picture = self.artist(self._session.real_frame)
        paint_frame(self.pen, surface, picture, "reality", "", REAL)

    def _paint_cloud(self, surface: pygame.Surface) -> None:
        session = self._session
        moments = list(session.history)
        real = [] if session.mode == "dream" else [m.real_path for m in moments]
        trails = [(REAL, real), (DREAM, [m.path for m in moments])]
        self.cloud.paint(surface, session.state, trails, session.chosen)

    def _paint_trace(self, trace: Callable[..., Trace], surface: pygame.Surface) -> None:
        paint_trace(self.pen, surface, trace(self._session, self._interval))

    def _paint_words(self, row: _Row, surface: pygame.Surface) -> None:
        paint_words(self.pen, surface, *row)

    def _paint_help(self, surface: pygame.Surface) -> None:
        paint_help(self.pen, surface, self._keys)

    def _words(self, status: Status, wide: bool) -> tuple[_Row, _Row]:
        """What stands in head and foot: words at the left, words at the right."""
        session = self._session
        left: list[tuple[str, Colour]] = [
            (self._name, WORDS),
            (MODES[session.mode], DREAM),
            ("the agent acts", GOOD) if session.agent_acts else ("you act", PALE),
            (f"noise {'on' if session.noise else 'off'}", PALE),
        ]
        if status.paused:
            left.append(("paused", YELLOW))
        if status.filming is not None:
            left.append((f"● film {status.filming:.1f} s", BAD))
        rates = f"{1 / self._interval:.3g} steps/s   {status.fps} frames/s"
        said = (
            (f"{session.ended}: R begins anew", BAD) if session.ended else (status.message, WORDS)
        )
        head = tuple(left), ((rates, PALE),) if wide else ()
        return head, ((said,), (("H shows the keys", PALE),))
