"""The model: trained on readings and commands alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cheap_sensor import NOISE

from worldmodel.data import Dataset
from worldmodel.models.dvbf import DVBF
from worldmodel.systems import preset
from worldmodel.training.trainer import Trainer
from worldmodel.world.world import World


def learn(dataset: Dataset, folder: Path, seed: int, updates: int, progress: bool = True) -> World:
    """Train a filter without ground truth.

    The preset for vectors expects a simulator's, which show nearly all of the state, exactly. Three
    things are different here. Two readings do not show the state, so the latent space has room for
    angle, velocity and two drifts, and the network that infers the process noise may correct all of
    them by what any reading tells. The process is noisy by itself and needs no floor. And readings
    must not be reconstructed better than their noise, which the sensor's data sheet tells: lambda
    may only move around the weight that a Gaussian of that noise would have.
    """
    chosen = preset("vectors")
    sizes = chosen.model("dvbf", dataset.observation_spec)
    sizes = replace(
        sizes,
        latent_size=5,
        recognition=replace(sizes.recognition, kind="network"),
        transition=replace(sizes.transition, noise_floor=0.0),
    )
    training = chosen.training(dataset)
    train = dataset.train.padded()
    readings = train.observations[train.frame_mask]
    fraction = float((NOISE**2 / readings.var(0)).mean())
    weight = 1 / (2 * fraction)
    constrained = replace(
        training.constrained,
        loose=2 * fraction,
        tight=fraction,
        min_multiplier=0.4 * weight,
        max_multiplier=4 * weight,
    )
    training = replace(
        training,
        updates=updates,
        batch_size=64,
        constrained=constrained,
        tensorboard=False,
        seed=seed,
    )
    model = DVBF(sizes, dataset.observation_spec, dataset.action_spec, seed)
    return Trainer(model, dataset, training, folder).fit(progress)
