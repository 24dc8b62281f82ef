"""The model: trained on readings and commands alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cheap_sensor import NOISE

from worldmodel.data import Dataset
from worldmodel.models.dvbf import DVBF
from worldmodel.training.recipe import recipe
from worldmodel.training.trainer import Trainer
from worldmodel.world.world import World


def learn(dataset: Dataset, folder: Path, seed: int, updates: int, progress: bool = True) -> World:
    """Train a filter without ground truth.

    The recipe for vectors expects a simulator's, which show nearly all of the state, exactly. Three
    things are different here. Two readings do not show the state, so the latent space has room for
    angle, velocity and two drifts, and the network that infers the process noise may correct all of
    them by what any reading tells. The process is noisy by itself and needs no floor. And readings
    must not be reconstructed better than their noise, which the sensor's data sheet tells: lambda
    may only move around the weight that a Gaussian of that noise would have.
    """
    sizes, training = recipe(dataset)
    sizes = replace(sizes, latent_size=5, recognition="network", noise_floor=0.0)
    readings = dataset.train.observations[dataset.train.frame_mask]
    share = float((NOISE**2 / readings.var(0)).mean())
    weight = 1 / (2 * share)
    constrained = replace(
        training.constrained,
        loose=2 * share,
        tight=share,
        least=0.4 * weight,
        greatest=4 * weight,
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
