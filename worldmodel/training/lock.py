"""One trainer at a time in a run folder."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from worldmodel.errors import FolderInUse
from worldmodel.files import naming

try:
    import fcntl
except ImportError:  # not on Windows, where folders are not locked
    fcntl = None

# File systems that know no locks.
_UNKNOWN = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file's lock while the block runs; it says who holds it, and since when.

    The kernel frees the lock of a process that is gone: what a killed one wrote there is stale and
    stands in nobody's way. Files can be read beside it as ever.

    Args:
        path: Is made where it is missing, with its folder, and stays.

    Raises:
        FolderInUse: Another process holds it; the message names its number, machine and time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    since = datetime.now(UTC).isoformat(timespec="seconds")
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    with path.open("ab+", buffering=0) as file:
        _lock(file, path)
        with naming(path):
            file.truncate(0)
            file.write(json.dumps(owner).encode())
        yield
        file.truncate(0)


def _lock(file: BinaryIO, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FolderInUse(f"{path.parent} is in use by {_owner(file)}") from None
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
