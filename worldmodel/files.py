"""Write files whole or not at all."""

from __future__ import annotations

import errno
import glob
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, get_type_hints

from worldmodel.errors import FileFormatError, FolderInUse

try:
    import fcntl
except ImportError:  # not on Windows, where folders are not locked
    fcntl = None

# Seconds after which what a killed process left of a file is cleared by who writes it next.
_LEFT = 3600.0
_RANDOM = 6  # bytes that tell one new file from another
LOCK = ".lock"
# What file systems say that know no locks.
_UNKNOWN = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have errors of the system, such as that of a full disk, tell which file they are about."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def whole(path: str | Path) -> Iterator[BinaryIO]:
    """A new file that takes its place if, and only if, the block succeeds.

    Missing folders are made. Nobody ever sees a part of the file, and an earlier one stays as it
    was until the new one is complete and on disk.

    Raises:
        FileExistsError: A folder, a device or a pipe is there.
        OSError: The file cannot be written; the error names it.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "this is no file, and is not replaced", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_old(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(_RANDOM)}.tmp")
    try:
        with naming(path), temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def leftovers(path: Path) -> Iterator[Path]:
    """What processes that write a file by way of ``whole``, or were killed at it, have of it."""
    return path.parent.glob(f".{glob.escape(path.name)}.*.tmp")


def clear_old(path: Path) -> None:
    """Delete those that nobody has written to for an hour: who began them was killed."""
    for left in leftovers(path):
        with suppress(FileNotFoundError):
            written = max(part.stat().st_mtime for part in (left, *left.rglob("*")))
            if time.time() - written > _LEFT:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def clear_leftovers(path: Path) -> None:
    """Delete them; only whoever keeps other writers out may do so: their writers were killed."""
    for left in leftovers(path):
        left.unlink(missing_ok=True)


def clear_folder(folder: Path) -> None:
    """Delete those of all files in a folder and below; likewise."""
    for left in folder.rglob(f".*.{'?' * 2 * _RANDOM}.tmp"):
        if left.is_file():
            left.unlink(missing_ok=True)


def write_whole(path: str | Path, data: bytes | memoryview) -> Path:
    """Write bytes by way of ``whole``, and return the path."""
    with whole(path) as file:
        file.write(data)
    return Path(path)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new, empty folder that takes the place of ``folder`` if, and only if, the block succeeds.

    Missing parents are made. Whoever is killed in between leaves the earlier one where it is, or as
    ``previous_folder``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name, so that what a killed process left is cleared by the next.
    fresh = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        previous = previous_folder(folder)
        if folder.exists():
            shutil.rmtree(previous, ignore_errors=True)
            os.rename(folder, previous)
        os.rename(fresh, folder)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def previous_folder(folder: Path) -> Path:
    """Where the earlier one is while ``whole_folder`` exchanges it."""
    return folder.parent / f".{folder.name}.previous"


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keep other writers out of a folder while the block runs; all may read it.

    Its ``.lock`` says who is writing, and since when. The kernel frees the lock of a process that
    is gone: what a killed one wrote there is stale and stands in nobody's way.

    Args:
        folder: Is made where it is missing.

    Raises:
        FolderInUse: Another process is writing to it; the message names its number, machine and
            time.
        OSError: The folder cannot be written to.
    """
    path = Path(folder) / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    since = datetime.now(UTC).isoformat(timespec="seconds")
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    with path.open("ab+", buffering=0) as file:
        _lock(file, path.parent)
        with naming(path):
            file.truncate(0)
            file.write(json.dumps(owner).encode())
        try:
            yield
        finally:
            file.truncate(0)
            if fcntl is not None:
                # A process that was forked meanwhile has the file open, too.
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)


def _lock(file: BinaryIO, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FolderInUse(f"{folder} is in use by {_owner(file)}") from None
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise


def _owner(file: BinaryIO) -> str:
    file.seek(0)
    try:
        owner = json.loads(file.read())
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


def sync_folder(folder: str | Path) -> None:
    """Wait until the disk knows which files a folder has."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: str | Path) -> dict[str, Any]:
    """What ``write_json`` wrote.

    Raises:
        FileFormatError: It is truncated or corrupt.
    """
    try:
        tree = json.loads(Path(path).read_text())
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is truncated or corrupt: {error}") from error
    if not isinstance(tree, dict):
        raise FileFormatError(f"{path} is corrupt: it holds no object, but {tree!r:.80}")
    return tree


def write_json(path: str | Path, tree: dict[str, Any]) -> Path:
    """Write strict JSON: a number that is not finite raises ``ValueError``."""
    return write_whole(path, (json.dumps(tree, indent=2, allow_nan=False) + "\n").encode())


def from_plain(kind: Any, plain: dict[str, Any]) -> Any:
    """A dataclass from what ``dataclasses.asdict`` and JSON made of it, nested ones included.

    Raises:
        TypeError: ``plain`` is no dictionary, or has a field that the dataclass has not.
    """
    if not isinstance(plain, dict):
        raise TypeError(f"expected the fields of {kind.__name__}, got {plain!r}")
    hints = get_type_hints(kind)
    return kind(
        **{
            name: from_plain(hints[name], value) if is_dataclass(hints.get(name)) else value
            for name, value in plain.items()
        }
    )
