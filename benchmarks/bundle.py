"""Rebuild what the repository ships: the bundled models and the README's pictures.

    make bundled

It is the demos as they stand, with seed 0, and their checkpoints, agents and pictures copied to
their places. The bounds of their errors are calibrated on standard probes of the real systems, for
longer dreams than the demos' data allow. `benchmarks/bundle.py --keep-weights` makes anew only what
follows training: what is paid, the noise of dreams, the agents, the bounds.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import tyro

from worldmodel import load
from worldmodel.cli.demo import DemoConfig, babble, control, demo, demo_of, settings
from worldmodel.evaluation.evaluate import evaluate
from worldmodel.evaluation.trust import joined, record_probes
from worldmodel.files import write_json
from worldmodel.systems.task import act
from worldmodel.training.dreaming import fit_world
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
    keep_weights: bool = False,
) -> None:
    """Rebuild bundled models.

    Args:
        systems: Which.
        keep_weights: Whether their weights and pictures stay, and only what follows is made anew.
    """
    PICTURES.mkdir(parents=True, exist_ok=True)
    for system in systems:
        run = Path("runs/bundled") / system
        if keep_weights:
            fit_again(settings(system, out=run))
        else:
            demo(settings(system, out=run))
        world = load(run)
        bounded(world).save(BUNDLED / system, json.loads((run / "metrics.json").read_text()))
        shutil.copyfile(run / "policy.safetensors", BUNDLED / system / "policy.safetensors")
        if keep_weights:
            continue
        prefix, names = NAMES[system]
        for name in names:
            shutil.copyfile(run / name, PICTURES / f"{prefix}{name}")


def fit_again(config: DemoConfig) -> None:
    """A run like the demo's, its model the bundled one."""
    before, dataset, (chosen, system) = load(config.preset), babble(config), demo_of(config.preset)
    train, validation = dataset.train.sample(), dataset.validation.sample()
    world = fit_world(
        before.model,
        config.train.dreaming,
        train,
        validation,
        config.train.window,
        config.seed,
        True,
        before.source,
    )
    baselines = system.baselines(dataset.provenance)
    found = evaluate(
        world, dataset, config.seed, progress=True, targets=system.targets, baselines=baselines
    )
    config.out.mkdir(parents=True, exist_ok=True)
    assert config.agent is not None, "what is bundled has one"
    policy, _ = control(world, config, config.agent)
    source, start = world.require_source(), chosen.task_start
    agent = act(policy, world, source, system, start, seed=config.seed).metrics
    metrics = before.metrics | found.metrics | {"agent": agent}
    write_json(config.out / "metrics.json", metrics)
    world.save(config.out / "checkpoint", metrics)


def bounded(world: World) -> World:
    """The same world, its bounds calibrated on standard probes of the real system."""
    trust = TrustConfig(updates=3000)
    steps = trust.steps + trust.looks - 1
    probes, _ = record_probes(world.require_source(), world, 500, steps, seed=0)
    return calibrate(world, joined(probes), trust, progress=True)


if __name__ == "__main__":
    tyro.cli(main)
