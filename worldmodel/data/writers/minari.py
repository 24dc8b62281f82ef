"""A dataset as one of Minari.

Pictures are kept as they are, without JPEG. Rewards that were not recorded are NaN, and an end of
which it was not recorded why is a truncation. ``states``, ``timestamps`` and ``seen`` are infos.
Minari knows no splits: its episodes are those of all of them, or of one.
"""

from __future__ import annotations

import errno
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from worldmodel.data.dataset import Dataset
from worldmodel.data.environments import Wrapping
from worldmodel.data.episodes import Episode, Episodes
from worldmodel.errors import ConfigError, SpecError, require_extra
from worldmodel.files import clear_old

# Bytes that HDF5 takes for each episode, beside its arrays.
_OVERHEAD = 40_000
# By frame, beside what is observed.
_INFOS = ("states", "timestamps", "seen")


def write(
    dataset: Dataset,
    name: str,
    splits: Iterable[str] = (),
    watch: Callable[[int], None] = lambda steps: None,
) -> Path:
    """Write a dataset into Minari's folder, whole or not at all.

    Args:
        dataset: What to write.
        name: Minari's id of it: ``(group/)name-v0``.
        splits: Names of those whose episodes are written; by default all.
        watch: Is called with the number of steps of each episode.

    Returns:
        The folder written to, within ``MINARI_DATASETS_PATH`` or ``~/.minari/datasets``.

    Raises:
        ConfigError: ``name`` is no id.
        FileExistsError: There is such a dataset.
        OSError: It cannot be written; nothing stays.
        SpecError: There is no episode.
        MissingExtraError: minari is not installed.
    """
    require_extra("minari", "minari")
    from minari import MinariDataset
    from minari.storage import get_dataset_path

    _require_id(name)
    chosen = [dataset.split(split) for split in splits or dataset.splits]
    if not sum(map(len, chosen)):
        raise SpecError("a Minari dataset needs at least one episode, got none")
    folder = Path(get_dataset_path(name))
    if folder.exists():
        raise FileExistsError(f"there is a Minari dataset {name} at {folder}")
    clear_old(folder)
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.tmp")
    try:
        (beside / "data").mkdir(parents=True)
        _require_room(beside, chosen)
        _fill(beside / "data", dataset, name, chain.from_iterable(chosen), watch)
        MinariDataset(beside / "data")  # it can be read
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _require_room(folder: Path, chosen: Iterable[Episodes]) -> None:
    """Refuse beforehand what does not fit: HDF5 can crash the process on a disk that is full."""
    needed = sum(
        len(part.lengths) * _OVERHEAD
        + sum(array.dtype.itemsize * math.prod(array.shape) for array in part.arrays.values())
        for episodes in chosen
        for part in episodes.parts
    )
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.parent))


def _require_id(name: str) -> None:
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(name)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"Minari's ids are (group/)name-v0, a group of two letters at least, got {name!r}"
        ) from error


def _fill(
    folder: Path,
    dataset: Dataset,
    name: str,
    episodes: Iterable[Episode],
    watch: Callable[[int], None],
) -> None:
    import minari
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    told = dataset.provenance
    storage = MinariStorage.new(
        folder,
        dataset.observation_spec.space(),
        dataset.action_spec.space(),
        _environment(dataset),
        jpeg_encoding=False,
    )
    about = {
        "dataset_id": name,
        "minari_version": minari.__version__,
        "description": " ".join(told.notes) or f"Recorded by worldmodel, {told.created}.",
    }
    storage.update_metadata(about)
    for arrays in _episodes(dataset, episodes):
        storage.update_episodes([EpisodeBuffer(**arrays)])
        watch(len(arrays["rewards"]))


def _environment(dataset: Dataset) -> Any:
    """Gymnasium's spec of the environment, if it shows what was recorded."""
    source = dataset.provenance.source
    plain = source is not None and source.wrapping == Wrapping() and not source.env_kwargs
    return gym.registry.get(source.env_id) if source is not None and plain else None


def _episodes(dataset: Dataset, episodes: Iterable[Episode]) -> Iterator[dict[str, Any]]:
    """Each as Minari has it: T + 1 observations, and T of all else."""
    seen, acted = dataset.observation_spec, dataset.action_spec
    gaps = any(dataset.split(name).has_gaps for name in dataset.splits)
    for episode in episodes:
        streams = episode.observations
        if not isinstance(streams, Mapping):
            streams = {seen.names[0]: streams}
        terminated = np.asarray(episode.terminated)
        recorded = episode.truncated
        truncated = np.zeros_like(terminated) if recorded is None else np.array(recorded)
        truncated[-1] |= not terminated[-1]
        rewards, infos = episode.rewards, {n: getattr(episode, n) for n in _INFOS}
        if gaps and infos["seen"] is None:
            infos["seen"] = np.ones(len(episode) + 1, np.bool_)
        yield {
            "observations": seen.write({n: np.asarray(array) for n, array in streams.items()}),
            "actions": acted.decode(np.asarray(episode.actions)),
            "rewards": np.full(len(terminated), np.nan) if rewards is None else np.array(rewards),
            "terminations": terminated,
            "truncations": truncated,
            "infos": {n: np.asarray(array) for n, array in infos.items() if array is not None},
        }
