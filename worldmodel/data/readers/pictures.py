"""Pictures and videos as arrays."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped, UInt8
from PIL import Image, UnidentifiedImageError

from worldmodel.data.readers.recording import require_moderate
from worldmodel.errors import FileFormatError, require_extra

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".mkv", ".avi", ".mov", ".webm")
# Else what a file holds decides, whatever its name: PostScript would be run, a playlist followed.
DECODED = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_CONTAINED = {"format_whitelist": "mov,matroska,webm,avi", "protocol_whitelist": "file"}
Size = tuple[int, int]


def resize(frame: Shaped[np.ndarray, "height width *channel"], size: Size | None) -> np.ndarray:
    """A picture scaled to (height, width); every new pixel is the mean of the area it covers."""
    if size is None or frame.shape[:2] == size:
        return frame
    planes = frame.reshape(*frame.shape[:2], -1)
    kind = np.uint8 if frame.dtype == np.uint8 else np.float32
    scaled = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(planes[..., channel], kind)).resize(
                (size[1], size[0]), Image.Resampling.BOX
            )
        )
        for channel in range(planes.shape[-1])
    ]
    stacked = np.stack(scaled, -1)
    stacked = np.rint(stacked) if frame.dtype.kind == "u" else stacked
    return stacked.astype(frame.dtype, copy=False).reshape(*size, *frame.shape[2:])


def resize_all(frames: np.ndarray, size: Size | None) -> np.ndarray:
    """Pictures (T, height, width, *channel), each scaled as by ``resize``."""
    if size is None or frames.shape[1:3] == size:
        return frames
    scaled = np.empty((len(frames), *size, *frames.shape[3:]), frames.dtype)
    for i, frame in enumerate(frames):
        scaled[i] = resize(frame, size)
    return scaled


def read_picture(file: Path | bytes, what: str) -> Shaped[np.ndarray, "height width *channel"]:
    """A picture as it is: grey (height, width), or with 3 or 4 channels.

    Returns:
        uint8, or uint16 where it is grey of 16 bits, as depth is.

    Raises:
        FileFormatError: It is truncated, no picture, larger than a picture may be, or has other
            than 8 bits a channel or 16 of grey; begins with ``what``.
    """
    try:
        opened = io.BytesIO(file) if isinstance(file, bytes) else file
        with Image.open(opened, formats=DECODED) as picture:
            if picture.width * picture.height > (Image.MAX_IMAGE_PIXELS or np.inf):
                raise FileFormatError(
                    f"{what} declares {picture.width} by {picture.height} pixels; expected at most "
                    f"{Image.MAX_IMAGE_PIXELS:,}"
                )
            if picture.mode in ("1", "P", "PA", "CMYK", "YCbCr"):
                return np.asarray(picture.convert("RGB"))
            if picture.mode.startswith("I;16"):
                return np.asarray(picture).astype(np.uint16)
            if picture.mode not in ("L", "LA", "RGB", "RGBA"):
                raise FileFormatError(
                    f"{what} has mode {picture.mode}; expected 8 bits a channel, or 16 of grey"
                )
            return np.asarray(picture)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise FileFormatError(f"{what} is truncated, corrupt or no picture: {error}") from error


def read_pictures(files: list[Any], what: str, size: Size | None) -> Shaped[np.ndarray, "t ..."]:
    """Pictures of equal shape (T, height, width, *channel).

    Args:
        files: Paths or bytes.
        what: Episode and column, for errors.
        size: (height, width) that each is scaled to.

    Raises:
        FileFormatError: As ``read_picture``, or two differ in shape; names the time.
    """

    def decoded() -> Iterator[np.ndarray]:
        for t, file in enumerate(files):
            name = f", {file.name}" if isinstance(file, Path) else ""
            yield read_picture(file, f"{what} at time {t}{name}")

    return gather(decoded(), len(files), what, size)


def gather(frames: Iterator[np.ndarray], count: int, what: str, size: Size | None) -> np.ndarray:
    """Frames as one array, each scaled as it comes.

    Raises:
        FileFormatError: There are fewer than ``count``, or two differ in shape or dtype.
    """
    array, shape, dtype, t = np.empty((0,), np.uint8), None, None, -1
    for t, frame in enumerate(frames):
        shape, dtype = (frame.shape, frame.dtype) if shape is None else (shape, dtype)
        if (frame.shape, frame.dtype) != (shape, dtype):
            raise FileFormatError(
                f"{what} at time {t} is {frame.dtype} {frame.shape}; expected {dtype} {shape}"
            )
        scaled = resize(frame, size)
        if t == 0:
            try:
                require_moderate(what, (count, *scaled.shape), scaled.dtype)
            except FileFormatError as error:
                raise FileFormatError(f"{error}. --resize scales pictures as they come") from None
            array = np.empty((count, *scaled.shape), scaled.dtype)
        array[t] = scaled
    if t + 1 < count:
        raise FileFormatError(
            f"{what}: the pictures end before time {t + 1}; expected {count} of them"
        )
    return array


def video_shape(file: Path, what: str) -> tuple[int, int, int]:
    """(height, width, 3) of a video.

    Raises:
        FileFormatError: It is truncated or no video; begins with ``what``.
        MissingExtraError: PyAV is not installed.
    """
    stream = _opened(file, lambda container, stream: (stream.height, stream.width), what)
    return (*stream, 3)


def video_times(file: Path, what: str) -> Float64[np.ndarray, " frames"]:
    """When each frame of a video is shown, in seconds from its beginning; nothing is decoded.

    Raises:
        FileFormatError: It is truncated or no video; begins with ``what``.
        MissingExtraError: PyAV is not installed.
    """

    def times(container: Any, stream: Any) -> np.ndarray:
        shown = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
        return np.sort(np.array(shown, np.float64)) * float(stream.time_base)

    return _opened(file, times, what)


def read_video(
    file: Path, times: Float64[np.ndarray, " t"], tolerance: float, what: str, size: Size | None
) -> UInt8[np.ndarray, "t height width 3"]:
    """The frames of a video that are shown at given times.

    Args:
        file: Of the video.
        times: Ascending, in seconds from its beginning.
        tolerance: By how many seconds a frame may be off.
        what: Episode and column, for errors.
        size: (height, width) that each frame is scaled to.

    Raises:
        FileFormatError: It is truncated, no video, or has no frame at one of the times.
        MissingExtraError: PyAV is not installed.
    """

    def frames(container: Any, stream: Any) -> np.ndarray:
        begin = max(0.0, float(times[0]) - tolerance)
        container.seek(int(Fraction(begin) / stream.time_base), stream=stream)
        return gather(_chosen(container, stream, times, tolerance, what), len(times), what, size)

    return _opened(file, frames, what)


def _chosen(
    container: Any, stream: Any, times: np.ndarray, tolerance: float, what: str
) -> Iterator[np.ndarray]:
    """Of the frames that follow, the first that is close enough to each time."""
    t = 0
    for frame in container.decode(stream):
        shown = float(frame.pts * stream.time_base)
        if shown > times[t] + tolerance:
            raise FileFormatError(f"{what}: the video has no frame at {times[t]:.6g} s, time {t}")
        if shown < times[t] - tolerance:
            continue
        yield frame.to_ndarray(format="rgb24")
        t += 1
        if t == len(times):
            return


def _opened(file: Path, use: Callable[[Any, Any], Any], what: str) -> Any:
    """What a function makes of a video's container and first stream of pictures."""
    require_extra("av", "video")
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(file), options=_CONTAINED) as container:
            if not container.streams.video or not container.streams.video[0].codec_context:
                raise FileFormatError(
                    f"{what}: {file.name} has no stream of pictures that can be decoded"
                )
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            return use(container, stream)
    except (FFmpegError, ValueError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(
            f"{what}: the video is truncated, corrupt or no video: {error}"
        ) from error
