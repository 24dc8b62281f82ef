"""Tensors in one safetensors file, whose metadata say what they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from worldmodel.errors import FileFormatError, SpecError
from worldmodel.files import write_whole

# What making something of tensors and metadata raises that are not as they were written.
_UNFIT = (SafetensorError, SpecError, KeyError, RuntimeError, TypeError, ValueError)


def write(
    path: str | Path, kind: str, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> None:
    """Write them, whole or not at all.

    Args:
        path: Of the file.
        kind: What it is, and of which version.
        metadata: All else that is to be known.
        tensors: No two of which share memory.
    """
    write_whole(path, serialize(dict(tensors), {"format": kind, **metadata}))


@contextmanager
def opened(path: str | Path, kind: str) -> Iterator[tuple[dict[str, str], dict[str, Tensor]]]:
    """Metadata and tensors, which the block makes something of.

    Raises:
        FileFormatError: The file is truncated, corrupt, foreign or of another version, or the block
            cannot make anything of it.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if metadata.get("format") != kind:
            raise FileFormatError(f"{path} is no {kind}: its metadata are {metadata}")
        yield metadata, tensors
    except FileFormatError:
        raise
    except _UNFIT as error:
        raise FileFormatError(f"{path} is truncated or corrupt: {error}") from error


def kind_of(path: str | Path) -> str | None:
    """What a file says it is, if it is one of these."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format")
    except SafetensorError:
        return None
