"""Films: panels side by side, written as GIF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from worldmodel.errors import ShapeError, SpecError
from worldmodel.files import write_whole
from worldmodel.models.base import StateSpaceModel
from worldmodel.types import Batch

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
    film = np.asarray(frames)
    if film.ndim != 4 or film.shape[-1] != 3 or film.dtype != np.uint8 or not len(film):
        raise ShapeError(
            f"frames must be (T, height, width, 3) uint8, T >= 1; got {film.shape} {film.dtype}"
        )
    data = b""
    for colours in (256, 128, 64, 32, 16):
        data = _encode(film, fps, colours)
        if len(data) <= limit:
            break
    return write_whole(path, data)


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


@torch.no_grad()
def dream_film(
    model: StateSpaceModel,
    batch: Batch,
    path: str | Path,
    fps: float = 10.0,
    filtered: int = 15,
    scale: int = 10,
    steps: int = 85,
) -> Path:
    """Film real, filtered and imagined frames of the same episodes, one episode a row.

    The imagined column is filtered for the first frames and from then on runs open loop, without
    process noise, under the actions that were recorded.

    Args:
        model: A model of pixels.
        batch: Episodes, of which up to three are shown.
        path: GIF to write.
        fps: Frames per second of the film, and of the environment if time is to be real.
        filtered: Frames after which the imagined column no longer looks; fewer than there are.
        scale: Side of the square that one of the model's pixels becomes.
        steps: Steps to show at most.

    Raises:
        SpecError: The model does not observe pixels.
        ShapeError: There are not more than ``filtered`` frames to show.
    """
    if not model.observation_spec.pixels:
        raise SpecError(f"a film needs a model of pixels, this one has {model.observation_spec}")
    batch = batch[:3].window(0, min(steps, batch.steps)).to(model.device)
    if batch.steps + 1 <= filtered:
        raise ShapeError(
            f"the film must be longer than {filtered} frames, got {batch.steps + 1} of them"
        )
    beliefs = model.filter_beliefs(batch.observations, batch.actions, prefix=1).mean
    dream = model.rollout(beliefs[:, filtered - 1], batch.actions[:, filtered - 1 :])[:, 1:]
    imagined = torch.cat([beliefs[:, :filtered], dream], 1)
    panels = {
        "real": batch.observations.cpu().numpy(),
        "filtered": model.decode(beliefs.cpu().numpy()),
        f"imagined from {filtered / fps:.1f} s": model.decode(imagined.cpu().numpy()),
    }
    captions = [
        "imagined: still filtering" if t < filtered else "imagined: open loop"
        for t in range(batch.steps + 1)
    ]
    rows = {text: _rows(film) for text, film in panels.items()}
    return write_gif(side_by_side(rows, scale, captions, fps), path, fps)


def _encode(film: np.ndarray, fps: float, colours: int) -> bytes:
    sample = film[:: max(1, len(film) // 16)]
    strip = Image.fromarray(sample.reshape(-1, *film.shape[2:]))
    palette = strip.quantize(colours, method=Image.Quantize.MEDIANCUT)
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


def _rows(film: np.ndarray) -> np.ndarray:
    """Episodes (B, T, h, w, c) below one another, a dark line between them: (T, B h, w, 3)."""
    colour = film.repeat(3 // film.shape[-1], -1)
    line = np.broadcast_to(
        np.array(BACKGROUND, np.uint8), (*colour.shape[1:2], 1, *colour.shape[3:])
    )
    parts = [part for episode in colour for part in (line, episode)]
    return np.concatenate(parts[1:], 1)


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
