"""Films: panels side by side, written as GIF or MP4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import UInt8
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from worldmodel.errors import ShapeError, require_extra
from worldmodel.files import write_whole

BACKGROUND, TEXT, FAINT, ACCENT = (24, 27, 34), (232, 235, 240), (120, 128, 142), (240, 165, 30)
_MARGIN, _TEXT_SIZE = 12, 15  # pixels of the finished film
_LIMIT = 1_000_000  # bytes that a page loads without complaint


def write_gif(
    frames: Sequence[np.ndarray] | np.ndarray,
    path: str | Path,
    fps: float = 10.0,
    limit: int = _LIMIT,
) -> Path:
    """Write an endless GIF, whole or not at all.

    One palette is made from the whole film, so that nothing flickers. It has 256 colours, or as
    many fewer as bring the file under the limit, down to 16. Equal frames that follow one another
    are stored once, for the time of all.

    Args:
        frames: RGB, (T, height, width, 3) ``uint8``.
        path: File to write.
        fps: Frames per second; GIF rounds a frame's time to 1/100 s.
        limit: Bytes to stay under if 16 colours allow it.

    Raises:
        ShapeError: There is no frame, or one is not (height, width, 3) ``uint8``.
    """
    film, data = _checked(frames), b""
    for colours in (256, 128, 64, 32, 16):
        data = _encode(film, fps, colours)
        if len(data) <= limit:
            break
    return write_whole(path, data)


def write_mp4(
    frames: Sequence[np.ndarray] | np.ndarray, path: str | Path, fps: float = 10.0
) -> Path:
    """Write H.264 in an MP4, whole or not at all; needs the extra ``mp4``.

    Args:
        frames: RGB, (T, height, width, 3) ``uint8``. An odd side gains a row or column of the
            page's colour, since H.264 knows even ones only.
        path: File to write.
        fps: Frames per second.

    Raises:
        ShapeError: There is no frame, or one is not (height, width, 3) ``uint8``.
        MissingExtraError: imageio-ffmpeg, which brings the encoder, is not installed.
        OSError: There is no room for it, or for the encoder's own file, which is a temporary one.
    """
    require_extra("imageio_ffmpeg", "mp4")
    from imageio_ffmpeg import write_frames

    film = _checked(frames)
    height, width = film.shape[1:3]
    even = np.full((len(film), height + height % 2, width + width % 2, 3), BACKGROUND, np.uint8)
    even[:, :height, :width] = film
    with TemporaryDirectory() as folder:
        file = Path(folder) / "film.mp4"
        size = (even.shape[2], even.shape[1])
        writer = write_frames(
            file,
            size,
            fps=fps,  # type: ignore[arg-type] (written out with two decimals, whatever it is)
            macro_block_size=2,
            quality=8,
            ffmpeg_log_level="quiet",
        )
        writer.send(None)
        for frame in even:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        _require_complete(file, len(even))
        return write_whole(path, file.read_bytes())


def _require_complete(file: Path, frames: int) -> None:
    """Raise unless the encoder, which fails silently, has written all frames."""
    from imageio_ffmpeg import count_frames_and_secs

    try:
        written, _ = count_frames_and_secs(file)
    except RuntimeError:
        written = 0
    if written != frames:
        raise OSError(
            f"the encoder wrote {written} of {frames} frames to {file}; is its disk full?"
        )


def side_by_side(
    panels: Mapping[str, np.ndarray],
    scale: int = 1,
    captions: Sequence[str] | None = None,
    fps: float = 10.0,
) -> UInt8[np.ndarray, "time film_height film_width 3"]:
    """Label panels, put them in a row and write the time below.

    Args:
        panels: Grey or RGB frames (T, height, width, 1 or 3) ``uint8`` by label; sizes may differ.
        scale: Whole factor of enlargement; each pixel becomes a square.
        captions: What to write below each frame beside its time.
        fps: Frames per second, from which the time is reckoned.

    Raises:
        ShapeError: There is no panel, a panel is not grey or RGB ``uint8`` frames, or lengths
            differ; the message names the shapes.
    """
    films = {text: _enlarge(text, film, scale) for text, film in panels.items()}
    length = len(next(iter(films.values()))) if films else 0
    if any(len(film) != length for film in films.values()) or not length:
        shapes = {text: film.shape for text, film in panels.items()}
        raise ShapeError(f"panels must have the same number of frames, got {shapes}")
    if captions is not None and len(captions) != length:
        raise ShapeError(f"{length} frames need as many captions, got {len(captions)}")
    page, places = _page(films)
    out = np.repeat(page[None], length, 0)
    for (x, y), film in zip(places, films.values(), strict=True):
        out[:, y : y + film.shape[1], x : x + film.shape[2]] = film
    for t in range(length):
        out[t] = _footer(out[t], t, length, fps, captions[t] if captions else "")
    return out


def _checked(frames: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    film = np.asarray(frames)
    if film.ndim != 4 or film.shape[-1] != 3 or film.dtype != np.uint8 or not len(film):
        raise ShapeError(
            f"frames must be (T, height, width, 3) uint8, T >= 1; got {film.shape} {film.dtype}"
        )
    return film


def _encode(film: np.ndarray, fps: float, colours: int) -> bytes:
    sample = film[:: max(1, len(film) // 16)]
    strip = Image.fromarray(sample.reshape(-1, *film.shape[2:]))
    # Black is most of many a film: the root of its count leaves room for the rarer colours.
    counts, present = zip(*(strip.getcolors(1 << 24) or ()), strict=True)
    sample = np.repeat(np.array(present, np.uint8), np.sqrt(counts).astype(int), 0)
    strip = Image.fromarray(sample[None])
    # The page's own colours are too rare to survive the cut.
    own = (*BACKGROUND, *TEXT, *FAINT, *ACCENT)
    cut = strip.quantize(colours - len(own) // 3, method=Image.Quantize.MEDIANCUT)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(cut.getpalette() or ()), *own])
    no_dither = Image.Dither.NONE
    images = [Image.fromarray(frame).quantize(palette=palette, dither=no_dither) for frame in film]
    buffer = BytesIO()
    images[0].save(
        buffer,
        "gif",
        save_all=True,
        append_images=images[1:],
        duration=round(1000 / fps),
        loop=0,
        optimize=True,
    )
    return buffer.getvalue()


def _enlarge(text: str, film: np.ndarray, scale: int) -> np.ndarray:
    if film.ndim != 4 or film.shape[-1] not in (1, 3) or film.dtype != np.uint8:
        raise ShapeError(
            f"panel {text!r} must be (T, height, width, 1 or 3) uint8, "
            f"got {film.shape} {film.dtype}"
        )
    return film.repeat(scale, 1).repeat(scale, 2).repeat(3 // film.shape[-1], 3)


def _page(films: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The dark page with its labels, and the upper left corner of each panel."""
    font = _font(_TEXT_SIZE)
    head = _MARGIN + _TEXT_SIZE + 10
    labels = max(font.getlength(text) for text in films)
    cell = max(int(np.ceil(labels)), *(film.shape[2] for film in films.values()))
    height = head + max(film.shape[1] for film in films.values()) + _TEXT_SIZE + 3 * _MARGIN
    width = len(films) * (cell + _MARGIN) + _MARGIN
    page = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(page)
    places, x = [], _MARGIN
    for text, film in films.items():
        draw.text((x + cell / 2, _MARGIN), text, TEXT, font, anchor="ma")
        places.append((x + (cell - film.shape[2]) // 2, head))
        x += cell + _MARGIN
    return np.asarray(page), places


def _footer(frame: np.ndarray, t: int, length: int, fps: float, caption: str) -> np.ndarray:
    """Time, caption, and a line that fills as the film runs."""
    page = Image.fromarray(frame)
    draw = ImageDraw.Draw(page)
    width, height = page.size
    y = height - _MARGIN
    draw.text((_MARGIN, y), f"t = {t / fps:4.1f} s", TEXT, _font(_TEXT_SIZE), anchor="ld")
    draw.text((width - _MARGIN, y), caption, ACCENT, _font(_TEXT_SIZE), anchor="rd")
    full = width - 2 * _MARGIN
    done = _MARGIN + full * (t + 1) // length
    draw.rectangle((_MARGIN, height - 5, width - _MARGIN, height - 4), FAINT)
    draw.rectangle((_MARGIN, height - 5, done, height - 4), TEXT)
    return np.asarray(page)


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Matplotlib carries this font with it, so that a film looks the same on every machine.
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
