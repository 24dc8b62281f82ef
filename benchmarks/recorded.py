"""The pendulum from a folder of PNG and CSV, recorded regularly, and with jitter and lost frames.

    python benchmarks/recorded.py

Both folders come in by ``worldmodel import``, and a model is trained on each by the pendulum's
preset. The irregular one is what its camera saw at the moment of each time stamp, 20 % of a period
early or late, with 5 % of all rows lost. What differs is the R² of the velocity that the filter
believes.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from envs.pendulum import INTERVAL, PendulumSystem, babbling_start, reward, rk4_step
from worldmodel.cli import main as worldmodel

ROLES = ["--map", "states=sin,cos,velocity"]


def record(folder: Path, episodes: int, steps: int, jitter: float, lost: float, seed: int) -> None:
    """Write one folder an episode: numbered PNG, and a CSV with a row for each.

    Args:
        folder: To write.
        episodes: How many.
        steps: Of each.
        jitter: By how many periods a picture is early or late at most.
        lost: Share of the rows that are not written.
        seed: Of starts and torques, which are the same whatever jitter and loss are.
    """
    rng, noise = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    camera = PendulumSystem().camera(1)
    for episode in range(episodes):
        start, torques = babbling_start(rng), rng.uniform(-5, 5, steps)
        times = (np.arange(steps) + jitter * noise.uniform(-1, 1, steps)) * INTERVAL
        times -= min(times[0], 0.0)
        kept = noise.uniform(size=steps) >= lost
        kept[[0, -1]] = True
        states = trajectory(start, torques, times)
        run = folder / f"run{episode:03d}"
        run.mkdir(parents=True)
        with (run / "log.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["time", "action", "reward", "sin", "cos", "velocity"])
            for t in np.flatnonzero(kept):
                angle, velocity = states[t]
                paid = reward(angle, velocity, torques[t])
                told = (times[t], torques[t], paid, np.sin(angle), np.cos(angle), velocity)
                rows.writerow(map(repr, map(float, told)))
                picture = camera(states[t : t + 1])[0, ..., 0]
                Image.fromarray(picture).save(run / f"{t}.png")


def trajectory(start: np.ndarray, torques: np.ndarray, times: np.ndarray) -> np.ndarray:
    """States (T, 2) at given times under torques that change at every interval."""
    state, now, states = start, 0.0, []
    for time in times:
        while now < time - 1e-12:
            step = int(now / INTERVAL + 1e-9)
            until = min(time, (step + 1) * INTERVAL)
            torque = torques[min(step, len(torques) - 1)]
            angle, velocity = rk4_step(
                *(np.array([part]) for part in state), torque, seconds=until - now
            )
            state, now = np.array([angle[0], velocity[0]]), until
        states.append(state)
    return np.array(states)


def main(
    folder: Path = Path("runs/benchmark-recorded"),
    episodes: int = 140,
    steps: int = 100,
    seed: int = 0,
    updates: int = 3500,
) -> None:
    """Run the benchmark.

    Args:
        folder: Where recordings, datasets and runs go.
        episodes: Of each recording; a tenth are for validation, and for test.
        steps: Of each.
        seed: Of everything random.
        updates: Of training; 0 stops after the imports.
    """
    found = {}
    for name, jitter, lost in (("regular", 0.0, 0.0), ("irregular", 0.2, 0.05)):
        source, dataset, run = (folder / f"{part}-{name}" for part in ("source", "data", "run"))
        record(source, episodes, steps, jitter, lost, seed)
        words = ["--resample", str(1 / INTERVAL)] if jitter else []
        worldmodel(["import", str(source), "--out", str(dataset), *ROLES, *words])
        if not updates:
            continue
        training = ["--preset", "pendulum", "--updates", str(updates), "--seed", str(seed)]
        worldmodel(["train", str(dataset), "--run", str(run), *training])
        worldmodel(["evaluate", str(run), "--dataset", str(dataset)])
        found[name] = json.loads((run / "metrics.json").read_text()).get("r2")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    tyro.cli(main)
