"""Every model on the pendulum under one budget, five seeds, written to docs/results.md.

    make benchmark-family

Killed and started again, it goes on.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import tyro
from seeds import write_block

from worldmodel.cli.commands import collect
from worldmodel.cli.compare import compare
from worldmodel.data import installed_versions

IMAGES = Path(__file__).parents[1] / "docs" / "images"
MODELS = ("dvbf", "dvbf:transition=mlp", "dvbf:recognition=fusion", "dkf", "e2c", "ekvae")
OBJECTIVES = ("elbo", "constrained+dropout")
FIGURES = {
    "comparison": "family.png",
    "course_dvbf_constrained_dropout": "course_constrained.png",
    "course_dvbf_elbo": "course_elbo.png",
}


def main(
    folder: Path = Path("runs/benchmark-family"),
    models: tuple[str, ...] = MODELS,
    seeds: int = 5,
    updates: int = 1500,
    learning_rate: float = 6e-3,
    parallel: int = 1,
) -> None:
    """Run the benchmark.

    Args:
        folder: Where the data and the runs go.
        models: As for ``worldmodel compare``.
        seeds: How many, from 0.
        updates: Of every run.
        learning_rate: Of every run.
        parallel: Runs at a time.
    """
    dataset = folder / "data.npz"
    if not dataset.exists():
        collect(dataset, seed=0)
    compare(
        dataset,
        folder,
        models,
        OBJECTIVES,
        seeds,
        updates,
        learning_rate=learning_rate,
        parallel=parallel,
    )
    for name, image in FIGURES.items():
        shutil.copyfile(folder / f"{name}.png", IMAGES / image)
    said = (
        f"`make benchmark-family`, seeds 0 to {seeds - 1} on one recording, {updates:,} updates of "
        f"128 sequences each; torch {installed_versions()['torch']}."
    )
    write_block("family", f"{said}\n\n{(folder / 'comparison.md').read_text().rstrip()}")


if __name__ == "__main__":
    tyro.cli(main)
