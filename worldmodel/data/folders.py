"""A dataset's folder: what lies where, and how it becomes more without anybody seeing half of it.

::

    DATA/dataset.json           format, version, spaces, provenance, and the name of the next folder
    DATA/parts/000000/part.json split, arrays, provenance of its episodes
    DATA/parts/000000/*.npy     arrays of some episodes, one after the other: lengths, digests,
                                actions, terminated, observations.<stream>, ...

A part is written beside its place and renamed into it once it is on the disk. Nothing is changed
after that: what is read stays as it was, and a new reader sees the parts that are there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from worldmodel.data.arrays import Array, Stored, write_array
from worldmodel.data.parts import Part, is_framed
from worldmodel.data.provenance import Provenance
from worldmodel.errors import FileFormatError
from worldmodel.files import read_json, sync_folder, write_json
from worldmodel.spaces import ActionSpace, ObservationSpace

FORMAT, VERSION = "worldmodel-dataset", 4
INDEX, PARTS = "dataset.json", "parts"
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Index:
    """What ``dataset.json`` says.

    Attributes:
        observation_spec: Of all episodes.
        action_spec: Likewise.
        provenance: What is said of the whole.
        parts: Name of the folder of the parts.
    """

    observation_spec: ObservationSpace
    action_spec: ActionSpace
    provenance: Provenance
    parts: str = PARTS


def is_dataset(folder: str | Path) -> bool:
    """Whether there is a dataset in a folder."""
    return (Path(folder) / INDEX).is_file()


def write_index(folder: Path, index: Index) -> None:
    """Write ``dataset.json``, whole or not at all; from then on it is a dataset."""
    told = asdict(index.provenance)
    del told["fingerprint"]  # of the episodes that there are when it is read
    plain = {
        "format": FORMAT,
        "version": VERSION,
        "observation_spec": index.observation_spec.to_json(),
        "action_spec": index.action_spec.to_json(),
        "provenance": told,
        "parts": index.parts,
    }
    write_json(folder / INDEX, plain)


def clean(parts: Path) -> None:
    """Delete what a writer left that was killed; only whoever holds the lock may do so."""
    shutil.rmtree(parts / _PARTIAL, ignore_errors=True)


def publish(
    parts: Path,
    split: str,
    episodes: Sequence[Mapping[str, np.ndarray]],
    digests: Sequence[bytes],
    told: Sequence[tuple[int, Mapping[str, str]]],
) -> None:
    """Write a part of some episodes, whole or not at all.

    Args:
        parts: Folder of the parts; the caller holds the dataset's lock.
        split: Where they go.
        episodes: Arrays of each, by the names of ``Part``.
        digests: Of each.
        told: As of ``Part``.

    Raises:
        OSError: It cannot be written; nothing stays.
    """
    partial, place = parts / _PARTIAL, parts / f"{_next(parts):06d}"
    partial.mkdir()
    try:
        lengths = np.array([len(episode["actions"]) for episode in episodes], np.int64)
        write_array(partial / "lengths.npy", [lengths])
        every = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
        write_array(partial / "digests.npy", [every])
        arrays = {}
        for name, first in episodes[0].items():
            write_array(_file(partial, name), [episode[name] for episode in episodes])
            arrays[name] = {"dtype": first.dtype.name, "each": list(first.shape[1:])}
        counted = {"episodes": len(episodes), "steps": int(lengths.sum())}
        write_json(
            partial / "part.json", {"split": split, **counted, "arrays": arrays, "told": list(told)}
        )
        sync_folder(partial)
        os.rename(partial, place)
    finally:
        clean(parts)
    sync_folder(parts)


def read_index(folder: Path) -> Index:
    """Read ``dataset.json``.

    Raises:
        FileFormatError: It is missing, truncated, corrupt, foreign or of another version.
    """
    if not is_dataset(folder):
        raise FileFormatError(
            f"{folder} is a folder without {INDEX}; expected a dataset, which 'worldmodel import' "
            "makes of recordings"
        )
    plain = read_json(folder / INDEX)
    try:
        form, version = plain.get("format"), plain.get("version")
        if form != FORMAT:
            raise FileFormatError(f"{folder}: format {form!r}; expected {FORMAT!r}")
        if version != VERSION:
            raise FileFormatError(f"{folder}: format version {version!r}; expected {VERSION}")
        if Path(parts := str(plain["parts"])).name != parts or not parts.startswith(PARTS):
            raise FileFormatError(f"{folder}: parts in {parts!r}; expected a folder in it, {PARTS}")
        return Index(
            ObservationSpace.from_json(plain["observation_spec"]),
            ActionSpace.from_json(plain["action_spec"]),
            Provenance(**plain["provenance"]),
            parts,
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{folder / INDEX} is corrupt: {error!r}") from error


def read_parts(parts: Path) -> dict[str, list[Part]]:
    """All parts that there are, by split; of their arrays nothing is read.

    Raises:
        FileFormatError: One is truncated, corrupt or foreign.
    """
    splits: dict[str, list[Part]] = {}
    for number in _numbers(parts):
        split, part = _read_part(parts / f"{number:06d}")
        splits.setdefault(split, []).append(part)
    return splits


def _read_part(folder: Path) -> tuple[str, Part]:
    if folder.is_symlink():
        raise FileFormatError(f"{folder} is a symbolic link; expected a folder")
    try:
        plain = read_json(folder / "part.json")
        split, episodes, steps = str(plain["split"]), int(plain["episodes"]), int(plain["steps"])
        lengths = _whole(folder, "lengths", np.dtype(np.int64), (episodes,))
        digests = _whole(folder, "digests", np.dtype(np.uint8), (episodes, 32))
        if lengths.sum() != steps or (lengths < 1).any():
            raise FileFormatError(f"{folder}: its lengths do not add up to {steps} steps")
        arrays: dict[str, Array] = {}
        for name, kind in plain["arrays"].items():
            shape = (steps + episodes * is_framed(name), *(int(n) for n in kind["each"]))
            arrays[name] = Stored(_file(folder, name), np.dtype(kind["dtype"]), shape)
        told = [(int(count), dict(known)) for count, known in plain["told"]]
    except (LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{folder / 'part.json'} is corrupt: {error!r}") from error
    return split, Part(lengths, arrays, digests, told)


def _whole(folder: Path, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(shape, dtype)
    Stored(folder / f"{name}.npy", dtype, shape).read(0, array)
    return array


def _file(folder: Path, name: str) -> Path:
    # A stream may be called anything.
    return folder / f"{quote(name, safe='')}.npy"


def _numbers(parts: Path) -> list[int]:
    if not parts.is_dir():
        raise FileFormatError(f"{parts} is missing; expected the folder of a dataset's parts")
    return sorted(int(name) for name in os.listdir(parts) if name.isdigit())


def _next(parts: Path) -> int:
    return max(_numbers(parts), default=-1) + 1
