"""Read datasets: folders, and the files that were written before there were any.

Such a file is a ``.npz``. Besides one ``<split>/<array>.npy`` per array it holds ``header.json``:
format name and version, specs, provenance, and the dtype and shape of every array. Observations are
one array, or one ``<split>/observations/<stream>.npy`` per stream where there are several. Episodes
are padded. Version 2 had one stream.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import gymnasium as gym
import numpy as np
import torch

from worldmodel.data.dataset import Dataset
from worldmodel.data.parts import encoded
from worldmodel.data.provenance import Provenance
from worldmodel.errors import FileFormatError
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.types import Batch, from_streams, to_numpy

FORMAT = "worldmodel-dataset"
VERSION = 3
HEADER = "header.json"

# All that zipfile, zlib, json and numpy raise on bytes that are not what they should be.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    EOFError,
    OSError,
    RuntimeError,
)


def load(path: str | Path) -> Dataset:
    """Open a dataset.

    Of a folder nothing is read but what there is, and whether it is all there; ``Dataset.verify``
    reads the rest. A file of before is read and verified, and is in memory.

    Raises:
        FileNotFoundError: There is nothing at ``path``.
        FileFormatError: It is truncated, corrupt, foreign, of another version, or the data of a
            file do not have the fingerprint that it states.
        OSError: It cannot be opened.
    """
    path = Path(path)
    # Of a device there is no end.
    if not (path.is_dir() or path.is_file()):
        raise FileNotFoundError(
            f"no dataset at {path}; 'worldmodel collect' and worldmodel.data.save write one"
        )
    if path.is_dir():
        return Dataset.read(path)
    with path.open("rb") as file:
        try:
            return _read(file)
        except FileFormatError as error:
            raise FileFormatError(f"{path}: {error}") from error
        except _UNREADABLE as error:
            raise FileFormatError(
                f"{path} is truncated, corrupt or foreign: {error}; expected a file of format "
                f"{FORMAT}, version {VERSION}; 'worldmodel import' makes a dataset of recordings"
            ) from error


def _read(file: BinaryIO) -> Dataset:
    with zipfile.ZipFile(file) as archive:
        header = _read_header(archive)
        splits = {
            split: _read_batch(archive, split, entries)
            for split, entries in header["splits"].items()
        }
    read = _spaces_of_version_2 if header["version"] == 2 else _spaces
    seen, acted = read(header)
    dataset = Dataset(dict(splits), seen, acted, Provenance(**header["provenance"]))
    found = padded_fingerprint(splits, seen, acted)
    if found != dataset.provenance.fingerprint:
        raise FileFormatError(
            f"the data have the fingerprint {found}, the header says "
            f"{dataset.provenance.fingerprint}"
        )
    return dataset


def padded_fingerprint(
    splits: Mapping[str, Batch], observation_spec: ObservationSpace, action_spec: ActionSpace
) -> str:
    """As it was taken of padded splits: specs and every array's name, dtype, shape and bytes."""
    digest = hashlib.sha256(encoded([observation_spec.identity(), action_spec.identity()]))
    for split, batch in sorted(splits.items()):
        for name, array in named_arrays(batch):
            digest.update(encoded([split, name, array.dtype.name, array.shape]))
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def named_arrays(batch: Batch) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a batch; "observations/<stream>" where there are several streams."""
    for name, values in batch.items():
        arrays = to_numpy(values)
        if isinstance(arrays, Mapping):
            for stream, array in arrays.items():
                yield f"{name}/{stream}", array
        else:
            yield name, arrays


def _spaces(header: dict[str, Any]) -> tuple[ObservationSpace, ActionSpace]:
    return (
        ObservationSpace.from_json(header["observation_spec"]),
        ActionSpace.from_json(header["action_spec"]),
    )


def _spaces_of_version_2(header: dict[str, Any]) -> tuple[ObservationSpace, ActionSpace]:
    """The spaces as far as they were written down: bounds of observations were not."""
    observation, action = header["observation_spec"], header["action_spec"]
    shape = tuple(observation["shape"])
    if observation["pixels"]:
        seen = ObservationSpace.from_space(gym.spaces.Box(0, 255, shape, np.uint8))
        if seen.streams[0].shape != shape:
            raise FileFormatError(
                f"pictures {shape} were recorded as (height, width, channel), which they are not; "
                "record them again"
            )
    else:
        seen = ObservationSpace.from_space(gym.spaces.Box(-np.inf, np.inf, shape, np.float32))
    if action["kind"] == "discrete":
        return seen, ActionSpace.from_space(gym.spaces.Discrete(len(action["low"])))
    low, high = np.array(action["low"]), np.array(action["high"])
    single = all((bound.astype(np.float32) == bound).all() for bound in (low, high))
    dtype: Any = np.float32 if single else np.float64
    box = gym.spaces.Box(low.astype(dtype), high.astype(dtype), dtype=dtype)
    return seen, ActionSpace.from_space(box)


def _read_header(archive: zipfile.ZipFile) -> dict[str, Any]:
    if HEADER not in archive.namelist():
        raise FileFormatError(f"no entry {HEADER!r}; expected a file of format {FORMAT}")
    header = json.loads(archive.read(HEADER))
    form = header.get("format")
    if form != FORMAT:
        raise FileFormatError(f"format {form!r}; expected {FORMAT!r}")
    if header.get("version") not in (2, VERSION):
        raise FileFormatError(f"format version {header.get('version')!r}; expected 2 or {VERSION}")
    return header


def _read_batch(archive: zipfile.ZipFile, split: str, entries: dict[str, Any]) -> Batch:
    tensors, streams = {}, {}
    for name, entry in entries.items():
        # Read in full before parsing: the archive's checksum is verified at the end of an entry.
        content = io.BytesIO(archive.read(f"{split}/{name}.npy"))
        array = np.lib.format.read_array(content, allow_pickle=False)
        if array.dtype.name != entry["dtype"] or list(array.shape) != entry["shape"]:
            raise FileFormatError(
                f"{split}/{name} is {array.dtype.name} {list(array.shape)}; expected "
                f"{entry['dtype']} {entry['shape']}"
            )
        field, _, stream = name.partition("/")
        (streams if stream else tensors)[stream or field] = torch.from_numpy(array)
    if streams:
        tensors["observations"] = from_streams(streams, 2)
    return Batch(**tensors)
