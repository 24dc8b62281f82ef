"""Empowerment of learned pendulums against the true one, and what the batch saves.

    make benchmark-empowerment

Models are those of ``benchmarks/pendulum.py``; seeds that were trained there are not trained again.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
import tyro
from seeds import Row, run_seeds, table, write_block

from agents.empowerment import GaussianEmpowerment, dynamics_of
from worldmodel.cli.empowerment import empowerment
from worldmodel.models.checkpoint import load

ROWS = (
    Row("Spearman, learned against true, 400 states, n = 10", "spearman", True, "≥ 0.9"),
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
    folder: Path = Path("runs/benchmark-pendulum"),
    out: Path = Path("runs/benchmark-empowerment"),
    seeds: int = 5,
    parallel: int = 2,
) -> None:
    """Run the benchmark.

    Args:
        folder: Runs of the pendulum's benchmark.
        out: Where the maps go.
        seeds: How many, from 0.
        parallel: Processes at a time, if models must be trained.
    """
    run_seeds("pendulum", folder, seeds, parallel)
    runs = []
    for seed in range(seeds):
        run = folder / f"seed_{seed}"
        metrics = empowerment(str(run), out / f"seed_{seed}", seed=seed)
        runs.append(metrics | {"batch_over_loop": batch_over_loop(run)})
    text = table(ROWS, runs)
    print(text)
    write_block("empowerment", f"`make benchmark-empowerment`, seeds 0 to {seeds - 1}.\n\n{text}")


if __name__ == "__main__":
    tyro.cli(main)
