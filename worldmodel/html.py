"""Tables and pictures as HTML that needs nothing but itself: for notebooks and reports.

Pictures and films are WebP in data URIs: losslessly a quarter of the same film as GIF.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

_SIDE = 64  # pixels that a frame of a strip is enlarged to, roughly: factors are whole numbers
_LINE = 160  # grey of the line between frames


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of plain text; all columns but the first are set flush right."""

    def row(cells: Sequence[str], tag: str) -> str:
        left, *right = (escape(cell) for cell in cells)
        others = "".join(f'<{tag} style="text-align: right">{cell}</{tag}>' for cell in right)
        return f'<tr><{tag} style="text-align: left">{left}</{tag}>{others}</tr>'

    lines = [row(head, "th")] if any(head) else []
    return "<table>\n" + "\n".join(lines + [row(r, "td") for r in rows]) + "\n</table>"


def image(picture: Image.Image, text: str, width: int, quality: int = 80) -> str:
    """A picture that is shown ``width`` pixels wide.

    Args:
        picture: Of any mode that makes RGB.
        text: For whoever cannot see it.
        width: On the page, pixels.
        quality: Of WebP, up to 99; 100 keeps it without loss.
    """
    buffer = BytesIO()
    picture.convert("RGB").save(buffer, "WEBP", quality=quality, lossless=quality == 100)
    return _tag(buffer.getvalue(), text, width)


def film(
    frames: UInt8[np.ndarray, "time height width 3"], fps: float, text: str, limit: int
) -> str:
    """An endless film: without loss, or with as much as brings it below ``limit`` bytes."""
    webp = _film(frames, fps, lossless=True, quality=40)
    for quality in (75, 50, 25, 10):
        if len(webp) <= limit:
            break
        webp = _film(frames, fps, quality=quality)
    return _tag(webp, text, frames.shape[2])


def strip(frames: np.ndarray, text: str, columns: int = 12) -> str:
    """Episodes (B, T, height, width, 1 or 3) ``uint8`` in rows, at most ``columns`` frames each."""
    times = np.unique(np.linspace(0, frames.shape[1] - 1, columns).round().astype(int))
    picture = tiles(frames[:, times])
    return image(Image.fromarray(picture), text, picture.shape[1], quality=100)


def tiles(frames: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    """Frames (rows, columns, height, width, 1 or 3) ``uint8`` in a grid, enlarged without blur."""
    scale = max(1, _SIDE // frames.shape[2])
    large = frames.repeat(scale, 2).repeat(scale, 3).repeat(3 // frames.shape[-1], -1)
    lined = np.pad(large, ((0, 0), (0, 0), (0, 2), (0, 2), (0, 0)), constant_values=np.uint8(_LINE))
    rows, columns, height, width, _ = lined.shape
    laid = lined.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    return laid[:-2, :-2]


def titles(words: Sequence[str], width: int) -> str:
    """Words above columns that are ``width`` pixels wide each."""
    style = f"width: {width}px; text-align: center; font-size: 11px"
    cells = "".join(f'<span style="{style}">{escape(word)}</span>' for word in words)
    return f'<div style="display: flex">{cells}</div>'


def lines(series: Float[np.ndarray, "n time"], text: str, most: int = 20) -> str:
    """The first series over time, with their range at the left; NaN is not drawn."""
    shown = series[:most].astype(np.float64)
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    width, height, left = 360, 90, 60
    x = np.linspace(left, width - 5, series.shape[1])
    y = 10 + (height - 30) * (high - shown) / ((high - low) or 1.0)
    paths = [
        " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, row, strict=True) if np.isfinite(b))
        for row in y
    ]
    style = 'fill="none" stroke="currentColor" stroke-opacity="0.4"'
    drawn = "".join(f'<polyline {style} points="{path}"/>' for path in paths)
    marks = ((left - 5, 14, f"{high:.3g}"), (left - 5, height - 17, f"{low:.3g}"))
    marks += ((width - 5, height - 2, f"{escape(text)} over {series.shape[1]} steps"),)
    words = "".join(f'<text x="{a}" y="{b}">{word}</text>' for a, b, word in marks)
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg {size} font-size="11" text-anchor="end" fill="currentColor">{drawn}{words}</svg>'


def _film(frames: np.ndarray, fps: float, **kept: Any) -> bytes:
    first, *others = (Image.fromarray(frame) for frame in frames)
    buffer = BytesIO()
    times = dict(duration=round(1000 / fps), loop=0)
    first.save(buffer, "WEBP", save_all=True, append_images=others, method=2, **times, **kept)
    return buffer.getvalue()


def _tag(webp: bytes, text: str, width: int) -> str:
    data = base64.b64encode(webp).decode()
    source = f"data:image/webp;base64,{data}"
    return f'<img width="{width}" alt="{escape(text)}" src="{source}">'
