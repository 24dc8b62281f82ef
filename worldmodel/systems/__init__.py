"""Known systems, one file each, and the presets that they bring.

A module here that has a ``SYSTEM`` is one: nothing else has to be told of it. One that has
``SYSTEMS`` says little of many; what a file says of one goes before it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from agents.empowerment import EmpoweredConfig
from worldmodel.data import Source, Wrapping
from worldmodel.errors import ConfigError, meant
from worldmodel.spaces import ObservationSpace
from worldmodel.systems.preset import GENERIC, Preset
from worldmodel.systems.system import System

__all__ = [
    "DEMOS",
    "PRESETS",
    "SYSTEMS",
    "Preset",
    "System",
    "preset",
    "preset_for",
    "preset_without_reward",
    "system_of",
]


def gathered(systems: Iterable[System]) -> dict[str, System]:
    """The system of every preset that one brings, by the preset's name.

    Raises:
        ConfigError: Two presets have the same name.
    """
    owners: dict[str, System] = {}
    for system in systems:
        for name in system.presets:
            if name in owners or name in GENERIC:
                raise ConfigError(
                    f"preset names must be unique: {system.env_id} brings another {name!r}"
                )
            owners[name] = system
    return owners


_MODULES = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
# By the id of their environments.
SYSTEMS: dict[str, System] = {
    system.env_id.rpartition(":")[2]: system
    for module in sorted(_MODULES, key=lambda module: hasattr(module, "SYSTEM"))
    for system in getattr(module, "SYSTEMS", [module.SYSTEM] if hasattr(module, "SYSTEM") else [])
}
# What there can be a demo of: presets that bring an environment with them.
DEMOS: dict[str, System] = gathered(SYSTEMS.values())
PRESETS: dict[str, Preset] = GENERIC | {
    name: system.presets[name] for name, system in DEMOS.items()
}


def system_of(env_id: str) -> System:
    """What is known about an environment; little, if it is not one of ours."""
    return SYSTEMS.get(env_id.rpartition(":")[2], System())


def preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        ConfigError: There is none; the message names those that there are.
    """
    if name not in PRESETS:
        known = f"preset must be one of {', '.join(PRESETS)}, got {name!r}"
        raise ConfigError(known + meant(name, PRESETS))
    return PRESETS[name]


def preset_for(observations: ObservationSpace, source: Source | None = None) -> str:
    """Name of the preset that suits data: a known system's own, else by what is observed.

    Args:
        observations: Of the data.
        source: The environment that they come from, if that is known. A system's preset is for
            its own pictures, as they come.
    """
    if source is not None and source.wrapping == Wrapping():
        known = system_of(source.env_id)
        if known.presets and known.refines == observations.preset:
            return next(iter(known.presets))
    return observations.preset


def preset_without_reward(system: System) -> Preset | None:
    """The preset by which an agent lives by its empowerment in a system, if there is one."""
    empowered = (p for p in system.presets.values() if isinstance(p.agent, EmpoweredConfig))
    return next(empowered, None)
