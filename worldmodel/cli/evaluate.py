"""``worldmodel evaluate``: measure a trained model on test data."""

from __future__ import annotations

from pathlib import Path

from worldmodel import data, load
from worldmodel.cli.arguments import Run
from worldmodel.cli.console import console, note, say
from worldmodel.cli.runs import dataset_of, folder_of, require_same_system
from worldmodel.device import pick_device
from worldmodel.errors import SpecError
from worldmodel.evaluation.evaluate import evaluate as measure
from worldmodel.evaluation.shortcomings import shortcomings
from worldmodel.files import write_json
from worldmodel.plots.figures import write_all
from worldmodel.plots.table import results_table
from worldmodel.systems import system_of
from worldmodel.training.settings import read_settings


def evaluate(
    run: Run,
    dataset: Path | None = None,
    out: Path | None = None,
    force: bool = False,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Measure a trained model on the test split and draw the figures.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one.
        dataset: Folder from ``worldmodel collect``; by default the run's own.
        out: Folder for metrics.json and figures; by default the run folder, or a folder within it
            if the data are not those that the run was trained on.
        force: Whether to measure on data of another system than the one trained on.
        seed: Of the sampled latents.
        device: "auto" for the fastest that is there, "cpu", "cuda", "cuda:1" or "mps".
    """
    world, path = load(run).to(pick_device(device)), dataset or dataset_of(run)
    if path is None:
        raise SpecError(f"{run} has no data of its own; name them by --dataset")
    recorded = data.load(path)
    if not force:
        require_same_system(world, recorded)
    source, folder = recorded.provenance, folder_of(run, "evaluate")
    trained_on = read_settings(run).get("dataset", {}).get("fingerprint")
    if trained_on not in (None, source.fingerprint):
        folder /= f"evaluate-{path.stem}-{source.fingerprint[:8]}"
        if dataset is None:
            note(f"{path} is not what it was when {run} was trained")
    system, folder = system_of(source.env_id), out or folder
    evaluation = measure(
        world,
        recorded,
        seed,
        progress=True,
        targets=system.targets,
        baselines=system.baselines(source),
        supervised=True,
    )
    write_json(folder / "metrics.json", evaluation.metrics)
    write_all(evaluation, world, recorded.test.sample(), folder, system.unactuated(source))
    console().print(results_table(source.env_id, evaluation.metrics, {}))
    for shortcoming in shortcomings(evaluation.metrics, system.controlled):
        note(shortcoming)
    say(f"{folder}/metrics.json and figures are written")
