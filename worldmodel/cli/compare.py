"""``worldmodel compare``: models by objectives by seeds, on one dataset and an equal budget."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import Empty
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from worldmodel import data
from worldmodel.cli.suited import learning
from worldmodel.cli.systems import system_of
from worldmodel.errors import ConfigError, DivergenceError, SpecError, require_at_least
from worldmodel.evaluation.evaluate import evaluate
from worldmodel.files import read_json, write_json, write_whole
from worldmodel.models.registry import MODELS, fitting
from worldmodel.plots.comparison import comparison, comparison_table
from worldmodel.plots.course import Snapshots, course
from worldmodel.training.config import TrainConfig
from worldmodel.training.trainer import Trainer

# What each of them changes in the settings that suit the data. Without dropout recognition looks at
# every frame, as published.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "elbo": {"objective": "elbo", "dropout_share": 0.0},
    "elbo+dropout": {"objective": "elbo"},
    "constrained": {"objective": "constrained", "dropout_share": 0.0},
    "constrained+dropout": {"objective": "constrained"},
}
ObjectiveName = Literal["elbo", "elbo+dropout", "constrained", "constrained+dropout"]


@dataclass(frozen=True)
class Run:
    """One model, trained once.

    Attributes:
        model: Name of a registered model, with changed settings after a colon.
        objective: Name of an objective.
        config: The model's settings.
        train: The trainer's.
        dataset: File.
        data: The dataset's fingerprint.
        folder: Where it goes.
    """

    model: str
    objective: str
    config: Any
    train: TrainConfig
    dataset: Path
    data: str
    folder: Path

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.model}, {self.objective}, seed {self.train.seed}"


def compare(
    dataset: Path,
    out: Path,
    models: tuple[str, ...] = (),
    objectives: tuple[ObjectiveName, ...] = ("elbo", "constrained+dropout"),
    seeds: int = 5,
    updates: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    parallel: int = 1,
) -> None:
    """Train models on one dataset under one budget, and say how they differ.

    Interrupted and started again, it goes on: finished runs stay, the others resume.

    Args:
        dataset: File from ``worldmodel collect``, with test episodes longer than 14 steps.
        out: Folder for the runs, comparison.json, comparison.md and the figures.
        models: Names; "dvbf:transition=mlp,leak=0.1" changes settings of a model. All that take
            what the dataset holds, if none is named.
        objectives: Each model is trained by each. Those with "+dropout" also hide frames from
            recognition now and then; "elbo" is the bound as published.
        seeds: How many, from 0: of initial weights and of training.
        updates: Of every run; by default those of the settings that suit the data.
        batch_size: Likewise.
        learning_rate: Likewise; the fewer the updates, the greater the best one.
        parallel: Runs at a time, each in a process of its own with one thread.
    """
    require_at_least(1, seeds=seeds, parallel=parallel)
    recorded = data.load(dataset)
    longest = int(recorded.test.mask.any(0).sum())
    if longest <= 14:
        raise SpecError(f"test episodes must be longer than 14 steps, the longest has {longest}")
    budget = {"updates": updates, "batch_size": batch_size, "learning_rate": learning_rate}
    budget = {name: value for name, value in budget.items() if value is not None}
    models = models or fitting(recorded.observation_spec)
    runs = plan(recorded, dataset, out, models, objectives, seeds, budget)
    console = Console()
    todo = [run for run in runs if not _finished(run)]
    if len(todo) < len(runs):
        console.print(f"{len(runs) - len(todo)} of {len(runs)} runs are already finished")
    _train_all(todo, parallel, console)
    results = [read_json(run.folder / "metrics.json") for run in runs]
    write_json(out / "comparison.json", {"runs": results})
    text = comparison_table(results)
    write_whole(out / "comparison.md", text.encode())
    comparison(results, out / "comparison.png")
    for run in runs:
        if run.train.seed == 0 and "error" not in read_json(run.folder / "metrics.json"):
            _draw_course(run, out)
    console.print(text, soft_wrap=True)
    console.print(f"Look at comparison.png and course_*.png in {out}")


def plan(
    recorded: data.Dataset,
    dataset: Path,
    out: Path,
    models: Sequence[str],
    objectives: Sequence[str],
    seeds: int,
    budget: dict[str, Any],
) -> list[Run]:
    """All runs, seed by seed, so that what is finished early can be compared.

    Raises:
        ConfigError: A model or a setting of one is unknown.
    """
    runs = []
    for seed in range(seeds):
        for model in models:
            config, train = _settings(recorded, model)
            for objective in objectives:
                changes = OBJECTIVES[objective] | budget | {"seed": seed, "tensorboard": False}
                # A run that stops early has had another budget.
                changed = replace(train, patience=0, **changes)
                changed = replace(changed, validate_every=max(1, changed.updates // 16))
                slug = "_".join([model, objective, f"seed_{seed}"])
                folder = out / "runs" / "".join(c if c.isalnum() else "_" for c in slug)
                mark = recorded.provenance.fingerprint
                runs.append(Run(model, objective, config, changed, dataset, mark, folder))
    return runs


def _settings(recorded: data.Dataset, model: str) -> tuple[Any, TrainConfig]:
    """Settings of a model that is given as name:field=value,field=value."""
    name, _, changes = model.partition(":")
    config, train = learning(recorded, name)
    words: dict[Any, list[str]] = {config: [], train.dreaming: []}
    for change in filter(None, changes.split(",")):
        field, _, value = change.partition("=")
        owner = next((part for part in words if field in asdict(part)), None)
        if owner is None:
            known = ", ".join(field for part in words for field in asdict(part))
            raise ConfigError(f"{name} has no setting {field!r}; it has {known}")
        words[owner] += ["--" + field.replace("_", "-"), value]
    config, dreaming = (
        tyro.cli(type(part), default=part, args=line, prog=name) for part, line in words.items()
    )
    return config, replace(train, dreaming=dreaming)


def _identity(run: Run) -> dict[str, Any]:
    """What a finished run must agree in to stand for this one, as JSON gives it back."""
    return {
        "model": run.model,
        "objective": run.objective,
        "seed": run.train.seed,
        "updates": run.train.updates,
        "batch_size": run.train.batch_size,
        "learning_rate": run.train.learning_rate,
        "data": run.data,
    }


def _finished(run: Run) -> bool:
    """Whether the run's metrics are there.

    Raises:
        SpecError: The folder holds a finished run with another budget or on other data.
    """
    path = run.folder / "metrics.json"
    if not path.exists():
        return False
    done, asked = read_json(path)["identity"], _identity(run)
    for key, value in asked.items():
        if (before := done.get(key)) != value:
            raise SpecError(
                f"{run.folder} holds a finished run with {key} {before!r}, not {value!r}; "
                "choose another folder or delete it"
            )
    return True


def _train_all(runs: Sequence[Run], parallel: int, console: Console) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(min(parallel, max(1, len(runs))), context) as pool,
        Progress(*columns, console=console) as bar,
    ):
        news = manager.Queue()
        whole = bar.add_task("updates of all runs", total=sum(r.train.updates for r in runs))
        futures = [pool.submit(train_one, run, news, os.getpid()) for run in runs]
        done: dict[str, int] = {}
        while not all(future.done() for future in futures) or not news.empty():
            try:
                name, update = news.get(timeout=0.5)
            except Empty:
                continue
            done[name] = update
            bar.update(whole, completed=sum(done.values()))
        for future in futures:
            future.result()


def train_one(run: Run, news: Any, parent: int) -> None:
    """Train, measure and write ``metrics.json``; a run that diverges says so there.

    Args:
        run: What to do.
        news: Queue for pairs of the run's name and its updates so far.
        parent: Process that asked; without it nobody would know of this one.
    """
    torch.set_num_threads(1)
    recorded = data.load(run.dataset)
    system = system_of(recorded.provenance.env_id)
    kind: Any = MODELS[run.model.partition(":")[0]]
    model = kind(run.config, recorded.observation_spec, recorded.action_spec, run.train.seed)
    trainer = Trainer(model, recorded, run.train, run.folder)
    snapshots = Snapshots(run.folder / "snapshots", recorded, run.train.updates, system.targets)
    begin, first = time.perf_counter(), trainer.update

    def watch(trainer: Trainer) -> None:
        if trainer.update % 20 == 0:
            news.put((run.name, trainer.update))
            if os.getppid() != parent:
                sys.exit(f"{run.name}: the comparison that asked for it is gone")
        snapshots.take(trainer.model, trainer.update)

    result: dict[str, Any] = {"identity": _identity(run)}
    try:
        world = trainer.fit(progress=False, watch=watch)
        seconds = time.perf_counter() - begin
        evaluation = evaluate(world, recorded, run.train.seed, targets=system.targets)
        result |= evaluation.metrics | {
            "parameters": sum(p.numel() for p in trainer.model.parameters()),
            # Of a resumed run only the rest was timed.
            "seconds": seconds * trainer.update / max(trainer.update - first, 1),
            "resumed_at": first,
            "best_update": trainer.best["update"],
            "history": _finite(trainer.history),
        }
    except DivergenceError as error:
        result["error"] = str(error)
    write_json(run.folder / "metrics.json", result)
    news.put((run.name, run.train.updates))


def _finite(history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """The trainer's history without what JSON has no word for."""
    return [{k: v for k, v in logs.items() if math.isfinite(v)} for logs in history]


def _draw_course(run: Run, out: Path) -> None:
    snapshots = Snapshots.read(run.folder / "snapshots")
    history = read_json(run.folder / "metrics.json")["history"]
    if snapshots:
        name = run.folder.name.removesuffix("_seed_0")
        course(snapshots, history, f"{run.model}, {run.objective}", out / f"course_{name}.png")
