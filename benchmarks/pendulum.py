"""The pendulum's demo under several seeds: median and worst, written to docs/results.md.

    make benchmark-pendulum

Each seed records its own data, trains its own model and its own agent. Seeds run in processes of
their own, two at a time with one thread each; one that has finished is not run again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from worldmodel.cli.table import lookup

RESULTS = Path(__file__).parents[1] / "docs" / "results.md"
BEGIN, END = "<!-- pendulum -->", "<!-- /pendulum -->"


@dataclass(frozen=True)
class Row:
    """One line of the table: a metric, whether more is better, the goal and the paper's value."""

    title: str
    name: str
    more_is_better: bool
    goal: str
    paper: str


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
    Row("open-loop error, 1 step, share of variance", "share.1", False, "", ""),
    Row("open-loop error, 10 steps", "share.10", False, "", ""),
    Row("open-loop error, 30 steps", "share.30", False, "≤ 0.05", ""),
    Row("open-loop error, 100 steps", "share.100", False, "", ""),
    Row("upright from hanging, 100 real starts", "agent.upright_share", True, "≥ 0.95 each", ""),
    Row("return in reality", "agent.return_real", True, "", ""),
    Row("return in the dream", "agent.return_dream", True, "", ""),
    Row("real frames for training", "real_frames_used", False, "7,500", "7,500"),
)


def run_seed(seed: int, folder: Path) -> dict:
    out = folder / f"seed_{seed}"
    if not (out / "metrics.json").exists():
        command = [sys.executable, "-m", "worldmodel.cli", "demo", "--no-films"]
        command += ["--out", str(out), "--seed", str(seed), "--threads", "1"]
        out.mkdir(parents=True, exist_ok=True)
        with open(out / "log.txt", "w") as log:
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
        print(f"seed {seed} is done", flush=True)
    metrics = json.loads((out / "metrics.json").read_text())
    metrics["share"] = {
        str(k): metrics["prediction_mse"][k - 1] / metrics["prediction_variance"]
        for k in (1, 10, 30, 100)
    }
    return metrics


def table(runs: list[dict]) -> str:
    lines = ["| | median | worst | each seed | goal | paper |", "|---|---|---|---|---|---|"]
    for row in ROWS:
        values = np.array([lookup(run, row.name) for run in runs])
        worst = values.min() if row.more_is_better else values.max()
        each = " ".join(f"{v:.4g}" for v in values)
        lines.append(
            f"| {row.title} | {np.median(values):.4g} | {worst:.4g} | {each} "
            f"| {row.goal} | {row.paper} |"
        )
    return "\n".join(lines)


def main(folder: Path = Path("runs/benchmark-pendulum"), seeds: int = 5, parallel: int = 2) -> None:
    """Run the benchmark.

    Args:
        folder: Where the runs go.
        seeds: How many, from 0.
        parallel: Processes at a time.
    """
    with ThreadPoolExecutor(parallel) as pool:
        runs = list(pool.map(lambda seed: run_seed(seed, folder), range(seeds)))
    text = (
        f"{BEGIN}\n`make benchmark-pendulum`, seeds 0 to {seeds - 1}; torch "
        f"{runs[0]['versions']['torch']}.\n\n{table(runs)}\n{END}"
    )
    page = RESULTS.read_text()
    head, rest = page.split(BEGIN)
    RESULTS.write_text(head + text + rest.split(END)[1])
    print(table(runs))


if __name__ == "__main__":
    tyro.cli(main)
