"""A target observation from a file: a picture, or numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from worldmodel.data.readers.pictures import DECODED
from worldmodel.errors import FileFormatError, SpecError
from worldmodel.spaces import ObservationSpace, Stream


def read_observation(path: Path, space: ObservationSpace) -> Any:
    """One observation.

    Args:
        path: An array as .npy, of the observation's shape, or of its only stream's; or a picture in
            any usual format, which is made as large and as colourful as the observed ones.
        space: What is observed.

    Raises:
        FileNotFoundError: There is no such file.
        FileFormatError: It is neither an array nor a picture.
        SpecError: It is a picture, and the observation is none.
        ShapeError: The array is no such observation.
    """
    if path.suffix == ".npy":
        try:
            observation = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise FileFormatError(f"{path} is no array: {error}") from error
        if not isinstance(observation, np.ndarray):
            raise FileFormatError(f"{path} is an archive of arrays; expected one array")
        observation = _whole(observation, space)
        space.read(observation)
        return observation
    shape = space.streams[0].shape
    pictures = len(space.streams) == 1 and space.streams[0].drawn == "film" and len(shape) == 3
    if not pictures or shape[2] not in (1, 3):
        raise SpecError(
            f"{path} is a picture, observed is {space.describe()}; give the observation as .npy"
        )
    try:
        with Image.open(path, formats=DECODED) as image:
            image = image.convert("L" if shape[2] == 1 else "RGB")
            image = image.resize((shape[1], shape[0]), Image.Resampling.BOX)
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise FileFormatError(f"{path} is truncated, corrupt or no picture: {error}") from error
    return _whole(np.asarray(image, np.uint8).reshape(shape), space)


def _whole(array: np.ndarray, space: ObservationSpace) -> Any:
    """An observation whose only stream is this, as its space nests it."""
    plain = isinstance(space.root, Stream) or len(space.streams) > 1
    return array if plain else space.write({space.names[0]: array})
