"""What the numbers are called that tell the state of PC3's tasks; see ``benchmarks/pc3.py``."""

from __future__ import annotations

from worldmodel.evaluation.identification import named
from worldmodel.systems.system import System

_NAMES = {
    "PC3Planar-v0": ("row", "column"),
    "PC3Pendulum-v0": ("cos", "sin", "velocity"),
    "PC3CartPole-v0": ("position", "velocity", "angle", "angular_velocity"),
}

SYSTEMS = [
    System(env_id, targets=named(*names), plane=(names[0], names[1]))
    for env_id, names in _NAMES.items()
]
