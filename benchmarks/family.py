"""Every model on the pendulum under one budget, five seeds, written to docs/results.md.

    make benchmark-family

Then the one that knows the state best with its default settings, which take three times as long,
its dreams with and without a denoiser. Killed and started again, it goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro
from seeds import write_block

from worldmodel import data, load
from worldmodel.cli.collect import collect
from worldmodel.cli.compare import compare
from worldmodel.data import installed_versions
from worldmodel.errors import DivergenceError
from worldmodel.evaluation.evaluate import evaluate
from worldmodel.files import read_json
from worldmodel.plots.comparison import comparison_table
from worldmodel.systems import system_of

IMAGES = Path(__file__).parents[1] / "docs" / "images"
MODELS = (
    "dvbf",
    "dvbf:transition.kind=mlp",
    "dvbf:recognition.kind=fusion",
    "dkf",
    "e2c",
    "ekvae",
)
BEST = ("ekvae:denoise=0.03",)
OBJECTIVES = ("elbo", "constrained+dropout")
FIGURES = {
    "comparison": "family.png",
    "course_dvbf_constrained_dropout": "course_constrained.png",
    "course_dvbf_elbo": "course_elbo.png",
}


def main(
    folder: Path = Path("runs/benchmark-family"),
    models: tuple[str, ...] = MODELS,
    best: tuple[str, ...] = BEST,
    seeds: int = 5,
    updates: int = 1500,
    best_updates: int = 4500,
    learning_rate: float = 6e-3,
    parallel: int = 1,
) -> None:
    """Run the benchmark.

    Args:
        folder: Where the data and the runs go.
        models: As for ``worldmodel compare``.
        best: Those with a longer budget and the default learning rate, constrained only.
        seeds: How many, from 0.
        updates: Of every run.
        best_updates: Of those with a longer budget.
        learning_rate: Of the runs with the short budget.
        parallel: Runs at a time.
    """
    dataset = folder / "data"
    if not dataset.exists():
        collect("worldmodel/Pendulum-v0", dataset)
    if models:
        rate = {"learning_rate": learning_rate}
        compare(dataset, folder, models, OBJECTIVES, seeds, updates, **rate, parallel=parallel)
        for name, image in FIGURES.items():
            shutil.copyfile(folder / f"{name}.png", IMAGES / image)
        table = (folder / "comparison.md").read_text()
        write_block("family", f"{said(seeds, updates)}\n\n{table.rstrip()}")
    if best:
        longer = folder / "longer"
        compare(dataset, longer, best, OBJECTIVES[1:], seeds, best_updates, parallel=parallel)
        table = comparison_table(list(with_and_without(dataset, longer)))
        write_block("family-best", f"{said(seeds, best_updates)}\n\n{table.rstrip()}")


def said(seeds: int, updates: int) -> str:
    """What a table is of."""
    return (
        f"`make benchmark-family`, seeds 0 to {seeds - 1} on one recording, {updates:,} updates of "
        f"128 sequences each; torch {installed_versions()['torch']}."
    )


def with_and_without(dataset: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Every run as it is, and the same weights without their denoiser."""
    recorded = data.load(dataset)
    targets = system_of(recorded.provenance.env_id).targets
    for result in read_json(folder / "comparison.json")["runs"]:
        yield result
        if "error" in result:
            continue
        identity = result["identity"]
        slug = "_".join([identity["model"], identity["objective"], f"seed_{identity['seed']}"])
        name = "".join(c if c.isalnum() else "_" for c in slug)
        world = load(folder / "runs" / name)
        world.denoiser = None
        again: dict[str, Any] = {"parameters": sum(p.numel() for p in world.model.parameters())}
        try:
            again |= evaluate(world, recorded, identity["seed"], targets=targets).metrics
        except DivergenceError as error:
            again["error"] = str(error)
        plain = identity["model"].partition(":")[0]
        yield result | again | {"identity": identity | {"model": f"{plain}, the same weights"}}


if __name__ == "__main__":
    tyro.cli(main)
