"""``worldmodel empowerment``: the map of a learned model beside that of the true system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from agents.empowerment import (
    DenoiserConfig,
    Dynamics,
    Noise,
    denoised,
    dynamics_of,
    fit_denoiser,
)
from agents.empowerment.agent import ESTIMATORS, EstimatorName
from agents.empowerment.measured import measured_empowerment, measured_sampled
from worldmodel import data
from worldmodel.cli.runs import source_of
from worldmodel.cli.systems import System, system_of
from worldmodel.errors import SpecError, require_at_least
from worldmodel.evaluation.style import (
    SEQUENTIAL,
    VERMILION,
    angle_ticks,
    colour_bar,
    dress,
    figure,
    label,
    save,
)
from worldmodel.files import write_json
from worldmodel.models.base import StateSpaceModel
from worldmodel.models.checkpoint import load

# Steps of random actions before a state is judged: enough for the filter to know it, and too few to
# leave where episodes begin.
_WARM = 5
_MEASURED = {"gaussian": measured_empowerment, "sampled": measured_sampled}


@dataclass(frozen=True)
class Map:
    """Empowerment of states of the real system, as itself and as a model has it.

    Attributes:
        truth: (n, m), the states.
        measured: (n,), of the real system, nats.
        learned: (n,), of the model, nats.
    """

    truth: np.ndarray
    measured: np.ndarray
    learned: np.ndarray

    def metrics(self) -> dict[str, Any]:
        """How alike the two rank the states, and their ranges."""
        return {
            "spearman": rank_correlation(self.learned, self.measured),
            "states": len(self.truth),
            "learned_nats": _range(self.learned),
            "true_nats": _range(self.measured),
        }


def empowerment(
    run: str,
    out: Path = Path("runs/empowerment"),
    states: int = 400,
    steps: int = 10,
    noise: Noise = Noise(),  # noqa: B008 (frozen)
    estimator: EstimatorName = "gaussian",
    seed: int = 0,
) -> dict[str, Any]:
    """Map empowerment over states of the real system, as the model and as the system itself has it.

    The same estimator judges both: a Gaussian channel, linearised around doing nothing or fitted to
    random actions, with noise on the last observations. Of the true system it is measured, in
    environments set to each state; the model is kept on its data by a denoiser. States are those
    that random actions lead to.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one.
        out: Folder for empowerment.png and metrics.json.
        states: How many.
        steps: Actions in a sequence.
        noise: Which noise counts.
        estimator: "gaussian", linearised, or "sampled", fitted.
        seed: Of the random actions and the denoiser.

    Returns:
        What is also written to ``metrics.json``.

    Raises:
        SpecError: The model does not know its environment, its actions are no Box, or the
            environment does not tell its state.
        ConfigError: Process noise is asked for, which the real system has none of.
    """
    require_at_least(2, states=states)
    torch.set_num_threads(1)
    model = load(run).requires_grad_(False)
    denoiser = fit_denoiser(model.support.states, DenoiserConfig(seed=seed))
    dynamics = denoised(dynamics_of(model), denoiser)
    found = map_states(model, dynamics, states, steps, noise, estimator, seed)
    metrics = {**found.metrics(), "steps": steps, "sensor": noise.sensor, "frames": noise.frames}
    out.mkdir(parents=True, exist_ok=True)
    draw_map(found, system_of(source_of(model).env_id), out / "empowerment.png")
    write_json(out / "metrics.json", metrics)
    console = Console()
    console.print_json(data=metrics)
    console.print(f"Look at empowerment.png in {out}")
    return metrics


@torch.no_grad()
def map_states(
    model: StateSpaceModel,
    dynamics: Dynamics,
    states: int = 400,
    steps: int = 10,
    noise: Noise = Noise(),  # noqa: B008 (frozen)
    estimator: EstimatorName = "gaussian",
    seed: int = 0,
) -> Map:
    """Judge states that random actions lead to; arguments and errors as for ``empowerment``.

    Args:
        model: Whose filter and environment are used.
        dynamics: The model's dream, as it is to be judged.
        states: How many.
        steps: Actions in a sequence.
        noise: Which noise counts.
        estimator: As for ``empowerment``.
        seed: Of the random actions.
    """
    source = source_of(model)
    env = source.make_vec(states)
    batch = data.record(env, states, _WARM, data.Uniform(), seed, progress=True)
    env.close()
    if batch.states is None:
        raise SpecError(f"{source.env_id} does not tell its state in info['state']")
    truth = batch.states[:, -1].double().numpy()
    latents = model.filter(batch.observations.numpy(), batch.actions.numpy())[:, -1]
    judge = ESTIMATORS[estimator](dynamics, steps, noise)
    learned = judge(torch.as_tensor(latents, dtype=model.dtype)).numpy()
    with Progress() as bar:
        task = bar.add_task("true system", total=states)
        measured = _MEASURED[estimator](
            source.make_vec,
            truth,
            steps,
            noise,
            progress=lambda done: bar.update(task, completed=done),
        )
    return Map(truth, measured, learned)


def _range(nats: np.ndarray) -> dict[str, float]:
    return {"least": float(nats.min()), "greatest": float(nats.max())}


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's: the correlation of the ranks, which no two values share in practice."""
    first, second = (np.argsort(np.argsort(values)) for values in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def draw_map(found: Map, system: System, path: Path, visited: np.ndarray | None = None) -> Path:
    """Two panels over the first two variables of the state, the true system and the model.

    Args:
        found: What is shown.
        system: Names the variables.
        path: Of the picture.
        visited: (k, m), states that an agent came to, drawn on top.
    """
    across, up = system.plane
    panels = {"true system": found.measured, "learned model": found.learned}
    fig = figure(8.4, 3.6)
    for axes, (title, nats) in zip(fig.subplots(1, 2), panels.items(), strict=True):
        points = axes.scatter(found.truth[:, 0], found.truth[:, 1], c=nats, s=14, cmap=SEQUENTIAL)
        if visited is not None:
            axes.scatter(visited[:, 0], visited[:, 1], c=VERMILION, s=1.5, linewidths=0)
            title = f"{title}; red: the agent"
        dress(axes, label(across), label(up), title)
        if across == "angle":
            angle_ticks(axes.xaxis)
        colour_bar(fig, points, axes, label("empowerment"))
    return save(fig, path)
