"""Rebuild what the repository ships: the bundled models and the README's pictures.

    make bundled

It is the demos as they stand, with seed 0, and their checkpoints, agents and pictures copied to
their places.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import tyro

from worldmodel import load
from worldmodel.cli.demo import demo, settings
from worldmodel.world.checkpoint import BUNDLED

PICTURES = Path(__file__).parents[1] / "docs" / "images"
PENDULUM = (
    "dream.gif",
    "agent.gif",
    "latent_space.png",
    "latent_walks.png",
    "strips.png",
    "prediction_error.png",
    "filter_convergence.png",
    "training_curves.png",
)
# Prefix and names of each model's pictures.
BALL = ("dream.gif", "agent.gif", "checkerboard.png", "strips.png", "prediction_error.png")
NAMES = {"pendulum": ("", PENDULUM), "ball": ("ball_", BALL)}


def main(systems: tuple[Literal["pendulum", "ball"], ...] = ("pendulum", "ball")) -> None:
    """Rebuild bundled models.

    Args:
        systems: Which.
    """
    PICTURES.mkdir(parents=True, exist_ok=True)
    for system in systems:
        run = Path("runs/bundled") / system
        metrics = demo(settings(system, out=run))
        load(run).save(BUNDLED / system, metrics)
        shutil.copyfile(run / "policy.safetensors", BUNDLED / system / "policy.safetensors")
        prefix, names = NAMES[system]
        for name in names:
            shutil.copyfile(run / name, PICTURES / f"{prefix}{name}")


if __name__ == "__main__":
    tyro.cli(main)
