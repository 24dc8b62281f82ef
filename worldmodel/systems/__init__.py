"""Known systems, one file each, and the presets that they bring.

A module here that has a ``SYSTEM`` is one.
"""

from __future__ import annotations

import importlib
import pkgutil

from worldmodel.data import Source, Wrapping
from worldmodel.errors import ConfigError
from worldmodel.spaces import ObservationSpace
from worldmodel.systems.preset import PRESETS, Preset
from worldmodel.systems.system import System

_MODULES = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
SYSTEMS: dict[str, System] = {
    module.SYSTEM.env_id: module.SYSTEM for module in _MODULES if hasattr(module, "SYSTEM")
}
PRESETS |= {name: preset for system in SYSTEMS.values() for name, preset in system.presets.items()}
# What a demo can be run of: presets that bring an environment with them.
DEMOS: dict[str, System] = {name: system for system in SYSTEMS.values() for name in system.presets}

__all__ = ["DEMOS", "PRESETS", "SYSTEMS", "Preset", "System", "preset", "preset_for", "system_of"]


def system_of(env_id: str) -> System:
    """What is known about an environment; little, if it is not one of ours."""
    return SYSTEMS.get(env_id.rpartition(":")[2], System())


def preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        ConfigError: There is none; the message names those that there are.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def preset_for(observations: ObservationSpace, source: Source | None = None) -> str:
    """Name of the preset that suits data: a known system's own, else by what is observed.

    Args:
        observations: Of the data.
        source: The environment that they come from, if that is known. A system's preset is for
            its own pictures, as they come.
    """
    if source is not None and source.wrapping == Wrapping() and observations.content == "pictures":
        known = system_of(source.env_id).presets
        if known:
            return next(iter(known))
    return observations.content
