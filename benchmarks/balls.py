"""The balls' demos: one ball and two balls, written to docs/results.md.

    make benchmark-balls

Each seed records its own data and trains its own model, and for the one ball its own agent, two at
a time. The strips and the dream of the two balls go to docs/images.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import tyro
from seeds import HORIZONS, Row, report, run_seeds

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def prediction_rows(goals: dict[int, str], baselines: dict[str, str]) -> list[Row]:
    """Errors by horizon of the model and of every baseline."""
    rows = [
        Row(
            f"open-loop error at step {k}, fraction of variance",
            f"fraction.{k}",
            False,
            goals.get(k, ""),
        )
        for k in HORIZONS
    ]
    rows += [
        Row(f"the same, predictive mean, step {k}", f"averaged_fraction.{k}", False)
        for k in HORIZONS
    ]
    for name, title in baselines.items():
        rows += [
            Row(f"{title}, step {k}", f"baseline_fraction.{name}.{k}", False) for k in HORIZONS
        ]
    return rows


STILL = {"last_frame": "last frame", "mean_frame": "mean frame"}
TRUTH = {"constant_velocity": "constant velocity from the true state"}

BALL = (
    Row("R² x", "r2.x", True, "≥ 0.98"),
    Row("R² y", "r2.y", True, "≥ 0.98"),
    Row("R² vx", "r2.vx", True, "≥ 0.95"),
    Row("R² vy", "r2.vy", True, "≥ 0.95"),
    *prediction_rows({10: "≤ 0.1", 30: "≤ 0.4"}, STILL | TRUTH),
    Row("fraction of 100 horizons under last frame", "under.last_frame", True, "1"),
    Row("fraction of 100 horizons under mean frame", "under.mean_frame", True),
    Row("fraction of 100 horizons under constant velocity", "under.constant_velocity", True),
    Row("at the target, 100 real starts", "agent.at_target_fraction", True, "≥ 0.95 each"),
    Row("return in reality", "agent.return_real", True),
    Row("return in the dream", "agent.return_dream", True),
    Row("real frames for training", "real_frames_used", False),
)
TWO_BALLS = (
    *(Row(f"R² {v}{i}", f"r2.{v}_{i}", True) for i in (1, 2) for v in ("x", "y", "vx", "vy")),
    *prediction_rows({}, STILL),
    Row("steps under both baselines, from the first on", "steps_under_all", True),
    Row("the same, predictive mean", "averaged_steps_under_all", True, "≥ 30"),
    Row("real frames for training", "real_frames_used", False),
)


def main(
    folder: Path = Path("runs/benchmark-balls"),
    seeds: int = 5,
    two_balls_seeds: int = 5,
    parallel: int = 2,
) -> None:
    """Run the benchmark.

    Args:
        folder: Where the runs go.
        seeds: Of the one ball, from 0; 0 leaves it out.
        two_balls_seeds: Of the two balls, from 0; 0 leaves them out.
        parallel: Processes at a time.
    """
    if seeds:
        runs = run_seeds("ball", folder / "ball", seeds, parallel)
        report("ball", "make benchmark-balls", BALL, runs)
    if two_balls_seeds:
        runs = run_seeds("two-balls", folder / "two-balls", two_balls_seeds, parallel, films=True)
        report("two-balls", "make benchmark-balls", TWO_BALLS, runs)
        for name in ("strips.png", "dream.gif"):
            shutil.copyfile(folder / "two-balls" / "seed_0" / name, IMAGES / f"two_balls_{name}")


if __name__ == "__main__":
    tyro.cli(main)
