"""Empowerment of learned pendulums and balls against the true ones, agents that live by it, speed.

    make benchmark-empowerment

It is the demos without a reward. Their models are those of ``benchmarks/pendulum.py`` and
``balls.py``; seeds that were trained there are not trained again.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import torch
import tyro
from seeds import Row, report, run_seeds

from agents.empowerment import GaussianEmpowerment, dynamics_of
from worldmodel import load

ROWS = (
    Row(
        "Spearman, learned against true, 400 states, n = 10", "empowerment.spearman", True, "≥ 0.9"
    ),
    Row("greatest of the true map, nats", "empowerment.true_nats.greatest", True),
    Row("greatest of the learned map, nats", "empowerment.learned_nats.greatest", True),
    Row("upright from hanging, no reward, 100 real starts", "agent.upright_share", True, "≥ 0.9"),
    Row("batch of 4,096 states, times as fast as a loop", "batch_over_loop", True, "≥ 20"),
)
BALL = (
    Row("Spearman, learned against true, 400 states", "empowerment.spearman", True),
    Row(
        "in the middle half of the box from a wall, no reward, 100 real starts",
        "agent.in_middle_share",
        True,
        "≥ 0.9",
    ),
)


def batch_over_loop(checkpoint: Path, states: int = 4096, looped: int = 40) -> float:
    """How much faster a state is in a batch than alone, in one run on two threads."""
    torch.set_num_threads(2)
    world = load(checkpoint)
    estimator = GaussianEmpowerment(dynamics_of(world), 10)
    many = world.support.states.repeat(states // len(world.support.states), 1)
    estimator(many[:2])
    begin = time.perf_counter()
    estimator(many)
    batch = (time.perf_counter() - begin) / len(many)
    begin = time.perf_counter()
    for row in many[:looped].split(1):
        estimator(row)
    return (time.perf_counter() - begin) / looped / batch


def reuse(trained: Path, folder: Path, seeds: int) -> None:
    """Let runs in ``folder`` begin where those of another benchmark ended."""
    for seed in range(seeds):
        state, ours = (run / f"seed_{seed}" / "training" for run in (trained, folder))
        if state.exists() and not ours.exists():
            shutil.copytree(state, ours)


def main(
    folder: Path = Path("runs/benchmark-empowerment"),
    pendulums: Path = Path("runs/benchmark-pendulum"),
    balls: Path = Path("runs/benchmark-balls/ball"),
    seeds: int = 5,
    parallel: int = 2,
) -> None:
    """Run the benchmark.

    Args:
        folder: Where the runs go.
        pendulums: Runs of the pendulum's benchmark.
        balls: Runs of the ball's.
        seeds: How many, from 0.
        parallel: Processes at a time.
    """
    reuse(pendulums, folder, seeds)
    reuse(balls, folder / "ball", seeds)
    runs = [
        metrics | {"batch_over_loop": batch_over_loop(folder / f"seed_{seed}")}
        for seed, metrics in enumerate(run_seeds("empowerment", folder, seeds, parallel))
    ]
    report("empowerment", "make benchmark-empowerment", ROWS, runs)
    runs = run_seeds("ball-empowerment", folder / "ball", seeds, parallel)
    report("ball-empowerment", "make benchmark-empowerment", BALL, runs)


if __name__ == "__main__":
    tyro.cli(main)
