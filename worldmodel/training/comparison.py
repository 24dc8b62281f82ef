"""Models by objectives by seeds, on one dataset and an equal budget, run by run.

Each run is trained in a process of its own that can be killed and started again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from worldmodel import data
from worldmodel.errors import DivergenceError, SpecError
from worldmodel.evaluation.evaluate import evaluate
from worldmodel.evaluation.identification import Targets
from worldmodel.evaluation.snapshots import Snapshots
from worldmodel.files import read_json, write_json
from worldmodel.models.registry import model_type
from worldmodel.parallel import Engine, run_all
from worldmodel.progress import track
from worldmodel.training.config import TrainConfig
from worldmodel.training.settings import read_settings
from worldmodel.training.trainer import Trainer

# What each of them changes in the settings that suit the data. Without dropout recognition looks at
# every frame, as published.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "elbo": {"objective": "elbo", "dropout_fraction": 0.0},
    "elbo+dropout": {"objective": "elbo"},
    "constrained": {"objective": "constrained", "dropout_fraction": 0.0},
    "constrained+dropout": {"objective": "constrained"},
    "balanced": {"objective": "balanced", "dropout_fraction": 0.0},
    "balanced+dropout": {"objective": "balanced"},
}
ObjectiveName = Literal[
    "elbo",
    "elbo+dropout",
    "constrained",
    "constrained+dropout",
    "balanced",
    "balanced+dropout",
]


class Candidate(NamedTuple):
    """A model that is compared.

    Attributes:
        label: The model's registered name; what is changed in its settings follows a colon.
        config: The model's settings.
        train: How it is trained, but for what objective, budget and seed say.
    """

    label: str
    config: Any
    train: TrainConfig


@dataclass(frozen=True)
class Run:
    """One model, trained once.

    Attributes:
        model: Label of the candidate.
        objective: Name of an objective.
        config: The model's settings.
        train: The trainer's.
        dataset: Its folder.
        data: The dataset's fingerprint.
        folder: Where it goes.
        targets: Names the ground-truth variables.
    """

    model: str
    objective: str
    config: Any
    train: TrainConfig
    dataset: Path
    data: str
    folder: Path
    targets: Targets

    @property
    def identity(self) -> dict[str, Any]:
        """What a finished run must agree in to stand for this one, as JSON gives it back."""
        return {
            "model": self.model,
            "objective": self.objective,
            "seed": self.train.seed,
            "updates": self.train.updates,
            "batch_size": self.train.batch_size,
            "learning_rate": self.train.learning_rate,
            "data": self.data,
        }

    @property
    def finished(self) -> bool:
        """Whether the run's metrics are there.

        Raises:
            SpecError: The folder holds a finished run with another budget or on other data, or
                one that was begun for another number of updates.
        """
        path = self.folder / "metrics.json"
        finished = path.exists()
        if finished:
            kept, state = read_json(path)["identity"], "a finished"
        else:
            # The trainer by itself would go on with more of them.
            begun = read_settings(self.folder).get("train", {})
            kept, state = (
                self.identity | {"updates": begun.get("updates", self.train.updates)},
                "an unfinished",
            )
        for key, value in self.identity.items():
            if (before := kept.get(key)) != value:
                raise SpecError(
                    f"{self.folder} holds {state} run with {key} {before!r}, not {value!r}; "
                    "choose another folder or delete it"
                )
        return finished

    def result(self) -> dict[str, Any]:
        """What a finished run reached."""
        return read_json(self.folder / "metrics.json")


def plan(
    candidates: Sequence[Candidate],
    objectives: Sequence[str],
    seeds: int,
    budget: dict[str, Any],
    dataset: Path,
    fingerprint: str,
    out: Path,
    targets: Targets,
) -> list[Run]:
    """All runs, seed by seed, so that what is finished early can be compared.

    Args:
        candidates: The models.
        objectives: Names, of ``OBJECTIVES``.
        seeds: How many, from 0.
        budget: Fields of ``TrainConfig`` that are the same for all.
        dataset: Its folder.
        fingerprint: Of the dataset.
        out: Folder of the comparison.
        targets: Names the ground-truth variables.
    """
    runs = []
    for seed in range(seeds):
        for label, config, train in candidates:
            for objective in objectives:
                changes = OBJECTIVES[objective] | budget | {"seed": seed, "tensorboard": False}
                # A run that stops early has had another budget.
                changed = replace(train, patience=0, **changes)
                changed = replace(changed, validate_every=max(1, changed.updates // 16))
                slug = "_".join([label, objective, f"seed_{seed}"])
                folder = out / "runs" / "".join(c if c.isalnum() else "_" for c in slug)
                runs.append(
                    Run(label, objective, config, changed, dataset, fingerprint, folder, targets)
                )
    return runs


def train_all(runs: Sequence[Run], parallel: int, engine: Engine = "joblib") -> None:
    """Train all that are not finished, several at a time, and show how many are.

    Args:
        runs: In their order.
        parallel: How many at a time, each in a process with one thread.
        engine: As for ``worldmodel.parallel``.

    Raises:
        MissingExtraError: The engine is not installed.
        WorkerError: A process has died.
    """
    done = run_all(train_one, runs, parallel, engine)
    for _ in track(done, "runs", float(len(runs)), disable=not runs):
        pass


def train_one(run: Run) -> None:
    """Train, measure and write ``metrics.json``; a run that diverges says so there."""
    torch.set_num_threads(1)
    recorded = data.load(run.dataset)
    kind: Any = model_type(run.model.partition(":")[0])
    model = kind(run.config, recorded.observation_spec, recorded.action_spec, run.train.seed)
    trainer = Trainer(model, recorded, run.train, run.folder, path=run.dataset)
    snapshots = Snapshots(run.folder / "snapshots", recorded, run.train.updates, run.targets)
    begin, first = time.perf_counter(), trainer.update

    def watch(trainer: Trainer) -> None:
        snapshots.take(trainer.model, trainer.update)

    result: dict[str, Any] = {"identity": run.identity}
    try:
        world = trainer.fit(progress=False, watch=watch)
        seconds = time.perf_counter() - begin
        evaluation = evaluate(world, recorded, run.train.seed, targets=run.targets)
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


def _finite(history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """The trainer's history without what JSON has no word for."""
    return [{k: v for k, v in logs.items() if math.isfinite(v)} for logs in history]
