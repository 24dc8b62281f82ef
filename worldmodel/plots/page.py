"""One HTML page that carries all it shows, and that no browser lets near a network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from worldmodel import html
from worldmodel.data.readers.pictures import DECODED
from worldmodel.errors import FileFormatError
from worldmodel.files import write_whole
from worldmodel.plots.style import BLUE, GREY, INK, PALE

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
th, td {{ padding: 0.2rem 1.2rem 0.2rem 0; border-bottom: 1px solid {PALE};
  font-variant-numeric: tabular-nums; }}
figure {{ margin: 1rem 0 2rem; }} img {{ max-width: 100%; }}
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


def details(summary: str, text: str) -> str:
    """Plain text as it is, folded away."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def picture(path: str | Path, caption: str) -> str:
    """A figure from a file: PNG, JPEG, BMP, TIFF or WebP.

    Raises:
        FileFormatError: It is truncated, corrupt or no picture.
    """
    try:
        with Image.open(path, formats=DECODED) as image:
            return _figure(html.image(image, caption, round(0.75 * image.width)), caption)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise FileFormatError(f"{path} is truncated, corrupt or no picture: {error}") from error


def film(frames: UInt8[np.ndarray, "time height width 3"], fps: float, caption: str) -> str:
    """An endless film."""
    return _figure(html.film(frames, fps, caption, _FILM_LIMIT), caption)


def _figure(image: str, caption: str) -> str:
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
