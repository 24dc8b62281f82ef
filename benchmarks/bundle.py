"""Rebuild what the repository ships: the bundled pendulum model and the README's pictures.

    make bundled

It is the demo as it stands, with seed 0, and its checkpoint and pictures copied to their places.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from worldmodel.cli.demo import DemoConfig, demo
from worldmodel.models.checkpoint import BUNDLED, load

PICTURES = Path(__file__).parents[1] / "docs" / "images"
NAMES = (
    "dream.gif",
    "agent.gif",
    "latent_space.png",
    "latent_walks.png",
    "strips.png",
    "prediction_error.png",
    "filter_convergence.png",
    "training_curves.png",
)


def main() -> None:
    run = Path("runs/bundled")
    metrics = demo(DemoConfig(out=run))
    load(run).save(BUNDLED / "pendulum", metrics)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        shutil.copyfile(run / name, PICTURES / name)


if __name__ == "__main__":
    main()
