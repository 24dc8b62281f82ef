"""Long arrays of which short stretches are read: in memory, or in a plain ``.npy`` file.

Stretches of a file are read by ``pread`` into memory of their own. A memory map is no faster from
the disk, and the pages of it that were ever touched count as the process's own: so a process stays
as small as what it holds, whatever it has read (docs/results.md).
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from worldmodel.errors import FileFormatError
from worldmodel.files import naming

_OPEN = 128  # files at most; systems allow a process 256 or more


class Array(ABC):
    """What can be read a stretch at a time.

    Attributes:
        shape: The first axis is time.
        dtype: Of the numbers.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @abstractmethod
    def read(self, start: int, out: np.ndarray) -> None:
        """Fill ``out`` (k, ...), contiguous and of the same dtype, with rows from ``start`` on."""

    @abstractmethod
    def view(self, start: int, stop: int) -> np.ndarray:
        """Read-only rows, of a file mapped into memory."""


class Held(Array):
    """An array in memory.

    Args:
        array: (n, ...); nobody may write to it from now on.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = np.ascontiguousarray(array)
        self.shape, self.dtype = self._array.shape, self._array.dtype

    def read(self, start: int, out: np.ndarray) -> None:
        """See ``Array``."""
        out[...] = self._array[start : start + len(out)]

    def view(self, start: int, stop: int) -> np.ndarray:
        """See ``Array``."""
        rows = self._array[start:stop]
        rows.flags.writeable = False
        return rows


class Stored(Array):
    """An array in a ``.npy`` file, of which nothing is read until it is asked for.

    Args:
        path: Of the file.
        dtype: That it must have.
        shape: Likewise.

    Raises:
        FileFormatError: The file is missing, no such array, or shorter than it says.
    """

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.path, self.dtype, self.shape = path, dtype, shape
        try:
            with path.open("rb") as file:
                found, fortran, kind = _header(file)
                self._offset = file.tell()
                status = os.fstat(file.fileno())
        except (OSError, ValueError, EOFError) as error:
            raise FileFormatError(f"{path} is no array of a dataset: {error}") from error
        if (found, kind) != (shape, dtype) or fortran or dtype.hasobject:
            raise FileFormatError(f"{path} holds {kind} {found}; expected {dtype} {shape}")
        self._row = int(dtype.itemsize * np.prod(shape[1:], dtype=np.int64))
        self._inode, expected = (status.st_dev, status.st_ino), self._offset + self._row * shape[0]
        if status.st_size != expected:
            raise FileFormatError(f"{path} is {status.st_size} bytes long; expected {expected}")

    def read(self, start: int, out: np.ndarray) -> None:
        """See ``Array``.

        Raises:
            FileFormatError: The file has become shorter.
            OSError: It cannot be read.
        """
        buffer, position = out.reshape(-1).view(np.uint8).data, 0
        place = self._offset + start * self._row
        with _FILES.lent(self.path, self._inode) as descriptor:
            while position < len(buffer):
                count = os.preadv(descriptor, [buffer[position:]], place + position)
                if not count:
                    raise FileFormatError(f"{self.path} has become shorter while it was read")
                position += count

    def view(self, start: int, stop: int) -> np.ndarray:
        """See ``Array``."""
        if stop <= start or not self._row:
            return np.zeros((max(stop - start, 0), *self.shape[1:]), self.dtype)
        place = self._offset + start * self._row
        shape = (stop - start, *self.shape[1:])
        return np.memmap(self.path, self.dtype, "r", place, shape)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


class _Files:
    """The files that were read last, kept open.

    They are known by their inodes: another file may have come to the place of one.
    """

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._open: OrderedDict[tuple[int, int], int] = OrderedDict()

    @contextmanager
    def lent(self, path: Path, inode: tuple[int, int]) -> Iterator[int]:
        """A descriptor that stays open as long as the block runs.

        Raises:
            FileFormatError: There is another file at ``path`` now, or none.
        """
        with self._lock:
            if inode not in self._open:
                self._open[inode] = _opened(path, inode)
                if len(self._open) > self._most:
                    os.close(self._open.popitem(last=False)[1])
            self._open.move_to_end(inode)
            yield self._open[inode]


def _opened(path: Path, inode: tuple[int, int]) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise FileFormatError(f"{path} was deleted since it was first read") from error
    status = os.fstat(descriptor)
    if (status.st_dev, status.st_ino) != inode:
        os.close(descriptor)
        raise FileFormatError(f"{path} was replaced since it was first read; load the data again")
    return descriptor


_FILES = _Files(_OPEN)


def write_array(path: Path, pieces: Sequence[np.ndarray]) -> None:
    """Write arrays (k, ...) one after the other as one ``.npy`` file, and wait for the disk."""
    first = pieces[0]
    shape = (sum(len(piece) for piece in pieces), *first.shape[1:])
    header = {
        "descr": np.lib.format.dtype_to_descr(first.dtype),
        "fortran_order": False,
        "shape": shape,
    }
    with naming(path), path.open("xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
