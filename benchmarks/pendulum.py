"""The pendulum's demo under several seeds: median and worst, written to docs/results.md.

    make benchmark-pendulum

Each seed records its own data, trains its own model and its own agent, two at a time.
"""

from __future__ import annotations

from pathlib import Path

import tyro
from seeds import Row, report, run_seeds

ROWS = (
    Row("R² sin φ", "r2.sin", True, "≥ 0.99, worst ≥ 0.98", "0.961"),
    Row("R² cos φ", "r2.cos", True, "≥ 0.99, worst ≥ 0.98", "0.982"),
    Row("R² velocity", "r2.velocity", True, "≥ 0.98, worst ≥ 0.95", "0.916"),
    Row("log-likelihood sin φ", "loglik.sin", True, "", "3990.8"),
    Row("log-likelihood cos φ", "loglik.cos", True, "", "7231.1"),
    Row("log-likelihood velocity", "loglik.velocity", True, "", "-11139"),
    Row("lower bound, nats per frame", "bound.lower_bound", True, "", "798.56"),
    Row("reconstruction, nats per frame", "bound.reconstruction", True, "", "802.06"),
    Row("KL, nats per frame", "bound.kl", False, "", "3.50"),
    Row("open-loop error, 1 step, fraction of variance", "fraction.1", False, "", ""),
    Row("open-loop error, 10 steps", "fraction.10", False, "", ""),
    Row("open-loop error, 30 steps", "fraction.30", False, "≤ 0.05", ""),
    Row("open-loop error, 100 steps", "fraction.100", False, "", ""),
    Row("upright from hanging, 100 real starts", "agent.upright_fraction", True, "≥ 0.95 each", ""),
    Row("return in reality", "agent.return_real", True, "", ""),
    Row("return in the dream", "agent.return_dream", True, "", ""),
    Row("real frames for training", "real_frames_used", False, "7,500", "7,500"),
)


def main(folder: Path = Path("runs/benchmark-pendulum"), seeds: int = 5, parallel: int = 2) -> None:
    """Run the benchmark.

    Args:
        folder: Where the runs go.
        seeds: How many, from 0.
        parallel: Processes at a time.
    """
    runs = run_seeds("pendulum", folder, seeds, parallel)
    report("pendulum", "make benchmark-pendulum", ROWS, runs)


if __name__ == "__main__":
    tyro.cli(main)
