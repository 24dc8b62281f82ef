"""The pendulum from a folder of PNG and CSV, recorded regularly, and with jitter and lost frames.

    python benchmarks/recorded.py

Both folders come in by ``worldmodel import``, and a model is trained on each by the pendulum's
preset. The irregular one is what its camera saw at the moment of each time stamp, up to 20 % of a
period early or late, with 5 % of all rows lost. What is measured is the R² of the velocity that the
live filter believes, of each model on the test episodes of both recordings.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import recorded_early as early
import torch
import tyro
from PIL import Image
from seeds import write_block

from envs.pendulum import INTERVAL, PendulumSystem, babbling_start, reward, rk4_step
from worldmodel import load as load_world
from worldmodel.cli import main as worldmodel
from worldmodel.data import load
from worldmodel.evaluation.tracking import tracked
from worldmodel.files import read_json, write_json

# By name: jitter, in periods, and the share of rows that are lost.
KINDS = {"regular": (0.0, 0.0), "irregular": (0.2, 0.05)}
# R² by stretch, by what a model was trained on and what its filter is tested on.
Found = Mapping[str, Mapping[str, float]]
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


def velocity(run: Path, known: Path, asked: Path) -> dict[str, float]:
    """R² of the velocity that the live filter believes, by stretch of the test episodes.

    Args:
        run: Of the model.
        known: Dataset whose training episodes the line from beliefs to the truth is fitted to.
        asked: Dataset whose test episodes are filtered.
    """
    model = load_world(run).model
    train, test = load(known).train.padded(), load(asked).test.padded()
    return tracked(model, train, test, lambda states: {"velocity": states[..., 2]})["velocity"]


def run_seed(folder: Path, episodes: int, steps: int, seed: int, updates: int) -> Found:
    """Record, import and train under one seed; what is done already is not done again.

    Args:
        folder: Where recordings, datasets and runs go.
        episodes: Of each recording.
        steps: Of each episode.
        seed: Of everything random.
        updates: Of training; 0 stops after the imports.
    """
    if (done := folder / "recorded.json").is_file():
        return read_json(done)
    for name, (jitter, lost) in KINDS.items():
        source, dataset, run = (folder / f"{part}-{name}" for part in ("source", "data", "run"))
        record(source, episodes, steps, jitter, lost, seed)
        words = ["--resample", str(1 / INTERVAL)] if jitter else []
        worldmodel(["import", str(source), "--out", str(dataset), *ROLES, *words])
        if updates:
            # Without a denoiser, which takes no part in the filter.
            training = ["--preset", "pendulum", "--updates", str(updates), "--seed", str(seed)]
            alone = ["--denoise", "0"]
            worldmodel(["train", str(dataset), "--run", str(run), *training, *alone])
    found = {
        f"{name}; {other}": velocity(
            folder / f"run-{name}", folder / f"data-{name}", folder / f"data-{other}"
        )
        for name in KINDS
        for other in KINDS
        if updates
    }
    if found:
        write_json(done, found)
    return found


def table(found: Sequence[Found]) -> str:
    """Markdown of what was measured, a value for each seed."""
    stretches = list(next(iter(found[0].values())))
    lines = [f"| trained on; tested on | {' | '.join(f'frames {s}' for s in stretches)} |"]
    lines.append("|---" * (len(stretches) + 1) + "|")
    for name in found[0]:
        cells = (" ".join(f"{each[name][s]:.3f}" for each in found) for s in stretches)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def early_of(folder: Path, further: Path) -> dict[str, dict[str, early.Filtered]]:
    """What the models of a seed believe of their own test episodes and of further ones.

    Args:
        folder: Of the seed.
        further: Of ``early.recorded``.
    """
    many = {name: further / f"data-{name}" for name in early.ASKED}
    return {
        name: early.filtered(folder / f"run-{name}", known, {early.OWN: known, **many})
        for name, known in ((name, folder / f"data-{name}") for name in KINDS)
    }


def main(
    folder: Path = Path("runs/benchmark-recorded"),
    episodes: int = 140,
    steps: int = 100,
    seeds: int = 3,
    updates: int = 2000,
    many: int = 400,
) -> None:
    """Run the benchmark.

    Args:
        folder: Where recordings, datasets and runs go, a folder for each seed.
        episodes: Of each recording; a tenth are for validation, and for test.
        steps: Of each.
        seeds: How many, from 0 on, decide all that is random.
        updates: Of training; 0 stops after the imports.
        many: Further episodes that all models are asked, for the first frames.
    """
    found = [
        run_seed(folder / f"seed_{seed}", episodes, steps, seed, updates) for seed in range(seeds)
    ]
    if updates:
        said = f"`make benchmark-recorded`, seeds 0 to {seeds - 1}; torch {torch.__version__}."
        early.recorded(folder / "early", record, ROLES, many)
        first = [early_of(folder / f"seed_{seed}", folder / "early") for seed in range(seeds)]
        text = f"{table(found)}\n\n{early.whole(first)}\n\nOf {many} further episodes:\n\n"
        text += early.tables(first)
        write_block("recorded", f"{said}\n\n{text}")
        print(text)


if __name__ == "__main__":
    tyro.cli(main)
