"""What the benchmarks share: demos under several seeds, a table of them, a block of the results.

Seeds run in processes of their own, with one thread each; one that has finished is not run again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.parallel import Engine, run_all
from worldmodel.plots.table import lookup

RESULTS = Path(__file__).parents[1] / "docs" / "results.md"
HORIZONS = (1, 10, 30, 100)


@dataclass(frozen=True)
class Row:
    """One line of the table: a metric, whether more is better, the goal and the paper's value."""

    title: str
    name: str
    more_is_better: bool
    goal: str = ""
    paper: str = ""


def run_seeds(
    system: str,
    folder: Path,
    seeds: int,
    parallel: int,
    films: bool = False,
    engine: Engine = "joblib",
) -> list[dict[str, Any]]:
    """Metrics of a system's demo under seeds 0, 1, ..., with fractions of variance added."""
    run = partial(_run, system, folder.resolve(), films)
    done = run_all(run, range(seeds), parallel, engine)
    return [with_fractions(metrics) for metrics in sorted(done, key=lambda m: m["seed"])]


def _run(system: str, folder: Path, films: bool, seed: int) -> dict[str, Any]:
    out = folder / f"seed_{seed}"
    if not (out / "metrics.json").exists():
        command = [sys.executable, "-m", "worldmodel.cli", "demo", system]
        command += ["--out", str(out), "--seed", str(seed), "--threads", "1"]
        command += [] if films else ["--no-films"]
        out.mkdir(parents=True, exist_ok=True)
        with open(out / "log.txt", "w") as log:
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
        print(f"{system}, seed {seed} is done", flush=True)
    return json.loads((out / "metrics.json").read_text())


def with_fractions(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics, and what follows from the errors by horizon.

    ``fraction``, ``averaged_fraction`` and ``baseline_fraction.<name>``: errors as fractions of the
    frames' variance, at some horizons; averaged is the predictive mean. ``under.<name>``: fraction
    of all horizons at which the model errs less than a baseline. ``steps_under_all`` and
    ``averaged_steps_under_all``: how many steps from the first on it errs less than every baseline.
    """
    error = np.array(metrics["prediction_mse"])
    baselines = {k: np.array(v) for k, v in metrics["prediction_mse_baseline"].items()}

    def fractions(errors: np.ndarray) -> dict[str, float]:
        return {str(k): errors[k - 1] / metrics["prediction_variance"] for k in HORIZONS}

    def steps_under_all(errors: np.ndarray) -> int:
        beaten = np.all([errors < other for other in baselines.values()], 0)
        return int(np.append(beaten, False).argmin())

    averaged = np.array(metrics["prediction_mse_averaged"])
    return metrics | {
        "fraction": fractions(error),
        "averaged_fraction": fractions(averaged),
        "baseline_fraction": {name: fractions(other) for name, other in baselines.items()},
        "under": {name: float((error < other).mean()) for name, other in baselines.items()},
        "steps_under_all": steps_under_all(error),
        "averaged_steps_under_all": steps_under_all(averaged),
    }


def table(rows: Sequence[Row], runs: Sequence[dict[str, Any]]) -> str:
    """Markdown: median, worst and every seed; a column for the paper only if it has values."""
    paper = any(row.paper for row in rows)
    head = ["", "median", "worst", "each seed", "goal", *(["paper"] if paper else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        values = np.array([lookup(run, row.name) for run in runs])
        worst = values.min() if row.more_is_better else values.max()
        each = " ".join(map(_number, values))
        cells = [row.title, _number(np.median(values)), _number(worst), each, row.goal]
        lines.append(f"| {' | '.join([*cells, *([row.paper] if paper else [])])} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"


def report(marker: str, command: str, rows: Sequence[Row], runs: Sequence[dict[str, Any]]) -> None:
    """Print the table and put it between its markers in the results."""
    text = table(rows, runs)
    print(text)
    seeds = f"seeds 0 to {len(runs) - 1}" if len(runs) > 1 else "seed 0"
    said = f"`{command}`, {seeds}; torch {runs[0]['versions']['torch']}."
    write_block(marker, f"{said}\n\n{text}")


def write_block(marker: str, text: str) -> None:
    """Put a text between its markers in the results."""
    begin, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    head, rest = RESULTS.read_text().split(begin)
    RESULTS.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}")
