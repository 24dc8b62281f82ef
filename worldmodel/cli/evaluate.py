"""``worldmodel evaluate``: measure a trained model on test data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worldmodel import data, load
from worldmodel.cli.arguments import Run
from worldmodel.cli.console import console, note, numbers_alone, say
from worldmodel.cli.runs import dataset_of, folder_of, require_same_system
from worldmodel.device import pick_device
from worldmodel.errors import MissingExtraError, SourceError, SpecError
from worldmodel.evaluation.evaluate import evaluate as measure
from worldmodel.evaluation.shortcomings import shortcomings
from worldmodel.evaluation.trust import record_probes, trust_report
from worldmodel.files import write_json
from worldmodel.plots.figures import write_all
from worldmodel.plots.table import results_table
from worldmodel.plots.trust import trust_figure, trust_table
from worldmodel.systems import system_of
from worldmodel.training.settings import read_settings
from worldmodel.world.believed import BAD
from worldmodel.world.checkpoint import BUNDLED, resolve
from worldmodel.world.trust import TrustConfig
from worldmodel.world.world import World

# Episodes of every probe, by whether many environments play side by side natively.
PROBED = {True: 100, False: 25}


def evaluate(
    run: Run,
    dataset: Path | None = None,
    out: Path | None = None,
    force: bool = False,
    seed: int = 0,
    device: str = "auto",
    allowed: float = BAD,
    json: bool = False,
) -> None:
    """Measure a trained model on the test split and draw the figures.

    How far its dreams can be believed is judged on standard probes of the real environment; of
    recordings, on the test split.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one.
        dataset: Folder from ``worldmodel collect``; by default the run's own.
        out: Folder for metrics.json and figures; by default the run folder, or a folder within it
            if the data are not those that the run was trained on.
        force: Whether to measure on data of another system than the one trained on.
        seed: Of the sampled latents, and of what is probed.
        device: "auto" for the fastest that is there, "cpu", "cuda", "cuda:1" or "mps".
        allowed: Error of a dream, as a fraction of the variance, beyond which it is bad.
        json: Whether to print the numbers to stdout, and all else to stderr.
    """
    with numbers_alone(json) as numbers:
        numbers.update(_evaluated(run, dataset, out, force, seed, device, allowed))


def _evaluated(
    run: str,
    dataset: Path | None,
    out: Path | None,
    force: bool,
    seed: int,
    device: str,
    allowed: float,
) -> dict[str, Any]:
    """What ``metrics.json`` says then; arguments as of ``evaluate``."""
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
    evaluation.metrics["trust"] = trust_of(world, recorded, allowed, seed)
    write_json(folder / "metrics.json", evaluation.metrics)
    write_all(evaluation, world, recorded.test.sample(), folder, system.unactuated(source))
    console().print(results_table(source.env_id, evaluation.metrics, {}))
    place = resolve(run)
    if out is None and folder == folder_of(run, "evaluate") and place.parent != BUNDLED:
        # The model card says it too.
        world.save(place, world.metrics | {"trust": evaluation.metrics["trust"]})
    trust_figure(evaluation.metrics["trust"], folder / "trust.png")
    console().print(trust_table(evaluation.metrics["trust"]))
    for shortcoming in shortcomings(evaluation.metrics, system.controlled):
        note(shortcoming)
    say(f"{folder}/metrics.json and figures are written")
    return evaluation.metrics


def trust_of(world: World, recorded: data.Dataset, allowed: float, seed: int) -> dict[str, Any]:
    """How far dreams can be believed: by probes of the environment, or else by test episodes."""
    probes, unable = {"test": recorded.test.sample()}, {}
    if world.source is not None:
        steps = TrustConfig().steps + TrustConfig().looks - 1
        try:
            episodes = PROBED[world.source.native]
            probes, unable = record_probes(world.source, world, episodes, steps, seed + 1_000_000)
        except (SpecError, MissingExtraError, SourceError) as error:
            note(f"dreams are judged on the test split: {error}")
    for name, reason in unable.items():
        note(f"no {name} actions: {reason}")
    return {**trust_report(world, probes, allowed, seed=seed), "skipped": unable}
