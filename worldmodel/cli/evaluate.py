"""``worldmodel evaluate``: measure a trained model on test data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from worldmodel import data, load
from worldmodel.cli.arguments import Run
from worldmodel.cli.console import console, note, numbers_alone, say
from worldmodel.cli.runs import dataset_of, folder_of, require_same_system
from worldmodel.device import pick_device
from worldmodel.errors import MissingExtraError, SourceError, SpecError, require_finite
from worldmodel.evaluation.evaluate import evaluate as measure
from worldmodel.evaluation.requests import ask as requests_for
from worldmodel.evaluation.shortcomings import shortcomings
from worldmodel.evaluation.trust import probe_seeds, record_probes, trust_report
from worldmodel.files import write_json
from worldmodel.plots.figures import write_all
from worldmodel.plots.requests import requests_figure, requests_table
from worldmodel.plots.table import results_table
from worldmodel.plots.trust import trust_figure, trust_table
from worldmodel.systems import system_of
from worldmodel.training.settings import read_settings
from worldmodel.types import Batch, to_numpy
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
    ask: float = 0.1,
    json: bool = False,
) -> None:
    """Measure a trained model on the test split and draw the figures.

    How far its dreams can be believed is judged on standard probes of the real environment; of
    recordings, on the test split. What to record next, so that they can be believed further, goes
    to requests.json, for ``worldmodel collect --requests``.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one.
        dataset: Folder from ``worldmodel collect``; by default the run's own.
        out: Folder for metrics.json and figures; by default the run folder, or a folder within it
            if the data are not those that the run was trained on.
        force: Whether to measure on data of another system than the one trained on.
        seed: Of the sampled latents, and of what is probed.
        device: "auto" for the fastest that is there, "cpu", "cuda", "cuda:1" or "mps".
        allowed: Error of a dream, as a fraction of the variance, beyond which it is bad.
        ask: How much may be recorded next, as a fraction of the frames that there are to learn
            from; 0 asks for nothing.
        json: Whether to print the numbers to stdout, and all else to stderr.
    """
    require_finite(0, ask=ask)
    with numbers_alone(json) as numbers:
        numbers.update(_evaluated(run, dataset, out, force, seed, device, allowed, ask))


def _evaluated(
    run: str,
    dataset: Path | None,
    out: Path | None,
    force: bool,
    seed: int,
    device: str,
    allowed: float,
    ask: float,
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
    probed = probe(world, recorded, seed)
    report = trust_report(world, probed.batches, allowed, seed=seed)
    evaluation.metrics["trust"] = {**report, "skipped": probed.unable}
    write_json(folder / "metrics.json", evaluation.metrics)
    write_all(evaluation, world, recorded.test.sample(), folder, system.unactuated(source))
    console().print(results_table(source.env_id, evaluation.metrics, {}))
    place = resolve(run)
    if out is None and folder == folder_of(run, "evaluate") and place.parent != BUNDLED:
        # The model card says it too.
        world.save(place, world.metrics | {"trust": evaluation.metrics["trust"]})
    trust_figure(evaluation.metrics["trust"], folder / "trust.png")
    console().print(trust_table(evaluation.metrics["trust"]))
    if ask and world.source is not None and probed.seeds:
        frames = int(ask * recorded.frames("train"))
        request(world, world.source, probed, recorded, frames, allowed, folder)
    for shortcoming in shortcomings(evaluation.metrics, system.controlled, bool(source.source)):
        note(shortcoming)
    say(f"{folder}/metrics.json and figures are written")
    return evaluation.metrics


class Probed(NamedTuple):
    """What dreams are judged along.

    Attributes:
        batches: Episodes by how they were acted in.
        seeds: Of their resets; none if they are of the test split.
        unable: Why there are no others.
    """

    batches: dict[str, Batch]
    seeds: dict[str, list[int]]
    unable: dict[str, str]


def probe(world: World, recorded: data.Dataset, seed: int) -> Probed:
    """Probes of the environment, or else test episodes; why it is no more is told."""
    found = Probed({"test": recorded.test.sample()}, {}, {})
    if world.source is not None:
        steps = TrustConfig().steps + TrustConfig().looks - 1
        first = seed + 1_000_000
        try:
            episodes = PROBED[world.source.native]
            batches, unable = record_probes(world.source, world, episodes, steps, first)
            found = Probed(batches, probe_seeds(batches, first), unable)
        except (SpecError, MissingExtraError, SourceError) as error:
            note(f"dreams are judged on the test split: {error}")
    for name, reason in found.unable.items():
        note(f"no {name} actions: {reason}")
    return found


def request(
    world: World,
    source: data.Source,
    probed: Probed,
    recorded: data.Dataset,
    frames: int,
    allowed: float,
    folder: Path,
) -> None:
    """Write down, draw and say what to record next."""
    known = filtered(world, recorded.train.sample())
    asked = requests_for(world, source, probed.batches, probed.seeds, known, frames, allowed)
    asked.write(folder / "requests.json")
    picture = folder / "requests.png"
    picture.unlink(missing_ok=True)  # of what was asked for before
    if not asked.requests:
        say(
            f"nothing is asked for: no dream errs by more than {allowed:.0%}, or frames are too few"
        )
        return
    if world.model.latent_size >= 2:
        seen = {name: filtered(world, batch) for name, batch in probed.batches.items()}
        requests_figure(asked, known, seen, picture)
    console().print(requests_table(asked))
    say(
        f"worldmodel collect {source.env_id} --out DATA --requests {folder}/requests.json records "
        f"{asked.frames:,} frames of it, and adds them to DATA"
    )


def filtered(world: World, batch: Batch) -> Float[np.ndarray, "n latent"]:
    """What a filter believes at all recorded frames, one after the other."""
    frames, seen = to_numpy(batch.observations), batch.frame_mask.cpu().numpy()
    gaps = None if batch.seen is None else batch.seen.cpu().numpy()
    return world.filter(frames, batch.actions.cpu().numpy(), seen=gaps)[seen]
