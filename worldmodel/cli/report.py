"""``worldmodel report``: all there is to see of a run, on one page that needs no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.empowerment import GaussianEmpowerment, dynamics_of
from agents.recording import record_agent
from worldmodel import data, load
from worldmodel.cli.arguments import Run
from worldmodel.cli.console import say
from worldmodel.cli.runs import (
    POLICY,
    SAC,
    VERDICT,
    folder_of,
    metrics_of,
    policy_of,
    preset_of,
    recorded_of,
    require_same_system,
)
from worldmodel.errors import SpecError, require_at_least, require_extra
from worldmodel.evaluation.shortcomings import shortcomings, unlearned
from worldmodel.files import read_json
from worldmodel.plots import page
from worldmodel.plots import report as parts
from worldmodel.plots.imagination import imagine
from worldmodel.plots.latent_plots import colourings
from worldmodel.plots.verdict import verdict_section
from worldmodel.progress import Progress
from worldmodel.systems import PRESETS, system_of
from worldmodel.types import Batch, to_numpy
from worldmodel.world.world import World

# Episodes and steps of each: of some two thousand points of the latent space, and of a film.
_SPACE, _FILM = (140, 14), (3, 74)
_LOOKED, _DREAMS = 15, 8
_CHUNK = 200  # states whose empowerment is judged at once
_VARIABLES = 8  # of the true state, at most, to colour by


def report(
    run: Run,
    out: Path | None = None,
    dataset: Path | None = None,
    force: bool = False,
    seed: int = 0,
) -> Path:
    """Write one HTML page of a run: its metrics, figures, films, and a latent space to turn.

    The page opens from disk and needs no network. What it shows of reality is the test split of the
    run's data, or recorded afresh under random actions.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one.
        out: File to write; by default report.html in the run folder, or in runs/report/NAME for a
            bundled one.
        dataset: Folder from ``worldmodel collect`` whose test split is shown; by default data in
            the run folder, if there is any.
        force: Whether to show data of another system than the one trained on.
        seed: Of what is recorded, and of dreams.

    Returns:
        The file written.

    Raises:
        SpecError: There are no data, and the model does not know its environment; or the data are
            of another system.
        MissingExtraError: plotly is not installed.
    """
    require_extra("plotly", "report")
    require_at_least(0, seed=seed)
    torch.set_num_threads(1)
    world, folder, metrics = load(run), Path(run), metrics_of(run)
    many, few = reality(world, dataset or recorded_of(run, world), force, seed)
    paper = PRESETS[preset_of(run, world)].paper
    with Progress() as bar:
        sections = [
            parts.summary(world),
            page.section("Measured", parts.measured(metrics, paper), *_wanting(metrics, world)),
            *_verdict(Path(run)),
            page.section(
                "How far dreams can be believed", *parts.believed(metrics), *parts.wanted(folder)
            ),
            page.section("Latent space", latent_space(world, many, bar)),
            page.section("Films", *films(world, run, few, seed, bar)),
            page.section("Figures", *parts.figures(folder, metrics)),
            page.section(
                "All numbers", page.details("metrics.json", json.dumps(metrics, indent=2))
            ),
        ]
    title = f"{folder.resolve().name}: a learned world model"
    written = page.write_page(out or folder_of(run, "report") / "report.html", title, sections)
    say(f"Open {written} ({written.stat().st_size / 1e6:.1f} MB) in a browser")
    return written


def _wanting(metrics: dict[str, Any], world: World) -> list[str]:
    """What is wrong with the model, if it is known."""
    known = system_of(world.source.env_id if world.source else "").controlled, bool(world.source)
    if "bound" in metrics:
        said = shortcomings(metrics, *known)
    else:
        said = unlearned(metrics["learned"], *known) if "learned" in metrics else []
    return [page.paragraph(sentence) for sentence in said]


def _verdict(folder: Path) -> list[str]:
    """On the run's agent, if it was judged."""
    file = folder / VERDICT
    if not file.is_file():
        return []
    return [page.section("Agent", verdict_section(read_json(file)))]


def reality(world: World, dataset: Path | None, force: bool, seed: int) -> list[Batch]:
    """Real episodes for the latent space and for the film."""
    sizes = (_SPACE, _FILM)
    if dataset is not None:
        recorded = data.load(dataset)
        if not force:
            require_same_system(world, recorded)
        recorded.check_fits(world.model.observation_spec, world.model.action_spec)
        test = recorded.test
        return [test.padded(np.arange(min(n, len(test))), steps) for n, steps in sizes]
    source, batches = world.require_source(), []
    for episodes, steps in sizes:
        env = source.make_vec(episodes)
        batches.append(data.record(env, episodes, steps, data.Uniform(), seed, progress=True))
        env.close()
    return batches


def films(world: World, run: str, random: Batch, seed: int, bar: Progress) -> list[str]:
    """What the model imagines under random actions, and under its agent's if it has one."""
    shown = {"Under random actions": random}
    acts = any((Path(run) / name).is_file() for name in (POLICY, SAC))
    task = bar.add_task("films", total=1 + acts)
    fps = 10.0
    if world.source is not None:
        env = world.source.make_vec(_FILM[0])
        fps = world.source.frames_per_second(env)
        if acts:
            start = system_of(world.source.env_id).task_start(_FILM[0], seed)
            shown["Under the agent that was trained in the dream"] = record_agent(
                policy_of(run, world), world, env, _FILM[1], seed, start
            )
        env.close()
    drawn = []
    for title, batch in shown.items():
        looked = max(1, min(_LOOKED, int(batch.span.sum(1).max()) // 2))
        drawn.append(parts.film(imagine(world, batch, looked, _DREAMS, seed), title, fps))
        bar.advance(task)
    return drawn


def latent_space(world: World, batch: Batch, bar: Progress) -> str:
    """Filtered states after every recorded step, coloured by all that is known of them."""
    mask = batch.mask.numpy()
    filtered = world.filter(to_numpy(batch.observations), batch.actions.numpy())
    latents = filtered[:, 1:][mask]
    variables: dict[str, np.ndarray] = {}
    if batch.states is not None:
        targets = system_of(world.source.env_id if world.source else "").targets
        truth = colourings(targets(batch.states[:, 1:].numpy()[mask]))
        variables |= dict(list(truth.items())[:_VARIABLES])
    if batch.rewards is not None:
        variables["reward"] = batch.rewards.numpy()[mask]
    try:
        estimator = GaussianEmpowerment(dynamics_of(world))
        chunks = torch.as_tensor(latents, dtype=world.model.dtype).split(_CHUNK)
        task, nats = bar.add_task("empowerment", total=len(chunks)), []
        for states in chunks:
            nats.append(estimator(states))
            bar.advance(task)
        variables["empowerment"] = torch.cat(nats).numpy()
    except SpecError:
        pass  # the estimator knows Box actions only
    return parts.space(latents, variables)
