"""Rebuild what the repository ships: the bundled models and the README's pictures.

    make bundled

It is the demos as they stand, with seed 0, and their checkpoints, agents and pictures copied to
their places. The bounds of their errors are calibrated on standard probes of the real systems, for
longer dreams than the demos' data allow; `benchmarks/bundle.py --only-bounds` does that alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import tyro

from worldmodel import load
from worldmodel.cli.demo import demo, settings
from worldmodel.evaluation.trust import joined, record_probes
from worldmodel.world.calibration import calibrate
from worldmodel.world.checkpoint import BUNDLED
from worldmodel.world.trust import TrustConfig
from worldmodel.world.world import World

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


def main(
    systems: tuple[Literal["pendulum", "ball"], ...] = ("pendulum", "ball"),
    only_bounds: bool = False,
) -> None:
    """Rebuild bundled models.

    Args:
        systems: Which.
        only_bounds: Whether to leave them as they are but for the bounds of their errors.
    """
    if only_bounds:
        for system in systems:
            world, policy = load(system), BUNDLED / system / "policy.safetensors"
            kept = policy.read_bytes()
            bounded(world).save(BUNDLED / system)
            policy.write_bytes(kept)
        return
    PICTURES.mkdir(parents=True, exist_ok=True)
    for system in systems:
        run = Path("runs/bundled") / system
        metrics = demo(settings(system, out=run))
        bounded(load(run)).save(BUNDLED / system, metrics)
        shutil.copyfile(run / "policy.safetensors", BUNDLED / system / "policy.safetensors")
        prefix, names = NAMES[system]
        for name in names:
            shutil.copyfile(run / name, PICTURES / f"{prefix}{name}")


def bounded(world: World) -> World:
    """The same world, its bounds calibrated on standard probes of the real system."""
    trust = TrustConfig(updates=3000)
    steps = trust.steps + trust.looks - 1
    probes, _ = record_probes(world.require_source(), world, 500, steps, seed=0)
    return calibrate(world, joined(probes), trust, progress=True)


if __name__ == "__main__":
    tyro.cli(main)
