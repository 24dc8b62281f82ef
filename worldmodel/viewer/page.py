"""One HTML page that carries all it shows, and that no browser lets near a network.

Pictures and films are WebP in data URIs: losslessly a quarter of the same film as GIF.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from worldmodel.evaluation.style import BLUE, GREY, INK, PALE
from worldmodel.files import write_whole

_QUALITY = 80  # of figures
_FILM_LIMIT = 600_000  # bytes

# What is not allowed here cannot happen, whatever a library would like to load.
_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'"
)
_STYLE = f"""
body {{ margin: 2rem auto; max-width: 1080px; padding: 0 1rem; color: {INK}; background: white;
  font: 16px/1.5 system-ui, sans-serif; }}
h1 {{ margin-bottom: 0; }} h2 {{ margin-top: 2.5rem; border-bottom: 1px solid {PALE}; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: 0.2rem 1.2rem 0.2rem 0; text-align: left; border-bottom: 1px solid {PALE}; }}
.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
figure {{ margin: 1rem 0 2rem; }} img {{ max-width: 100%; }}
.film img {{ image-rendering: pixelated; }}
figcaption, .note {{ color: {GREY}; filter: brightness(0.75); }}
summary {{ cursor: pointer; color: {BLUE}; }} pre {{ font-size: 13px; overflow-x: auto; }}
"""


def write_page(path: str | Path, title: str, parts: Sequence[str]) -> Path:
    """Write the page, whole or not at all.

    Args:
        path: File to write.
        title: Of the page.
        parts: HTML, as from the functions below.
    """
    text = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        # Without an icon of its own a browser asks the server for one.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )
    return write_whole(path, text.encode())


def section(title: str, *parts: str) -> str:
    """A heading and what stands below it."""
    return f"<h2>{escape(title)}</h2>\n" + "\n".join(parts)


def paragraph(text: str) -> str:
    """Plain text."""
    return f'<p class="note">{escape(text)}</p>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of plain text; all columns but the first are numbers, set flush right."""

    def row(cells: Sequence[str], tag: str) -> str:
        first, *others = (escape(cell) for cell in cells)
        numbers = "".join(f'<{tag} class="number">{cell}</{tag}>' for cell in others)
        return f"<tr><{tag}>{first}</{tag}>{numbers}</tr>"

    lines = [row(head, "th")] if any(head) else []
    return "<table>\n" + "\n".join(lines + [row(r, "td") for r in rows]) + "\n</table>"


def details(summary: str, text: str) -> str:
    """Plain text as it is, folded away."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def picture(path: str | Path, caption: str) -> str:
    """A figure from a file of any format that Pillow reads."""
    buffer = BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, "WEBP", quality=_QUALITY)
        width = image.width
    return _figure("picture", buffer.getvalue(), caption, f'width="{round(0.75 * width)}"')


def film(
    frames: UInt8[np.ndarray, "time height width 3"],
    fps: float,
    caption: str,
    limit: int = _FILM_LIMIT,
) -> str:
    """An endless film: without loss, or with as much as brings it below ``limit`` bytes."""
    webp = _film(frames, fps, lossless=True, quality=40)
    for quality in (75, 50, 25, 10):
        if len(webp) <= limit:
            break
        webp = _film(frames, fps, quality=quality)
    return _figure("film", webp, caption, f'width="{frames.shape[2]}"')


def _film(frames: np.ndarray, fps: float, **kept: Any) -> bytes:
    first, *others = (Image.fromarray(frame) for frame in frames)
    buffer = BytesIO()
    times = dict(duration=round(1000 / fps), loop=0)
    first.save(buffer, "WEBP", save_all=True, append_images=others, method=2, **times, **kept)
    return buffer.getvalue()


def _figure(kind: str, webp: bytes, caption: str, attributes: str) -> str:
    data = base64.b64encode(webp).decode()
    text = escape(caption)
    return (
        f'<figure class="{kind}"><img {attributes} alt="{text}" '
        f'src="data:image/webp;base64,{data}"><figcaption>{text}</figcaption></figure>'
    )
