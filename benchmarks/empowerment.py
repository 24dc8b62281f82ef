"""Empowerment of learned pendulums against the true one, agents that live by it, and speed.

    make benchmark-empowerment

It is the demo without a reward. Its models are those of ``benchmarks/pendulum.py``; seeds that were
trained there are not trained again.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import torch
import tyro
from seeds import Row, report, run_seeds

from agents.empowerment import GaussianEmpowerment, dynamics_of
from worldmodel.models.checkpoint import load

ROWS = (
    Row(
        "Spearman, learned against true, 400 states, n = 10", "empowerment.spearman", True, "≥ 0.9"
    ),
    Row("greatest of the true map, nats", "empowerment.true_nats.greatest", True),
    Row("greatest of the learned map, nats", "empowerment.learned_nats.greatest", True),
    Row("upright from hanging, no reward, 100 real starts", "agent.upright_share", True, "≥ 0.9"),
    Row("batch of 4,096 states, times as fast as a loop", "batch_over_loop", True, "≥ 20"),
)


def batch_over_loop(checkpoint: Path, states: int = 4096, looped: int = 40) -> float:
    """How much faster a state is in a batch than alone, in one run on two threads."""
    torch.set_num_threads(2)
    model = load(checkpoint).requires_grad_(False)
    estimator = GaussianEmpowerment(dynamics_of(model), 10)
    many = model.support.states.repeat(states // len(model.support.states), 1)
    estimator(many[:2])
    begin = time.perf_counter()
    estimator(many)
    batch = (time.perf_counter() - begin) / len(many)
    begin = time.perf_counter()
    for row in many[:looped].split(1):
        estimator(row)
    return (time.perf_counter() - begin) / looped / batch


def main(
    folder: Path = Path("runs/benchmark-empowerment"),
    trained: Path = Path("runs/benchmark-pendulum"),
    seeds: int = 5,
    parallel: int = 2,
) -> None:
    """Run the benchmark.

    Args:
        folder: Where the runs go.
        trained: Runs of the pendulum's benchmark.
        seeds: How many, from 0.
        parallel: Processes at a time.
    """
    for seed in range(seeds):
        state, ours = (run / f"seed_{seed}" / "training" for run in (trained, folder))
        if state.exists() and not ours.exists():
            shutil.copytree(state, ours)
    runs = [
        metrics | {"batch_over_loop": batch_over_loop(folder / f"seed_{seed}")}
        for seed, metrics in enumerate(run_seeds("empowerment", folder, seeds, parallel))
    ]
    report("empowerment", "make benchmark-empowerment", ROWS, runs)


if __name__ == "__main__":
    tyro.cli(main)
