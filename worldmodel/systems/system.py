"""What is known of a system beside its environment; what is left out is what is known of any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agents.rollout import Rollout
from worldmodel.data import Provenance, Source, Zero, record
from worldmodel.data.environments import observed
from worldmodel.evaluation.identification import Targets, state_targets
from worldmodel.evaluation.prediction import Predictor
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.systems.preset import Preset
from worldmodel.types import Batch


@dataclass(frozen=True)
class System:
    """One kind of real system.

    Attributes:
        env_id: Of the environment; "module:id" imports its module first.
        targets: Names the ground-truth variables to regress.
        unactuated: Records one episode without control for the latent walk, or gives None.
        baselines: What predictions are compared with beside the last frame and the mean frame.
        task_start: Reset options of n episodes from which the task is judged.
        task_metrics: What is reported of real episodes beside their return.
        plane: Names of the first two variables of the ground truth.
        action_unit: Of every component of an action; empty if it is not known, or there is none.
        presets: By name. The first is the default for the system's own observations.
        controlled: Whether actions do anything.
        refines: Name of the generic preset of those observations.
    """

    env_id: str = ""
    targets: Targets = state_targets
    unactuated: Callable[[Provenance], Batch | None] = lambda provenance: None
    baselines: Callable[[Provenance], Mapping[str, Predictor]] = lambda provenance: {}
    task_start: Callable[[int, int], dict[str, Any] | None] = lambda n, seed: None
    task_metrics: Callable[[Rollout], dict[str, float]] = lambda real: {}
    plane: tuple[str, str] = ("state_0", "state_1")
    action_unit: str = ""
    presets: Mapping[str, Preset] = field(default_factory=dict)
    controlled: bool = True
    refines: str = "pictures"

    def spaces(self, env_kwargs: dict[str, Any]) -> tuple[ObservationSpace, ActionSpace]:
        """What the environment shows and what it takes."""
        env = Source(self.env_id, env_kwargs).make()
        env.close()
        return observed(env.observation_space), ActionSpace.from_space(env.action_space)


def free(options: dict[str, Any] | None = None) -> Callable[[Provenance], Batch | None]:
    """Records 100 steps without control after a reset with these options."""

    def record_one(provenance: Provenance) -> Batch | None:
        if provenance.source is None:
            return None
        env = provenance.source.make_vec(1)
        batch = record(env, 1, 100, Zero(), seed=0, options=options)
        env.close()
        return batch

    return record_one
