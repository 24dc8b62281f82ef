"""Learn a simulator from frames and actions, and dream in it: the public names.

Importing the package registers the dreams' ids with Gymnasium. All else is imported when it is
first asked for: PyTorch takes seconds.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from worldmodel.world.registration import register

if TYPE_CHECKING:
    from worldmodel.world.env import LatentEnv
    from worldmodel.world.filter import FilterObservation, VectorFilterObservation
    from worldmodel.world.vector_env import LatentVectorEnv
    from worldmodel.world.world import World, load

__version__ = version("worldmodel")
__all__ = [
    "FilterObservation",
    "LatentEnv",
    "LatentVectorEnv",
    "VectorFilterObservation",
    "World",
    "__version__",
    "load",
]
_HOMES = {
    "FilterObservation": "filter",
    "LatentEnv": "env",
    "LatentVectorEnv": "vector_env",
    "VectorFilterObservation": "filter",
    "World": "world",
    "load": "world",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"worldmodel.world.{_HOMES[name]}"), name)
    # Rooms, such as ``worldmodel.data``.
    if name.startswith("_") or find_spec(f"worldmodel.{name}") is None:
        raise AttributeError(f"module 'worldmodel' has no attribute {name!r}")
    return import_module(f"worldmodel.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _alone() -> None:
    """A forked process has none of the threads that torch waits for, if the parent used them."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


register()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone)
