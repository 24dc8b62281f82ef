"""Arrays by name in a file or folder, read a few entries at a time."""

from __future__ import annotations

import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data.readers.mapping import NAMES
from worldmodel.data.readers.recording import inside, require_moderate, require_numbers
from worldmodel.errors import FileFormatError

Rows = Callable[[int], np.ndarray]
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError)
_CHUNK = 2**20


@dataclass(frozen=True)
class Header:
    """What an array says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool = False

    @property
    def nbytes(self) -> int:
        """Of the whole array; exact, however large."""
        size = self.dtype.itemsize
        for length in self.shape:
            size *= length
        return size


class Source(ABC):
    """Arrays by name, of which entries of the first axis are read one after the other."""

    def __init__(self, path: Path, headers: Mapping[str, Header]) -> None:
        self.path = path
        found = {name: header for name, header in headers.items() if header.shape}
        for name, header in found.items():
            if any(last_part(name) in names for names in NAMES.values()):
                require_numbers(f"{path}: {name}", header.dtype)
        self.headers = {n: h for n, h in found.items() if h.dtype.kind in "biuf"}
        self.left = [n for n in found if n not in self.headers]

    @abstractmethod
    def rows(self, name: str, stack: ExitStack) -> Rows:
        """A function that reads the next entries; what it holds open is closed by ``stack``.

        Raises:
            FileFormatError: They are truncated or corrupt.
        """

    def whole(self, name: str) -> np.ndarray:
        """One whole array."""
        header = self.headers[name]
        require_moderate(f"{self.path}: {name}", header.shape, header.dtype)
        with ExitStack() as stack:
            return self.rows(name, stack)(header.shape[0])


class Archive(Source):
    """An ``.npz``."""

    def __init__(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                if "header.json" in archive.namelist():
                    raise FileFormatError(f"{path} is a dataset already; train and others read it")
                entries = [e for e in archive.infolist() if e.filename.endswith(".npy")]
                headers = {e.filename[:-4]: _header_of(archive, e) for e in entries}
        except FileFormatError:
            raise
        except _BROKEN as error:
            raise FileFormatError(
                f"{path} is truncated, corrupt or no archive of arrays: {error}"
            ) from error
        super().__init__(path, headers)

    def rows(self, name: str, stack: ExitStack) -> Rows:
        """See ``Source``."""
        header, what = self.headers[name], f"{self.path}: {name}"
        archive = stack.enter_context(zipfile.ZipFile(self.path))
        file = stack.enter_context(archive.open(f"{name}.npy"))
        _read_header(file)
        if header.fortran:  # its rows lie apart
            require_moderate(what, header.shape, header.dtype)
            return following(_filled(file, header.shape[::-1], header.dtype, what).T)
        return lambda count: _filled(file, (count, *header.shape[1:]), header.dtype, what)


class Mapped(Source):
    """Arrays that are mapped into memory."""

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays
        super().__init__(path, {n: Header(a.shape, a.dtype) for n, a in arrays.items()})

    def rows(self, name: str, stack: ExitStack) -> Rows:
        """See ``Source``."""
        return following(self._arrays[name])


def last_part(name: str) -> str:
    """Of a path, lower case: what it is called."""
    return name.rpartition("/")[2].lower()


def following(array: np.ndarray) -> Rows:
    """A function that gives the next entries of an array."""
    place = 0

    def read(count: int) -> np.ndarray:
        nonlocal place
        place += count
        return np.array(array[place - count : place])

    return read


def mapped(root: Path, file: Path) -> np.ndarray:
    """An array of a ``.npy``, mapped into memory.

    Args:
        root: Folder that it must lie in.
        file: Its path.

    Raises:
        FileFormatError: It is truncated, corrupt, a pickle, or leads out of the folder.
    """
    real = inside(root, file)
    try:
        with real.open("rb") as opened:
            pickled = _read_header(opened).dtype.hasobject
        if not pickled:
            return np.load(real, mmap_mode="r", allow_pickle=False)
    except _BROKEN as error:
        raise FileFormatError(f"{file} is truncated, corrupt or no array: {error}") from error
    raise FileFormatError(
        f"{file} is a pickle, and none is read; np.savez(FILE, observations=..., actions=...) "
        "writes what is"
    )


def _header_of(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Header:
    with archive.open(entry) as file:
        header = _read_header(file)
        # A pickle has no size of its own, and is not read.
        if not header.dtype.hasobject and entry.file_size != file.tell() + header.nbytes:
            raise FileFormatError(
                f"{archive.filename}: {entry.filename} declares {header.nbytes:,} bytes and has "
                f"{entry.file_size - file.tell():,}"
            )
    return header


def _read_header(file: Any) -> Header:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read(file)
    return Header(shape, dtype, fortran)


def _filled(file: Any, shape: tuple[int, ...], dtype: np.dtype, what: str) -> np.ndarray:
    """The next numbers of a file."""
    array = np.empty(shape, dtype)
    place: memoryview = array.reshape(-1).view(np.uint8).data
    while len(place):
        try:
            content = file.read(min(len(place), _CHUNK))
        except _BROKEN as error:
            raise FileFormatError(f"{what} is truncated or corrupt: {error}") from error
        if not content:
            raise FileFormatError(f"{what} is truncated")
        place[: len(content)] = content
        place = place[len(content) :]
    return array
