"""Where each panel goes in a window of any size."""

from __future__ import annotations

from dataclasses import dataclass

from pygame import Rect

_GAP = 8  # pixels between panels
_HEAD, _FOOT = 34, 28
_NARROW, _LOW = 520, 300  # below which there is no room for the cloud, for traces
_PLAIN = (1280, 720)  # the window, beyond which letters and margins grow with it


@dataclass(frozen=True)
class Layout:
    """Rectangles that neither overlap nor leave the window.

    Attributes:
        head: What is played, and how.
        foot: What there is to say.
        frames: The dream, then reality if it is shown.
        cloud: The latent space, if there is room.
        traces: Action, reward and distance, if there is room.
        scale: How large letters are; 1 in a window of the usual size and in smaller ones.
    """

    head: Rect
    foot: Rect
    frames: tuple[Rect, ...]
    cloud: Rect | None
    traces: tuple[Rect, ...]
    scale: float

    def inner(self, width: int, height: int) -> Rect:
        """A rectangle, at the scale, between head and foot, or all of a window that is too small.

        Words that look out half from below it could not be read.
        """
        window = self.head.union(self.foot)
        body = Rect(0, self.head.bottom, window.width, self.foot.top - self.head.bottom)
        place = Rect(0, 0, round(self.scale * width), round(self.scale * height))
        place.center = body.center
        return place if body.contains(place) else window


def lay_out(size: tuple[int, int], frames: int) -> Layout:
    """Divide a window.

    Args:
        size: Width and height in pixels.
        frames: How many pictures are shown side by side, 1 or 2.
    """
    width, height = size
    scale = max(1.0, min(width / _PLAIN[0], height / _PLAIN[1]))
    above, below = round(scale * _HEAD), round(scale * _FOOT)
    head, foot = Rect(0, 0, width, above), Rect(0, height - below, width, below)
    body = Rect(_GAP, above, max(width - 2 * _GAP, 1), max(height - above - below, 1))
    traces: tuple[Rect, ...] = ()
    if height >= _LOW:
        low = min(max(body.height * 3 // 10, 92), round(210 * scale))
        traces = _columns(Rect(body.left, body.bottom - low, body.width, low), 3)
        body.height -= low + _GAP
    cloud = None
    if width >= _NARROW:
        across = min(body.width * 37 // 100, body.height * 6 // 5)
        cloud = Rect(body.right - across, body.top, across, body.height)
        body.width -= across + _GAP
    beside = body.width >= body.height
    pictures = _columns(body, frames) if beside else _rows(body, frames)
    return Layout(head, foot, pictures, cloud, traces, scale)


def _columns(place: Rect, n: int) -> tuple[Rect, ...]:
    width = max((place.width - (n - 1) * _GAP) // n, 1)
    return tuple(
        Rect(place.left + i * (width + _GAP), place.top, width, place.height) for i in range(n)
    )


def _rows(place: Rect, n: int) -> tuple[Rect, ...]:
    height = max((place.height - (n - 1) * _GAP) // n, 1)
    return tuple(
        Rect(place.left, place.top + i * (height + _GAP), place.width, height) for i in range(n)
    )
