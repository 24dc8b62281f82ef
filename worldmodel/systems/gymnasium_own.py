"""What the numbers are called that Gymnasium's own environments observe.

Where their pictures are observed instead, these are the ground truth that latent states are judged
by. Source: the environments' pages in Gymnasium's documentation.
"""

from __future__ import annotations

from worldmodel.evaluation.identification import named
from worldmodel.systems.system import System

_CAR = ("position", "velocity")
_POLE = ("position", "velocity", "angle", "angular_velocity")
_NAMES = {
    "Pendulum-v1": ("cos", "sin", "velocity"),
    "CartPole-v1": _POLE,
    "Acrobot-v1": ("cos_1", "sin_1", "cos_2", "sin_2", "velocity_1", "velocity_2"),
    "MountainCar-v0": _CAR,
    "MountainCarContinuous-v0": _CAR,
    "LunarLander-v3": (
        "x",
        "y",
        "velocity_x",
        "velocity_y",
        "angle",
        "angular_velocity",
        "left_leg",
        "right_leg",
    ),
    "InvertedPendulum-v5": ("position", "angle", "velocity", "angular_velocity"),
    "Reacher-v5": (
        "cos_1",
        "cos_2",
        "sin_1",
        "sin_2",
        "target_x",
        "target_y",
        "velocity_1",
        "velocity_2",
        "to_target_x",
        "to_target_y",
    ),
}

SYSTEMS = [
    System(env_id, targets=named(*names), plane=(names[0], names[1]))
    for env_id, names in _NAMES.items()
]
