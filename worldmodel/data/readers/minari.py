"""Minari datasets that lie on this machine: a folder, or the id of one in Minari's own folder.

Spaces are as they are declared. Pictures that Minari keeps as JPEG are what JPEG made of them.

Source: https://minari.farama.org/content/dataset_standards/
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from worldmodel.data.readers import hdf5
from worldmodel.data.readers.pictures import Size, resize_all
from worldmodel.data.readers.recording import (
    Column,
    Recording,
    Table,
    inside,
    require_columns,
    require_moderate,
)
from worldmodel.errors import FileFormatError, require_extra
from worldmodel.files import read_json

_ROLES = {
    "rewards": "rewards",
    "terminated": "terminations",
    "truncated": "truncations",
    # As ``worldmodel.data.writers.minari`` writes them.
    "states": "infos/states",
    "timestamps": "infos/timestamps",
    "seen": "infos/seen",
}


@dataclass(frozen=True)
class Minari(Recording):
    """A Minari dataset.

    Attributes:
        dataset: Of the ``minari`` package.
    """

    format: ClassVar[str] = "minari"
    dataset: Any = None

    def episodes(self, columns: Collection[str], size: Size | None = None) -> Iterator[Table]:
        """See ``Recording``."""
        require_columns(self, columns)
        numbers = self.dataset.episode_indices
        for number, found in zip(numbers, _episodes(self.path, self.dataset), strict=True):
            what = f"{self.path}, episode {number}"
            taken = {}
            for name in columns:
                if name not in found:
                    raise FileFormatError(f"{what}: {name} is missing")
                array, expected = np.asarray(found[name]), self.columns[name]
                require_moderate(f"{what}: {name}", array.shape, array.dtype)
                if array.shape[1:] != expected.shape or array.dtype.name != expected.dtype:
                    raise FileFormatError(
                        f"{what}: {name} is {array.dtype.name} {array.shape[1:]}; declared is "
                        f"{expected.describe()}"
                    )
                taken[name] = resize_all(array, size) if expected.picture else array
            yield Table(str(number), taken)


def recognises(path: Path) -> bool:
    """Whether there is a Minari dataset in a folder, or one of this id."""
    return _data_folder(path) is not None


def read(path: Path) -> Recording:
    """Open a dataset.

    Raises:
        FileFormatError: It is truncated or corrupt, or its files lie elsewhere.
        MissingExtraError: minari is not installed.
    """
    require_extra("minari", "minari")
    folder = _data_folder(path)
    if folder is None:
        raise FileFormatError(f"{path} is no Minari dataset: it has no data/metadata.json")
    for file in folder.rglob("*"):
        if not file.is_dir():
            inside(folder, file)
    if (main := folder / "main_data.hdf5").is_file():
        hdf5.refuse_links(main)
    dataset = _dataset(path, folder)
    first = next(_episodes(path, dataset), None)
    if first is None:
        raise FileFormatError(f"{path} has no episodes")
    seen, acted = dataset.observation_space, dataset.action_space
    declared = {**_leaves("observations", seen), **_leaves("actions", acted)}
    steps = len(first["rewards"])
    columns = {
        name: Column(*_declared(name, array, declared), final=len(array) == steps + 1)
        for name, array in first.items()
    }
    roles: dict[str, tuple[str, ...]] = {
        role: (column,) for role, column in _ROLES.items() if column in columns
    }
    roles |= {_role(name): (name,) for name in declared}
    notes = []
    if np.isnan(first["rewards"]).all():
        del roles["rewards"]
        notes.append("the rewards are NaN, and taken for not recorded")
    spec = dataset.env_spec
    return Minari(
        path,
        columns,
        roles,
        int(dataset.total_episodes),
        seen,
        acted,
        facts={"minari_id": dataset.id, "env_id": spec.id if spec else None},
        notes=tuple(notes),
        dataset=dataset,
    )


def _data_folder(path: Path) -> Path | None:
    """Where the files of a dataset lie."""
    for folder in (path / "data", path):
        if (folder / "metadata.json").is_file():
            return folder if "data_format" in read_json(folder / "metadata.json") else None
    if path.exists() or path.is_absolute():
        return None
    try:
        from minari.storage import get_dataset_path
    except ImportError:
        return None
    folder = Path(get_dataset_path(path.as_posix())) / "data"
    return folder if (folder / "metadata.json").is_file() else None


def _dataset(path: Path, folder: Path) -> Any:
    from minari import MinariDataset

    try:
        return MinariDataset(folder)
    except Exception as error:  # whatever the library raises on bytes that are not its own
        raise FileFormatError(f"{path} is no Minari dataset that can be read: {error}") from error


def _episodes(path: Path, dataset: Any) -> Iterator[dict[str, Any]]:
    """Arrays by column."""
    for number in dataset.episode_indices:
        try:
            # One at a time, so that an error is of this one.
            (found,) = dataset.storage.get_episodes([number])
        except Exception as error:  # as above: h5py, PIL, pyarrow and asserts of its own
            raise FileFormatError(
                f"{path}, episode {number} is truncated or corrupt: {error!r}"
            ) from error
        yield dict(_flat("", {key: value for key, value in found.items() if key != "id"}))


def _flat(path: str, values: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(values, tuple):
        values = {str(i): value for i, value in enumerate(values)}
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flat(f"{path}/{key}" if path else str(key), value)
    elif isinstance(values, np.ndarray) and values.dtype.kind in "biuf" and values.ndim:
        yield path, values


def _leaves(path: str, space: gym.Space) -> dict[str, gym.Space]:
    """Spaces without parts by column."""
    if isinstance(space, gym.spaces.Dict):
        parts = dict(space.spaces)
    elif isinstance(space, gym.spaces.Tuple):
        parts = {str(i): part for i, part in enumerate(space.spaces)}
    else:
        return {path: space}
    found: dict[str, gym.Space] = {}
    for key, part in parts.items():
        found |= _leaves(f"{path}/{key}", part)
    return found


def _declared(
    name: str, array: np.ndarray, declared: Mapping[str, gym.Space]
) -> tuple[tuple[int, ...], str]:
    """Shape and dtype as declared, else as found."""
    space = declared.get(name)
    if space is None or space.shape is None or space.dtype is None:
        return array.shape[1:], array.dtype.name
    return space.shape, space.dtype.name


def _role(column: str) -> str:
    """``observations/a/b`` is the stream ``a.b``, ``actions/a`` the part ``actions.a``."""
    head, _, rest = column.partition("/")
    if not rest:
        return head
    nested = rest.replace("/", ".")
    return f"actions.{nested}" if head == "actions" else nested
