"""Datasets as single files, which no version writes any more."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import asdict, replace

import numpy as np

from worldmodel.data.storage import HEADER
from worldmodel.types import to_numpy


def written_before(dataset):
    """With the fingerprint of a file."""
    specs = dataset.observation_spec, dataset.action_spec
    mark = old_fingerprint(dataset, *(spec.identity() for spec in specs))
    return replace(dataset, provenance=replace(dataset.provenance, fingerprint=mark))


def old_arrays(dataset) -> dict[str, np.ndarray]:
    """Padded, as files had them."""
    arrays = {}
    for split in dataset.splits:
        for name, value in dataset.split(split).padded().items():
            value = to_numpy(value)
            several = value if isinstance(value, dict) else None
            named = {f"/{k}": v for k, v in several.items()} if several else {"": value}
            arrays |= {f"{split}/{name}{stream}": array for stream, array in named.items()}
    return arrays


def write_old(dataset, path):
    """As the last version wrote files."""
    splits = {split: {} for split in dataset.splits}
    for name, array in old_arrays(dataset).items():
        split, _, rest = name.partition("/")
        splits[split][rest] = {"dtype": array.dtype.name, "shape": list(array.shape)}
    header = {
        "format": "worldmodel-dataset",
        "version": 3,
        "observation_spec": dataset.observation_spec.to_json(),
        "action_spec": dataset.action_spec.to_json(),
        "provenance": asdict(dataset.provenance),
        "splits": splits,
    }
    contents = {HEADER: json.dumps(header).encode()}
    contents |= {f"{name}.npy": npy(array) for name, array in old_arrays(dataset).items()}
    rewrite(path, contents)
    return path


def old_fingerprint(dataset, *specs) -> str:
    """As it was taken of files."""
    digest = hashlib.sha256(json.dumps(list(specs), sort_keys=True).encode())
    for name, array in sorted(old_arrays(dataset).items(), key=lambda item: item[0].split("/")[0]):
        split, _, rest = name.partition("/")
        about = [split, rest, array.dtype.name, array.shape]
        digest.update(json.dumps(about, sort_keys=True).encode() + array.tobytes())
    return digest.hexdigest()


def rewrite(path, contents: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()
