"""``worldmodel empowerment``: the map of a learned model beside that of the true system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from rich.console import Console
from rich.progress import Progress

from agents.empowerment import GaussianEmpowerment, Noise, dynamics_of
from agents.empowerment.measured import measured_empowerment
from worldmodel import data
from worldmodel.cli.runs import source_of
from worldmodel.cli.systems import System, system_of
from worldmodel.errors import SpecError, require_at_least
from worldmodel.evaluation.style import (
    SEQUENTIAL,
    angle_ticks,
    colour_bar,
    dress,
    figure,
    label,
    save,
)
from worldmodel.files import write_json
from worldmodel.models.checkpoint import load

# Steps of random actions before a state is judged: enough for the filter to know it, and too few to
# leave where episodes begin.
_WARM = 5


def empowerment(
    run: str,
    out: Path = Path("runs/empowerment"),
    states: int = 400,
    steps: int = 10,
    noise: Noise = Noise(),  # noqa: B008 (frozen)
    seed: int = 0,
) -> dict[str, Any]:
    """Map empowerment over states of the real system, as the model and as the system itself has it.

    The same estimator judges both: a Gaussian channel linearised around doing nothing, with noise
    on the last observations. Of the true system its matrix is measured, in environments set to each
    state. States are those that random actions lead to.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one.
        out: Folder for empowerment.png and metrics.json.
        states: How many.
        steps: Actions in a sequence.
        noise: Which noise counts; process noise is the model's alone.
        seed: Of the random actions.

    Returns:
        What is also written to ``metrics.json``.

    Raises:
        SpecError: The model does not know its environment, its actions are no Box, or the
            environment does not tell its state.
    """
    require_at_least(2, states=states)
    torch.set_num_threads(1)
    model = load(run).requires_grad_(False)
    source = source_of(model)
    system = system_of(source.env_id)
    env = source.make_vec(states)
    batch = data.record(env, states, _WARM, data.Uniform(), seed, progress=True)
    env.close()
    if batch.states is None:
        raise SpecError(f"{source.env_id} does not tell its state in info['state']")
    truth = batch.states[:, -1].double().numpy()
    latents = model.filter(batch.observations.numpy(), batch.actions.numpy())[:, -1]
    estimator = GaussianEmpowerment(dynamics_of(model), steps, noise)
    learned = estimator(torch.as_tensor(latents, dtype=model.dtype)).numpy()
    measured = _measure(source.make_vec, truth, steps, noise)
    metrics = {
        "spearman": rank_correlation(learned, measured),
        "states": states,
        "steps": steps,
        "sensor": noise.sensor,
        "frames": noise.frames,
        "learned_nats": {"least": float(learned.min()), "greatest": float(learned.max())},
        "true_nats": {"least": float(measured.min()), "greatest": float(measured.max())},
    }
    out.mkdir(parents=True, exist_ok=True)
    draw(truth, {"true system": measured, "learned model": learned}, system, out)
    write_json(out / "metrics.json", metrics)
    console = Console()
    console.print_json(data=metrics)
    console.print(f"Look at empowerment.png in {out}")
    return metrics


def _measure(
    make: Callable[[int], VectorEnv], truth: np.ndarray, steps: int, noise: Noise
) -> np.ndarray:
    with Progress() as bar:
        task = bar.add_task("true system", total=len(truth))

        return measured_empowerment(
            make,
            truth,
            steps,
            Noise(noise.sensor, noise.frames),
            progress=lambda done: bar.update(task, completed=done),
        )


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's: the correlation of the ranks, which no two values share in practice."""
    first, second = (np.argsort(np.argsort(values)) for values in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def draw(truth: np.ndarray, maps: dict[str, np.ndarray], system: System, out: Path) -> Path:
    """One panel per map over the first two variables of the state, each with its own colours."""
    across, up = system.plane
    fig = figure(8.4, 3.6)
    for axes, (title, nats) in zip(fig.subplots(1, len(maps)), maps.items(), strict=True):
        points = axes.scatter(truth[:, 0], truth[:, 1], c=nats, s=14, cmap=SEQUENTIAL)
        dress(axes, label(across), label(up), title)
        if across == "angle":
            angle_ticks(axes.xaxis)
        colour_bar(fig, points, axes, label("empowerment"))
    return save(fig, out / "empowerment.png")
