"""``worldmodel compare``: models by objectives by seeds, on one dataset and an equal budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tyro

from worldmodel import data
from worldmodel.cli.arguments import Data, PresetName
from worldmodel.cli.console import say
from worldmodel.errors import ConfigError, SpecError, require_at_least
from worldmodel.evaluation.snapshots import Snapshots
from worldmodel.files import write_json, write_whole
from worldmodel.models.registry import fitting
from worldmodel.parallel import Engine
from worldmodel.plots.comparison import comparison, comparison_table
from worldmodel.plots.course import course
from worldmodel.systems import Preset, preset_for, system_of
from worldmodel.systems import preset as preset_of
from worldmodel.training.comparison import Candidate, ObjectiveName, Run, plan, train_all


def compare(
    dataset: Data,
    out: Path,
    models: tuple[str, ...] = (),
    objectives: tuple[ObjectiveName, ...] = ("elbo", "constrained+dropout"),
    preset: PresetName | None = None,
    seeds: int = 5,
    updates: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    parallel: int = 1,
    engine: Engine = "joblib",
) -> None:
    """Train models on one dataset under one budget, and say how they differ.

    Interrupted and started again, it goes on: finished runs stay, the others resume.

    Args:
        dataset: Folder from ``worldmodel collect``, with test episodes longer than 14 steps.
        out: Folder for the runs, comparison.json, comparison.md and the figures.
        models: Names; "dvbf:transition.kind=mlp,transition.leak=0.1" changes settings of a model,
            "ekvae:denoise=0.03" those of its dreams. All that take what the dataset holds, if none
            is named.
        objectives: Each model is trained by each. Those with "+dropout" also hide frames from
            recognition now and then; "elbo" is the bound as published.
        preset: Settings to begin with; by default those that suit the data.
        seeds: How many, from 0: of initial weights and of training.
        updates: Of every run; by default the preset's.
        batch_size: Likewise.
        learning_rate: Likewise; the fewer the updates, the greater the best one.
        parallel: Runs at a time, each in a process of its own with one thread.
        engine: "joblib" for processes of this machine, or "ray" for those of a cluster, of which
            all machines must see DATA and OUT; see docs/bigger.md.
    """
    require_at_least(1, seeds=seeds, parallel=parallel)
    recorded = data.load(dataset)
    longest = recorded.test.steps
    if longest <= 14:
        raise SpecError(f"test episodes must be longer than 14 steps, the longest has {longest}")
    source = recorded.provenance
    chosen = preset_of(preset or preset_for(recorded.observation_spec, source.source))
    candidates = [
        candidate(label, chosen, recorded) for label in models or fitting(recorded.observation_spec)
    ]
    given = {"updates": updates, "batch_size": batch_size, "learning_rate": learning_rate}
    budget = {name: value for name, value in given.items() if value is not None}
    targets = system_of(source.env_id).targets
    runs = plan(candidates, objectives, seeds, budget, dataset, source.fingerprint, out, targets)
    todo = [run for run in runs if not run.finished]
    if len(todo) < len(runs):
        say(f"{len(runs) - len(todo)} of {len(runs)} runs are already finished")
    train_all(todo, parallel, engine)
    _report(runs, out)


def candidate(label: str, chosen: Preset, recorded: data.Dataset) -> Candidate:
    """A model that is given as name:setting=value,setting=value, settings dotted where they nest.

    Raises:
        ConfigError: The model or a setting is unknown; the message names those that there are.
    """
    name, _, changes = label.partition(":")
    config = chosen.model(name, recorded.observation_spec)
    train = chosen.training(recorded)
    words: dict[Any, list[str]] = {config: [], train.dreaming: []}
    for change in filter(None, changes.split(",")):
        setting, _, value = change.partition("=")
        owner = next((part for part in words if setting in dotted(asdict(part))), None)
        if owner is None:
            known = ", ".join(n for part in words for n in dotted(asdict(part)))
            raise ConfigError(f"{name} has no setting {setting!r}; it has {known}")
        words[owner] += ["--" + setting.replace("_", "-"), value]
    config, dreaming = (
        tyro.cli(type(part), default=part, args=line, prog=name) for part, line in words.items()
    )
    return Candidate(label, config, replace(train, dreaming=dreaming))


def dotted(tree: dict[str, Any], path: str = "") -> Iterator[str]:
    """Names of the leaves of nested settings."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{path}{name}.")
        else:
            yield path + name


def _report(runs: list[Run], out: Path) -> None:
    """Table, figure, and the course of the first seed of every pair."""
    results = [run.result() for run in runs]
    write_json(out / "comparison.json", {"runs": results})
    text = comparison_table(results)
    write_whole(out / "comparison.md", text.encode())
    comparison(results, out / "comparison.png")
    for run, result in zip(runs, results, strict=True):
        snapshots = Snapshots.read(run.folder / "snapshots")
        if run.train.seed == 0 and "error" not in result and snapshots:
            name, title = run.folder.name.removesuffix("_seed_0"), f"{run.model}, {run.objective}"
            course(snapshots, result["history"], title, out / f"course_{name}.png")
    say(text)
    say(f"Look at comparison.png and course_*.png in {out}")
