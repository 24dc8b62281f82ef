"""The software sensor under several seeds, written to docs/results.md.

    make benchmark-software-sensor

Each seed records its own data and trains its own model; one that is done is not done again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from seeds import write_block

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "software_sensor" / "software_sensor.py"
FIGURE = "software_sensor.png"
COLUMNS = {
    "rmse.sin": "sin φ",
    "rmse.cos": "cos φ",
    "rmse.angle": "angle (°)",
    "rmse.velocity": "velocity (rad/s)",
    "typical.velocity": "velocity, median episode",
}


def run_seed(seed: int, out: Path, updates: int) -> dict[str, Any]:
    """Metrics of the example under one seed."""
    if not (out / "metrics.json").exists():
        command = [sys.executable, str(EXAMPLE), "--out", str(out), "--seed", str(seed)]
        command += ["--updates", str(updates)]
        subprocess.run(command, check=True)
    return json.loads((out / "metrics.json").read_text())


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: every method's errors, median of the seeds and from least to greatest."""
    lines = [f"| root mean squared error | {' | '.join(COLUMNS.values())} |"]
    lines.append("|---" * (len(COLUMNS) + 1) + "|")
    for method, title in runs[0]["methods"].items():
        cells = []
        for column in COLUMNS:
            measure, variable = column.split(".")
            errors = [run[measure][method][variable] for run in runs]
            cells.append(f"{np.median(errors):.3g} ({min(errors):.3g} to {max(errors):.3g})")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    folder: Path = Path("runs/benchmark-software-sensor"), seeds: int = 5, updates: int = 1500
) -> None:
    """Run the benchmark.

    Args:
        folder: Where the runs go.
        seeds: How many, from 0.
        updates: Of each model's training.
    """
    runs = [run_seed(seed, folder / f"seed_{seed}", updates) for seed in range(seeds)]
    shutil.copyfile(folder / "seed_0" / FIGURE, ROOT / "docs" / "images" / FIGURE)
    said = (
        f"`python benchmarks/sensor.py --seeds {seeds} --updates {updates}`; median of the seeds, "
        f"least to greatest; torch {runs[0]['versions']['torch']}."
    )
    write_block("software-sensor", f"{said}\n\n{table(runs)}")


if __name__ == "__main__":
    tyro.cli(main)
