"""``worldmodel report``: all there is to see of a run, on one page that needs no network."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import Progress

from agents.empowerment import GaussianEmpowerment, dynamics_of
from agents.recording import record_agent
from worldmodel import data, html, load
from worldmodel.cli.runs import POLICY, frames_per_second, metrics_of, policy_of, source_of
from worldmodel.cli.suited import demo_of
from worldmodel.cli.systems import system_of
from worldmodel.cli.table import result_rows
from worldmodel.errors import SpecError, require_at_least, require_extra
from worldmodel.plots import page
from worldmodel.plots.curves import (
    filter_convergence,
    imagination_curves,
    prediction_error,
    training_curves,
)
from worldmodel.plots.dream import dream_film
from worldmodel.plots.imagination import Imagination, imagine
from worldmodel.plots.latent_plots import colourings, project
from worldmodel.plots.space import latent_space_plot
from worldmodel.training.trainer import read_history
from worldmodel.types import Batch
from worldmodel.world.world import World

# Episodes and steps of each: of some two thousand points of the latent space, and of a film.
_SPACE, _FILM = (140, 14), (3, 74)
_LOOKED, _DREAMS = 15, 8
_CHUNK = 200  # states whose empowerment is judged at once
_VARIABLES = 8  # of the true state, at most, to colour by

# What an evaluation has drawn from samples that it alone has.
_KEPT = {
    "strips.png": "What was, reconstructions, and what the model generates from the first state on",
    "latent_space.png": "Sampled latents, and the true state read off them by linear regression",
    "checkerboard.png": "Position and velocity where the latent state holds them",
    "latent_walks.png": "A walk without control, dreamt and filtered, from the same state",
}


def report(
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    out: Path | None = None,
    dataset: Path | None = None,
    seed: int = 0,
) -> Path:
    """Write one HTML page of a run: its metrics, figures, films, and a latent space to turn.

    The page opens from disk and needs no network. What it shows of reality is the test split of the
    run's data, or recorded afresh under random actions.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one.
        out: File to write; by default report.html in the run folder, or in runs/report/NAME for a
            bundled one.
        dataset: File from ``worldmodel collect`` whose test split is shown; by default data.npz in
            the run folder, if there is one.
        seed: Of what is recorded, and of dreams.

    Returns:
        The file written.

    Raises:
        SpecError: There are no data, and the model does not know its environment.
        MissingExtraError: plotly is not installed.
    """
    require_extra("plotly", "report")
    require_at_least(0, seed=seed)
    torch.set_num_threads(1)
    world, folder, console = load(run), Path(run), Console()
    if dataset is None and (folder / "data.npz").is_file():
        dataset = folder / "data.npz"
    out = out or (folder if folder.is_dir() else Path("runs/report") / run) / "report.html"
    metrics = metrics_of(run)
    many, few = _reality(world, dataset, seed)
    with Progress() as bar:
        parts = [
            page.paragraph(_summary(world)),
            page.section("Measured", _measured(world, metrics)),
            page.section("Latent space", _space(world, many, bar)),
            page.section("Films", *_films(world, run, few, seed, bar)),
            page.section("Figures", *_figures(folder, metrics)),
            page.section(
                "All numbers", page.details("metrics.json", json.dumps(metrics, indent=2))
            ),
        ]
    written = page.write_page(out, f"{folder.resolve().name}: a learned world model", parts)
    console.print(f"Open {written} ({written.stat().st_size / 1e6:.1f} MB) in a browser")
    return written


def _reality(world: World, dataset: Path | None, seed: int) -> list[Batch]:
    """Real episodes for the latent space and for the film."""
    sizes = (_SPACE, _FILM)
    if dataset is not None:
        recorded = data.load(dataset)
        recorded.check_fits(world.model.observation_spec, world.model.action_spec)
        test = recorded.test
        return [test[:episodes].window(0, min(steps, test.steps)) for episodes, steps in sizes]
    source, batches = source_of(world), []
    for episodes, steps in sizes:
        env = source.make_vec(episodes)
        batches.append(data.record(env, episodes, steps, data.Uniform(), seed, progress=True))
        env.close()
    return batches


def _summary(world: World) -> str:
    size = sum(parameter.numel() for parameter in world.model.parameters())
    source = f", trained on {world.source.env_id}" if world.source else ""
    return (
        f"{type(world.model).__name__} with {world.model.latent_size} latent dimensions and "
        f"{size:,} parameters{source}. It observes "
        f"{world.model.observation_spec.describe()}; actions are "
        f"{world.model.action_spec.describe()}."
    )


def _measured(world: World, metrics: dict[str, Any]) -> str:
    """The table that the command line prints, the paper's numbers in it."""
    if "bound" not in metrics:
        return page.paragraph("Not measured yet; 'worldmodel evaluate' does.")
    demo = demo_of(world.source, world.model.observation_spec)
    paper = demo.paper if demo else {}
    head = ["test set", "here", *(["Karl et al. 2017"] if paper else [])]
    rows = [row[: len(head)] for part in result_rows(metrics, paper) for row in part]
    return html.table(head, rows)


def _films(world: World, run: str, random: Batch, seed: int, bar: Progress) -> list[str]:
    """What the model imagines under random actions, and under its agent's if it has one."""
    shown = {"Under random actions": random}
    acts = (Path(run) / POLICY).is_file()
    task = bar.add_task("films", total=1 + acts)
    fps = 10.0
    if world.source is not None:
        env = world.source.make_vec(_FILM[0])
        fps = frames_per_second(env, world.source.wrapping)
        if acts:
            agent = policy_of(run, world)
            start = system_of(world.source.env_id).task_start(_FILM[0], seed)
            shown["Under the agent that was trained in the dream"] = record_agent(
                agent, world, env, _FILM[1], seed, start
            )
        env.close()
    parts = []
    for title, batch in shown.items():
        frames = int(batch.frame_mask.sum(1).max())
        looked = max(1, min(_LOOKED, frames // 2))
        parts.append(_film(imagine(world, batch, looked, _DREAMS, seed), title, fps))
        bar.advance(task)
    return parts


def _film(imagination: Imagination, title: str, fps: float) -> str:
    """A film, or curves if there are no pixels."""
    caption = (
        f"{title}: what was, what the filter makes of it, and what the model imagines after "
        f"{imagination.looked} frames, without noise and with; the spread is the standard "
        f"deviation of {len(imagination.dreams)} noisy dreams."
    )
    if imagination.real.dtype != np.uint8:
        return _drawn(partial(imagination_curves, imagination), caption)
    return page.film(dream_film(imagination, fps), fps, caption)


def _space(world: World, batch: Batch, bar: Progress) -> str:
    """Filtered states after every recorded step, coloured by all that is known of them."""
    if world.model.latent_size < 2:
        return page.paragraph("A latent state of one dimension is not drawn.")
    mask = batch.mask.numpy()
    latents = world.filter(batch.observations.numpy(), batch.actions.numpy())[:, 1:][mask]
    variables: dict[str, np.ndarray] = {}
    if batch.states is not None:
        targets = system_of(world.source.env_id if world.source else "").targets
        truth = colourings(targets(batch.states[:, 1:].numpy()[mask]))
        variables |= dict(list(truth.items())[:_VARIABLES])
    variables["reward"] = batch.rewards.numpy()[mask]
    variables |= _empowerment(world, latents, bar)
    points, names = project(latents, 3)
    caption = (
        "Filtered states under random actions. Drag to turn, scroll to come closer; the buttons "
        "choose what the colour shows."
    )
    return latent_space_plot(points, names, variables) + page.paragraph(caption)


def _empowerment(world: World, latents: np.ndarray, bar: Progress) -> dict[str, np.ndarray]:
    """Nats of each state, by name; nothing if the estimator does not know such actions."""
    try:
        estimator = GaussianEmpowerment(dynamics_of(world))
    except SpecError:
        return {}
    chunks = torch.as_tensor(latents, dtype=world.model.dtype).split(_CHUNK)
    nats = [estimator(states) for states in bar.track(chunks, description="empowerment")]
    return {"empowerment": torch.cat(nats).numpy()}


def _figures(folder: Path, metrics: dict[str, Any]) -> list[str]:
    """Those that numbers suffice for, and those that an evaluation left in the run folder."""
    parts = []
    if "prediction_mse" in metrics:
        parts += [
            _drawn(partial(prediction_error, metrics), "Error of predictions by their horizon"),
            _drawn(partial(filter_convergence, metrics), "How fast the filter finds the state"),
        ]
    if history := read_history(folder):
        parts.append(_drawn(partial(training_curves, history), "The course of training"))
    kept = {folder / name: caption for name, caption in _KEPT.items()}
    return parts + [page.picture(p, caption) for p, caption in kept.items() if p.is_file()]


def _drawn(draw: Callable[[Path], Any], caption: str) -> str:
    with TemporaryDirectory() as folder:
        return page.picture(draw(Path(folder) / "figure.png"), caption)
