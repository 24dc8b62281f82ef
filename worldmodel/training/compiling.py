"""Networks by ``torch.compile``, where that can be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec

import torch
from torch import nn

_COMPILERS = ("g++", "clang++", "c++")


def compile_networks(model: nn.Module, device: torch.device) -> bool | str:
    """Compile a model's networks in place, at their first use; or say why that cannot be.

    Loops over time, and all that draws, stay as they are: the one is written out already
    (``models/fused_inference.py``), the other takes generators, which ``torch.compile`` does not.

    Args:
        model: Whose weights keep their names.
        device: Where it computes.

    Returns:
        True, or the reason why nothing is compiled.
    """
    if device.type == "cpu" and not _compiler():
        return f"torch.compile needs a C++ compiler on the CPU: CXX, or {', '.join(_COMPILERS)}"
    if device.type == "cuda" and find_spec("triton") is None:
        return "torch.compile needs triton on a GPU, which is not installed"
    for network in _networks(model):
        network.compile()
    return True


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [named] if named else _COMPILERS)), None)


def _networks(module: nn.Module) -> Iterator[nn.Sequential]:
    """The outermost chains of layers: from tensors to tensors, and nothing beside."""
    for child in module.children():
        if isinstance(child, nn.Sequential):
            yield child
        else:
            yield from _networks(child)
