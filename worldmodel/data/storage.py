"""Datasets on disk: one compressed ``.npz``, written whole or not at all.

Besides one ``<split>/<array>.npy`` per array, the archive holds ``header.json``: format name and
version, specs, provenance, and the dtype and shape of every array. Observations are one array, or
one ``<split>/observations/<stream>.npy`` per stream where there are several. Files of version 2,
which had one stream, are read as well.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import gymnasium as gym
import numpy as np
import torch

from worldmodel.data.dataset import Dataset, Provenance, fingerprint, named_arrays
from worldmodel.errors import FileFormatError, SpecError
from worldmodel.files import whole
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.types import Batch, from_streams

FORMAT = "worldmodel-dataset"
VERSION = 3
HEADER = "header.json"

# Rendered frames shrink nearly as far at level 1 as at 6, in a fraction of the time.
_COMPRESSION_LEVEL = 1

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


def save(dataset: Dataset, path: str | Path) -> Path:
    """Write a dataset; an older file at ``path`` is replaced in one step, at the very end.

    Args:
        dataset: What to write.
        path: File to write, conventionally ``*.npz``. Missing folders are made.

    Returns:
        The path written to.

    Raises:
        SpecError: The data were changed since their fingerprint was taken.
        OSError: The file cannot be written. No temporary file is left, nor on interruption.
    """
    path = Path(path)
    found = fingerprint(dataset.splits, dataset.observation_spec, dataset.action_spec)
    if found != dataset.provenance.fingerprint:
        raise SpecError(
            f"the data have the fingerprint {found}, their provenance says "
            f"{dataset.provenance.fingerprint}"
        )
    with whole(path) as file:
        _write(file, dataset)
    return path


def load(path: str | Path) -> Dataset:
    """Read a dataset and verify it.

    Raises:
        FileNotFoundError: There is no file at ``path``.
        FileFormatError: The file is truncated, corrupt, foreign, of another version, or its data
            do not have the fingerprint that it states.
        OSError: The file cannot be opened.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"no dataset at {path}; 'worldmodel collect' and worldmodel.data.save write one"
        )
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder; expected a file of format {FORMAT}")
    with path.open("rb") as file:
        try:
            return _read(file)
        except FileFormatError as error:
            raise FileFormatError(f"{path}: {error}") from error
        except _UNREADABLE as error:
            raise FileFormatError(
                f"{path} is truncated, corrupt or foreign; expected a file of format {FORMAT}, "
                f"version {VERSION}: {error}"
            ) from error


def _header(dataset: Dataset) -> dict[str, Any]:
    splits: dict[str, dict[str, Any]] = {}
    for split, batch in dataset.splits.items():
        splits[split] = {
            name: {"dtype": array.dtype.name, "shape": list(array.shape)}
            for name, array in named_arrays(batch)
        }
    return {
        "format": FORMAT,
        "version": VERSION,
        "observation_spec": dataset.observation_spec.to_json(),
        "action_spec": dataset.action_spec.to_json(),
        "provenance": asdict(dataset.provenance),
        "splits": splits,
    }


def _write(file: BinaryIO, dataset: Dataset) -> None:
    deflated = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(file, "w", deflated, compresslevel=_COMPRESSION_LEVEL) as archive:
        archive.writestr(HEADER, json.dumps(_header(dataset), indent=1))
        for split, batch in dataset.splits.items():
            for name, array in named_arrays(batch):
                with archive.open(f"{split}/{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(
                        entry, np.ascontiguousarray(array), allow_pickle=False
                    )


def _read(file: BinaryIO) -> Dataset:
    with zipfile.ZipFile(file) as archive:
        header = _read_header(archive)
        splits = {
            split: _read_batch(archive, split, entries)
            for split, entries in header["splits"].items()
        }
    read = _spaces_of_version_2 if header["version"] == 2 else _spaces
    dataset = Dataset(splits, *read(header), Provenance(**header["provenance"]))
    found = fingerprint(splits, dataset.observation_spec, dataset.action_spec)
    if found != dataset.provenance.fingerprint:
        raise FileFormatError(
            f"the data have the fingerprint {found}, the header says "
            f"{dataset.provenance.fingerprint}"
        )
    return dataset


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
