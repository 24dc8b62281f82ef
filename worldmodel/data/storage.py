"""Datasets on disk: one compressed ``.npz``, written whole or not at all.

Besides one ``<split>/<array>.npy`` per array, the archive holds ``header.json``: format name and
version, specs, provenance, and the dtype and shape of every array.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from worldmodel.data.dataset import Dataset, Provenance, fingerprint
from worldmodel.errors import FileFormatError, SpecError
from worldmodel.files import whole
from worldmodel.types import ActionSpec, Batch, ObservationSpec

FORMAT = "worldmodel-dataset"
VERSION = 2
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


def _arrays(dataset: Dataset) -> Iterator[tuple[str, str, np.ndarray]]:
    for split, batch in dataset.splits.items():
        for name, tensor in batch.items():
            yield split, name, np.ascontiguousarray(tensor.cpu().numpy())


def _header(dataset: Dataset) -> dict[str, Any]:
    splits: dict[str, dict[str, Any]] = {}
    for split, name, array in _arrays(dataset):
        entry = {"dtype": array.dtype.name, "shape": list(array.shape)}
        splits.setdefault(split, {})[name] = entry
    return {
        "format": FORMAT,
        "version": VERSION,
        "observation_spec": asdict(dataset.observation_spec),
        "action_spec": asdict(dataset.action_spec),
        "provenance": asdict(dataset.provenance),
        "splits": splits,
    }


def _write(file: BinaryIO, dataset: Dataset) -> None:
    deflated = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(file, "w", deflated, compresslevel=_COMPRESSION_LEVEL) as archive:
        archive.writestr(HEADER, json.dumps(_header(dataset), indent=1))
        for split, name, array in _arrays(dataset):
            with archive.open(f"{split}/{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _read(file: BinaryIO) -> Dataset:
    with zipfile.ZipFile(file) as archive:
        header = _read_header(archive)
        splits = {
            split: _read_batch(archive, split, entries)
            for split, entries in header["splits"].items()
        }
    observation, action = header["observation_spec"], header["action_spec"]
    dataset = Dataset(
        splits,
        ObservationSpec(tuple(observation["shape"]), observation["pixels"]),
        ActionSpec(action["kind"], tuple(action["low"]), tuple(action["high"])),
        Provenance(**header["provenance"]),
    )
    found = fingerprint(splits, dataset.observation_spec, dataset.action_spec)
    if found != dataset.provenance.fingerprint:
        raise FileFormatError(
            f"the data have the fingerprint {found}, the header says "
            f"{dataset.provenance.fingerprint}"
        )
    return dataset


def _read_header(archive: zipfile.ZipFile) -> dict[str, Any]:
    if HEADER not in archive.namelist():
        raise FileFormatError(f"no entry {HEADER!r}; expected a file of format {FORMAT}")
    header = json.loads(archive.read(HEADER))
    form = header.get("format")
    if form != FORMAT:
        raise FileFormatError(f"format {form!r}; expected {FORMAT!r}")
    if header.get("version") != VERSION:
        raise FileFormatError(f"format version {header.get('version')!r}; expected {VERSION}")
    return header


def _read_batch(archive: zipfile.ZipFile, split: str, entries: dict[str, Any]) -> Batch:
    tensors = {}
    for name, entry in entries.items():
        # Read in full before parsing: the archive's checksum is verified at the end of an entry.
        content = io.BytesIO(archive.read(f"{split}/{name}.npy"))
        array = np.lib.format.read_array(content, allow_pickle=False)
        if array.dtype.name != entry["dtype"] or list(array.shape) != entry["shape"]:
            raise FileFormatError(
                f"{split}/{name} is {array.dtype.name} {list(array.shape)}; expected "
                f"{entry['dtype']} {entry['shape']}"
            )
        tensors[name] = torch.from_numpy(array)
    return Batch(**tensors)
