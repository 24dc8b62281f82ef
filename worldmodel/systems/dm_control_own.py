"""What the numbers are called that tasks of dm_control observe, by their ids in Shimmy.

Where their pictures are observed instead, these are the ground truth that latent states are judged
by: Gymnasium flattens the dictionary of vectors, its keys in alphabetical order. Angles that go
round are told by cosine and sine. Source: ``get_observation`` of each domain, and its MuJoCo model.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from worldmodel.evaluation.identification import Targets, named, state_targets
from worldmodel.systems.system import System


def turning(*names: str) -> Targets:
    """Names components of the state; those called ``angle`` become cosine and sine.

    Args:
        names: In the state's order; ``angle_1`` becomes ``cos_1`` and ``sin_1``.
    """
    plain = named(*names)

    def targets(states: Float[np.ndarray, "*n states"]) -> dict[str, Float[np.ndarray, "*n"]]:
        if states.shape[-1] != len(names):
            return state_targets(states)
        told = {}
        for name, values in plain(states).items():
            head, _, which = name.partition("_")
            if head == "angle":
                told |= {f"cos_{which}": np.cos(values), f"sin_{which}": np.sin(values)}
            else:
                told[name] = values
        return told

    return targets


# The reacher's second joint stops short of a turn; its first does not.
_REACHER = ("angle_1", "angle_2", "to_target_x", "to_target_y", "velocity_1", "velocity_2")
_CUP = ("cup_x", "cup_z", "ball_x", "ball_z")
_NAMES = {
    "pendulum": ("cos", "sin", "velocity"),
    "cartpole": ("position", "cos", "sin", "velocity", "angular_velocity"),
    "reacher": _REACHER,
    "ball_in_cup": (*_CUP, *(f"{name[:-2]}_velocity_{name[-1]}" for name in _CUP)),
}
_TASKS = {
    "pendulum": ("swingup",),
    "cartpole": ("balance", "balance_sparse", "swingup", "swingup_sparse"),
    "reacher": ("easy", "hard"),
    "ball_in_cup": ("catch",),
}

SYSTEMS = [
    System(
        f"dm_control/{domain}-{task}-v0",
        targets=turning(*names),
        plane=(names[0], names[1]),
    )
    for domain, names in _NAMES.items()
    for task in _TASKS[domain]
]
