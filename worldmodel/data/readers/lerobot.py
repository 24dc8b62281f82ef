"""LeRobot datasets, version 3: Parquet and videos, several episodes in a file.

``meta/info.json`` declares the columns (features) and how files are called,
``meta/episodes/**/*.parquet`` in which files each episode lies, between which rows and, of a video,
between which times. Row t holds what was seen and the action that was taken then.

Source: https://huggingface.co/docs/lerobot/lerobot-dataset-v3
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from worldmodel.data.readers.parquet import Rows, to_array
from worldmodel.data.readers.pictures import Size, read_pictures, read_video
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

_INFO = Path("meta/info.json")
_ROLES = {"actions": "action", "rewards": "next.reward", "timestamps": "timestamp"}
_FIELD = re.compile(r"\{\w+(:0?\d?d)?\}")  # of a path
# Of a row, where it stands; nothing that was recorded.
_INDICES = ("frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class LeRobot(Recording):
    """A LeRobot dataset.

    Attributes:
        info: Of ``meta/info.json``.
        rows: Of ``meta/episodes``, one for each episode, in order.
    """

    format: ClassVar[str] = "lerobot"
    info: Mapping[str, Any] | None = None
    rows: tuple[Mapping[str, Any], ...] = ()

    def episodes(self, columns: Collection[str], size: Size | None = None) -> Iterator[Table]:
        """See ``Recording``."""
        require_columns(self, columns)
        videos = [c for c in columns if self._kind(c) == "video"]
        kept = [c for c in columns if c not in videos]
        for row, found in self._tables(list(dict.fromkeys((*kept, "timestamp", "episode_index")))):
            name = str(row["episode_index"])
            what = f"{self.path}, episode {name}"
            numbers = found["episode_index"].to_numpy()
            if (numbers != row["episode_index"]).any():
                raise FileFormatError(
                    f"{what}: the rows that meta/episodes names are of {np.unique(numbers)[:3]}"
                )
            taken = {c: self._column(found[c], c, f"{what}: {c}", size) for c in kept}
            times = found["timestamp"].to_numpy().astype(np.float64)
            for column in videos:
                taken[column] = self._video(row, column, times, f"{what}: {column}", size)
            yield Table(name, taken)

    def _kind(self, column: str) -> str:
        assert self.info is not None
        return self.info["features"][column]["dtype"]

    def _tables(self, columns: list[str]) -> Iterator[tuple[Mapping[str, Any], Any]]:
        """Of each episode its rows; every file is read once, from its beginning to its end."""
        file, rows, begin = None, None, 0
        for row in self.rows:
            found = self._file("data_path", row, "data")
            first, stop = int(row["dataset_from_index"]), int(row["dataset_to_index"])
            what = f"{self.path}, episode {row['episode_index']}"
            if stop - first != int(row["length"]):
                raise FileFormatError(
                    f"{what} has {row['length']} steps and the rows {first} to {stop}"
                )
            try:
                if rows is None or found != file:
                    file, rows, begin = found, Rows(found, columns), first
                taken = rows.take(first - begin, stop - first)
            except FileFormatError as error:
                raise FileFormatError(f"{what}: {error}") from error
            yield row, taken

    def _column(self, values: Any, column: str, what: str, size: Size | None) -> np.ndarray:
        expected = self.columns[column]
        if self._kind(column) == "image":
            cells = [v["bytes"] if isinstance(v, dict) else v for v in values.to_pylist()]
            return self._as_declared(read_pictures(cells, what, size), column, what, size)
        array = to_array(values, what)
        require_moderate(what, array.shape, array.dtype)
        entry = int(np.prod(expected.shape))
        if array.dtype.name != expected.dtype or array.size != len(array) * entry:
            raise FileFormatError(
                f"{what} is {array.dtype.name} {array.shape[1:]}; meta/info.json declares "
                f"{expected.describe()}"
            )
        return array.reshape(len(array), *expected.shape)

    def _video(
        self, row: Mapping[str, Any], column: str, times: np.ndarray, what: str, size: Size | None
    ) -> np.ndarray:
        file = self._file("video_path", row, f"videos/{column}", video_key=column)
        begin = float(row[f"videos/{column}/from_timestamp"])
        assert self.rate is not None
        frames = read_video(file, begin + times, 0.5 / self.rate, what, size)
        return self._as_declared(frames, column, what, size)

    def _as_declared(
        self, frames: np.ndarray, column: str, what: str, size: Size | None
    ) -> np.ndarray:
        expected = self.columns[column].shape
        if frames.dtype != np.uint8 or (size is None and frames.shape[1:] != expected):
            raise FileFormatError(
                f"{what} is {frames.dtype} {frames.shape[1:]}; meta/info.json declares uint8 "
                f"{expected}"
            )
        return frames

    def _file(self, kind: str, row: Mapping[str, Any], prefix: str, **names: str) -> Path:
        try:
            chunk, number = int(row[f"{prefix}/chunk_index"]), int(row[f"{prefix}/file_index"])
            assert self.info is not None
            known = {"chunk_index": chunk, "file_index": number, **names}
            # Nothing else of Python's formats: a width can be gigabytes.
            name = _FIELD.sub(lambda field: field[0].format(**known), str(self.info[kind]))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(
                f"{self.path}: meta does not say where {prefix} of episode "
                f"{row.get('episode_index')} lies: {error!r}"
            ) from error
        return inside(self.path, self.path / name)


def recognises(path: Path) -> bool:
    """Whether a folder looks like a LeRobot dataset."""
    return (path / _INFO).is_file()


def read(path: Path) -> Recording:
    """Open a dataset.

    Raises:
        FileFormatError: It is of another version, truncated or corrupt.
        MissingExtraError: pyarrow, or for videos PyAV, is not installed.
    """
    require_extra("pyarrow", "lerobot")
    info = read_json(inside(path, path / _INFO))
    version = str(info.get("codebase_version"))
    if not version.startswith("v3"):
        raise FileFormatError(
            f"{path} is of LeRobot's version {version}; expected v3. LeRobot's "
            "convert_dataset_v21_to_v30 converts older ones"
        )
    features, rate = info.get("features"), info.get("fps")
    if not isinstance(features, dict) or not isinstance(rate, int | float) or rate <= 0:
        raise FileFormatError(f"{path / _INFO} declares no features or no fps")
    columns = {n: c for n, f in features.items() if (c := _column_of(path, n, f))}
    if any(features[name]["dtype"] == "video" for name in columns):
        require_extra("av", "lerobot")
    rows = _episode_rows(path)
    actions = [n for n in columns if n == "action" or n.startswith("action.")]
    roles: dict[str, tuple[str, ...]] = {
        role: (column,) for role, column in _ROLES.items() if column in columns
    }
    if actions:
        roles["actions"] = ("action",) if "action" in actions else tuple(actions)
    roles |= {stream: (name,) for name, stream in _streams(columns).items()}
    left = [n for n in features if n not in columns and n not in _INDICES]
    notes = [f"left out, being no numbers or pictures: {', '.join(left)}"] if left else []
    facts = {k: info.get(k) for k in ("codebase_version", "robot_type", "fps")}
    return LeRobot(
        path,
        columns,
        roles,
        len(rows),
        rate=float(rate),
        facts=facts,
        notes=tuple(notes),
        info=info,
        rows=rows,
    )


def _column_of(path: Path, name: str, feature: Any) -> Column | None:
    """What a feature declares, or None if it is nothing to learn from."""
    try:
        kind, shape = feature["dtype"], tuple(int(n) for n in feature["shape"])
        axes = [str(n) for n in feature.get("names") or ()]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(
            f"{path / _INFO}: feature {name!r} is no feature: {error!r}"
        ) from error
    detail = feature.get("info") or {}
    if name in _INDICES or any(detail.get(k) for k in ("is_depth_map", "video.is_depth_map")):
        return None
    if kind in ("video", "image"):
        return Column(
            (*shape[1:], shape[0]) if axes[:1] in (["c"], ["channels"]) else shape, "uint8"
        )
    try:
        dtype = np.dtype(kind)
    except TypeError:
        return None
    return Column(shape if shape != (1,) else (), dtype.name) if dtype.kind in "biuf" else None


def _streams(columns: Collection[str]) -> dict[str, str]:
    """Names of streams by column: without what all LeRobot's names begin with, if that is clear."""
    seen = {c: c.removeprefix("observation.") for c in columns if c.startswith("observation.")}
    short = {c: name.removeprefix("images.") for c, name in seen.items()}
    chosen = short if len(set(short.values())) == len(short) else seen
    return {column: name.replace(".", "_") for column, name in chosen.items()}


def _episode_rows(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Of each episode where it lies, in order."""
    files = sorted((path / "meta" / "episodes").rglob("*.parquet"))
    rows: list[Mapping[str, Any]] = []
    for file in files:
        table = Rows(inside(path, file))
        wanted = [n for n in table.schema.names if not n.startswith("stats/")]
        rows += Rows(file, wanted).take(0, table.count).to_pylist()
    needed = ("episode_index", "length", "dataset_from_index", "dataset_to_index")
    if not rows or any(key not in row for row in rows for key in needed):
        raise FileFormatError(f"{path}/meta/episodes does not say of each episode {needed}")
    return tuple(sorted(rows, key=lambda row: row["dataset_from_index"]))
