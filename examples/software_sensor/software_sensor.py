"""A software sensor: two cheap voltages become the angle and the velocity of a pendulum.

    make software-sensor

The pendulum is watched by a sensor of two channels. Both are bent, noisy and drift, and neither
shows how fast it moves. A model learns from what the sensor said and what the motor was told,
nothing else. Its filter then turns every new reading into a latent state, and one regression,
calibrated once against a reference sensor on the training episodes, reads angle and velocity off
it.

How good that is, is told by comparison: with the raw sensor under the same regression, from its
latest reading and from its last ten; with an extended Kalman filter that knows the physics and the
sensor's statistics; and with the optimum, a particle filter that knows the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import tyro
from cheap_sensor import ENV_ID
from comparison import NAMES, estimates, measure, truth
from figure import draw
from learning import learn
from rich.console import Console
from rich.table import Table

from worldmodel import data
from worldmodel.files import write_json


def main(
    out: Path = Path("runs/software_sensor"),
    seed: int = 0,
    episodes: int = 400,
    held_out: int = 100,
    updates: int = 1500,
    particles: int = 2000,
) -> dict[str, dict]:
    """Record, learn, calibrate, compare, draw.

    Args:
        out: Folder for the model, ``metrics.json`` and ``software_sensor.png``.
        seed: Of everything.
        episodes: To train and calibrate on, of 10 s each.
        held_out: Episodes to validate on, and as many to test on.
        updates: Of the model's training.
        particles: Of the optimum.
    """
    torch.set_num_threads(1)
    splits = data.default_splits(episodes, steps=100, test_steps=100, held_out=held_out)
    dataset = data.collect(ENV_ID, None, data.Held(), splits, seed, None, held_out, progress=True)
    world = learn(dataset, out, seed, updates)
    rng = np.random.default_rng(seed)
    train, test = dataset.train.padded(), dataset.test.padded()
    found = estimates(world, train, test, particles, rng)
    measured = measure(found, truth(test))
    draw(found, measured["course"], test, out / "software_sensor.png")
    write_json(
        out / "metrics.json", {**measured, "methods": NAMES, "versions": data.installed_versions()}
    )
    table = Table("root mean squared error", "sin φ", "cos φ", "angle (°)", "velocity (rad/s)")
    for name, title in NAMES.items():
        table.add_row(title, *(f"{error:.3g}" for error in measured["rmse"][name].values()))
    Console().print(table)
    return measured


if __name__ == "__main__":
    tyro.cli(main)
