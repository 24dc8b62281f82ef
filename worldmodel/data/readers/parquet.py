"""Parquet files, read forward."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.errors import FileFormatError, require_extra

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


class Rows:
    """The rows of one file; what was passed is dropped from memory.

    Args:
        file: To read.
        columns: Names of those that are wanted; None for all.

    Raises:
        FileFormatError: The file is truncated or corrupt, or a column is missing.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, file: Path, columns: Collection[str] | None = None) -> None:
        require_extra("pyarrow", "parquet")
        import pyarrow.parquet as pq

        self._path = file
        try:
            # In this process and unmapped: a file that is cut off while it is read must not kill.
            self._file = pq.ParquetFile(file)
        except (OSError, ValueError) as error:
            raise FileFormatError(f"{file} is truncated, corrupt or no Parquet: {error}") from error
        self.schema = self._file.schema_arrow
        self.count = self._file.metadata.num_rows
        columns = self.schema.names if columns is None else columns
        if missing := [name for name in columns if name not in self.schema.names]:
            raise FileFormatError(
                f"{file} has no column {missing[0]!r}; it has {', '.join(self.schema.names)}"
            )
        self._batches = self._file.iter_batches(4096, columns=list(columns), use_threads=False)
        self._held: list[Any] = []
        self._begin = 0

    def take(self, begin: int, count: int) -> Any:
        """A ``pyarrow.Table`` of some rows, none of them before those that were taken last.

        Raises:
            FileFormatError: There are not so many, they were passed, or are corrupt.
        """
        import pyarrow as pa

        if begin < self._begin or begin + count > self.count:
            raise FileFormatError(
                f"{self._path} has {self.count} rows, of which {self._begin} were read; expected "
                f"{begin} to {begin + count} among the others"
            )
        try:
            while sum(map(len, self._held)) < begin + count - self._begin:
                self._held.append(next(self._batches))
                while self._held and self._begin + len(self._held[0]) <= begin:
                    self._begin += len(self._held.pop(0))
        except (OSError, ValueError) as error:
            raise FileFormatError(f"{self._path} is truncated or corrupt: {error}") from error
        table = pa.Table.from_batches(self._held)
        chosen = table.slice(begin - self._begin, count)
        left = table.slice(begin - self._begin + count)
        self._held, self._begin = left.to_batches(), begin + count
        return chosen


def to_array(values: Any, what: str) -> np.ndarray:
    """A column of numbers, of times, or of lists of equally many numbers, (rows,) or (rows, n).

    Times are in seconds, those of dates since 1970.

    Raises:
        FileFormatError: It is none, or has gaps; begins with ``what``.
    """
    import pyarrow as pa

    rows, flat = len(values), values.combine_chunks()
    if isinstance(flat, pa.ChunkedArray):
        flat = pa.concat_arrays(flat.chunks) if flat.num_chunks else pa.array([], flat.type)
    nested = False
    while True:
        if flat.null_count:
            raise FileFormatError(f"{what} has no value at time {flat.is_null().index(True)}")
        if isinstance(flat, pa.ExtensionArray):
            flat = flat.storage
        elif isinstance(flat, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
            flat, nested = flat.flatten(), True
        else:
            break
    if is_time(flat.type):
        flat = pa.array(flat.cast(pa.int64()).to_numpy() / _PER_SECOND[flat.type.unit])
    if not (pa.types.is_integer(flat.type) or _floating(flat.type)):
        raise FileFormatError(f"{what} holds {flat.type}; expected numbers")
    array = np.array(flat.to_numpy(zero_copy_only=False))
    if rows and len(array) % rows:
        raise FileFormatError(f"{what} has lists of different lengths")
    return array.reshape(rows, -1) if nested else array


def is_time(kind: Any) -> bool:
    """Whether a type of Arrow is of dates or spans of time."""
    import pyarrow as pa

    return pa.types.is_timestamp(kind) or pa.types.is_duration(kind)


def _floating(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_floating(kind) or pa.types.is_boolean(kind)
