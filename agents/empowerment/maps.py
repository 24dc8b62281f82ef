"""Maps of empowerment: the same real states judged as they are, and as a learned model has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.empowerment.agent import ESTIMATORS, EmpoweredConfig
from agents.empowerment.dynamics import Dynamics
from agents.empowerment.measured import measured_empowerment, measured_sampled
from worldmodel import data
from worldmodel.errors import SpecError
from worldmodel.progress import Progress
from worldmodel.world.world import World

# Steps of random actions before a state is judged: enough for the filter to know it, and too few to
# leave where episodes begin.
_WARM = 5
_MEASURED = {"gaussian": measured_empowerment, "sampled": measured_sampled}


class Places(NamedTuple):
    """Real states (n, m), and the filter's beliefs (n, latent) about them."""

    truth: np.ndarray
    latents: Tensor


@dataclass(frozen=True)
class Map:
    """Empowerment of states of the real system, as itself and as a model has it.

    Attributes:
        truth: The states.
        measured: Of the real system, nats.
        learned: Of the model, nats.
    """

    truth: Float[np.ndarray, "n m"]
    measured: Float[np.ndarray, " n"]
    learned: Float[np.ndarray, " n"]

    def metrics(self) -> dict[str, Any]:
        """How alike the two rank the states, and their ranges."""
        return {
            "spearman": rank_correlation(self.learned, self.measured),
            "states": len(self.truth),
            "learned_nats": _range(self.learned),
            "true_nats": _range(self.measured),
        }


@torch.no_grad()
def babbled(world: World, states: int = 400, seed: int = 0) -> Places:
    """Real states that random actions lead to.

    Args:
        world: Whose filter and environment are used.
        states: How many.
        seed: Of the random actions.

    Raises:
        SpecError: The model does not know its environment, or that does not tell its state.
    """
    source = world.require_source()
    env = source.make_vec(states)
    batch = data.record(env, states, _WARM, data.Uniform(), seed, progress=True)
    env.close()
    if batch.states is None:
        raise SpecError(f"{source.env_id} does not tell its state in info['state']")
    latents = world.filter(batch.observations.numpy(), batch.actions.numpy())[:, -1]
    truth = batch.states[:, -1].double().numpy()
    return Places(
        truth, torch.as_tensor(latents, dtype=world.model.dtype, device=world.model.device)
    )


@torch.no_grad()
def map_states(
    places: Places, dynamics: Dynamics, source: data.Source, config: EmpoweredConfig
) -> Map:
    """Judge states by one estimator, in the real system and in the dream.

    Args:
        places: The states.
        dynamics: The dream, as it is to be judged.
        source: Makes the real system.
        config: Says what empowerment is: estimator, steps and noise.

    Raises:
        ConfigError: Process noise is asked for, which the real system has none of.
    """
    judge = ESTIMATORS[config.estimator](dynamics, config.steps, config.noise)
    learned = judge(places.latents).cpu().numpy()
    with Progress() as bar:
        task = bar.add_task("true system", total=len(places.truth))
        measured = _MEASURED[config.estimator](
            source.make_vec,
            places.truth,
            config.steps,
            config.noise,
            progress=lambda done: bar.update(task, completed=done),
        )
    return Map(places.truth, measured, learned)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's: the correlation of the ranks, which no two values share in practice."""
    first, second = (np.argsort(np.argsort(values)) for values in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def _range(nats: np.ndarray) -> dict[str, float]:
    return {"min": float(nats.min()), "max": float(nats.max())}
