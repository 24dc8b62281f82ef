"""Arrays of NumPy, ``.npz`` and ``.npy``: of all episodes, or in files of their own.

How episodes lie in the arrays of one file says ``layout``, which files belong together ``apart``.
"""

from __future__ import annotations

from pathlib import Path

from worldmodel.data.readers import apart
from worldmodel.data.readers.blocks import described
from worldmodel.data.readers.recording import Recording
from worldmodel.data.readers.stored import Archive, Mapped, mapped


def recognises(path: Path) -> bool:
    """Whether a path looks like arrays of NumPy."""
    if path.is_dir():
        return apart.holds(path) or bool(apart.subfolders(path))
    return path.suffix == ".npz"


def read(path: Path) -> Recording:
    """Open an ``.npz``, or a folder that holds arrays or whose folders do.

    Raises:
        FileFormatError: It is truncated or corrupt, holds no arrays of numbers, or is a dataset of
            this package.
    """
    if not path.is_dir():
        return described(path, Archive(path))
    if (found := apart.read(path)) is not None:
        return found
    return described(path, Mapped(path, {f.stem: mapped(path, f) for f in path.glob("*.npy")}))
