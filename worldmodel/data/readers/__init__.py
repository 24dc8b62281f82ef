"""Recordings of other formats, one file a format."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from worldmodel.data.folders import is_dataset
from worldmodel.data.readers import arrays, hdf5, lerobot, minari, tables
from worldmodel.data.readers.recording import Column, Recording, Table
from worldmodel.errors import ConfigError, FileFormatError

# The most particular first: the first that recognises a source reads it.
FORMATS: dict[str, ModuleType] = {
    "lerobot": lerobot,
    "minari": minari,
    "hdf5": hdf5,
    "arrays": arrays,
    "tables": tables,
}

__all__ = ["FORMATS", "Column", "Recording", "Table", "open_recording"]


def open_recording(
    path: str | Path, form: str | None = None, episode: str | None = None
) -> Recording:
    """A source, recognised.

    Args:
        path: A file or folder, or the id of a Minari dataset on this machine.
        form: Name of its format; by default it is told by its names and first bytes.
        episode: Column that tells the episodes of tables apart; by default one that is called so.

    Raises:
        FileNotFoundError: There is nothing there.
        FileFormatError: It is of no known format, truncated or corrupt.
        ConfigError: There is no such format, or it has no column of episodes.
        SpecError: There is no such column.
        MissingExtraError: Its format needs a package that is not installed.
    """
    path = Path(path)
    if form is not None:
        if form not in FORMATS:
            raise ConfigError(f"the format must be one of {', '.join(FORMATS)}, got {form!r}")
        return _read(FORMATS[form], path, episode)
    if is_dataset(path):
        raise FileFormatError(f"{path} is a dataset already; train and others read it")
    for module in FORMATS.values():
        if (path.exists() or module is minari) and module.recognises(path):
            return _read(module, path, episode)
    if not path.exists():
        raise FileNotFoundError(f"there is no recording at {path}")
    raise FileFormatError(
        f"{path} is no recording of a known format ({', '.join(FORMATS)}); docs/recordings.md says "
        "how each looks"
    )


def _read(module: ModuleType, path: Path, episode: str | None) -> Recording:
    if episode is None:
        return module.read(path)
    if module is not tables:
        raise ConfigError(f"--map episode={episode} is for tables, and {path} is none")
    return tables.read(path, episode)
