"""What the command line knows about the real systems that ship, and about all others.

The packages below it know nothing of any particular system.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.evaluation import upright_share
from agents.rollout import Rollout
from worldmodel.data import Provenance, Zero, record
from worldmodel.evaluation.identification import Targets, pendulum_targets, state_targets
from worldmodel.types import Batch


@dataclass(frozen=True)
class System:
    """One kind of real system.

    Attributes:
        targets: Names the ground-truth variables to regress.
        unactuated: Records one episode without control for the latent walk, or gives None.
        task_start: Reset options of n episodes from which the task is judged.
        task_metrics: What is reported of real episodes beside their return.
    """

    targets: Targets
    unactuated: Callable[[Provenance], Batch | None]
    task_start: Callable[[int, int], dict[str, Any] | None]
    task_metrics: Callable[[Rollout], dict[str, float]]


def hanging(n: int, seed: int) -> dict[str, Any]:
    """Reset options: n pendulums at rest below, each up to 0.1 rad and 0.1 rad/s off."""
    offset = np.random.default_rng(seed).uniform(-0.1, 0.1, (n, 2))
    return {"state": np.array([np.pi, 0.0]) + offset}


def _free_pendulum(provenance: Provenance) -> Batch:
    """100 steps from the side without torque."""
    env = provenance.source.make_vec(1)
    batch = record(env, 1, 100, Zero(), seed=0, options={"state": (np.pi / 3, 0.0)})
    env.close()
    return batch


def _upright(real: Rollout) -> dict[str, float]:
    assert real.states is not None, "the pendulum always tells its state"
    return {"upright_share": upright_share(real.states)}


PENDULUM = System(pendulum_targets, _free_pendulum, hanging, _upright)
UNKNOWN = System(state_targets, lambda _: None, lambda n, seed: None, lambda real: {})


def system_of(env_id: str) -> System:
    """What is known about an environment; little, if it is not one of ours."""
    return PENDULUM if env_id.rpartition(":")[2] == "worldmodel/Pendulum-v0" else UNKNOWN
