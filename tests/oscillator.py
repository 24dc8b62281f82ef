"""A noisy, driven oscillator seen by four noisy sensors: linear, Gaussian, and exactly known."""

from pathlib import Path

import torch
from small import as_dataset, box, generator, vector
from torch.distributions import MultivariateNormal

from worldmodel.data import Dataset
from worldmodel.training.config import TrainConfig
from worldmodel.training.losses.elbo import ELBOConfig
from worldmodel.training.trainer import Trainer
from worldmodel.types import Batch

F = torch.tensor([[0.95, 0.3], [-0.3, 0.9]], dtype=torch.float64)
B = torch.tensor([[0.0], [0.5]], dtype=torch.float64)
# Both components of the state begin, and are kept by noise and torque, at a variance of about one.
NOISE = torch.tensor([0.2, 0.3], dtype=torch.float64).diag()
H = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7], [0.7, -0.7]], dtype=torch.float64)
SENSOR = 0.05
SPECS = vector(4), box(-1.0, 1.0)


def episodes(size: int, steps: int, seed: int) -> Batch:
    g = generator(seed)
    actions = 2 * torch.rand(size, steps, 1, generator=g) - 1
    states = [torch.randn(size, 2, generator=g, dtype=torch.float64)]
    for action in actions.double().unbind(1):
        noise = torch.randn(size, 2, generator=g, dtype=torch.float64)
        states.append(states[-1] @ F.T + action @ B.T + noise @ NOISE)
    clean = torch.stack(states, 1) @ H.T
    frames = clean + SENSOR * torch.randn(clean.shape, generator=g, dtype=torch.float64)
    never = torch.zeros(size, steps, dtype=torch.bool)
    return Batch(
        frames.float(),
        actions,
        torch.zeros(size, steps),
        never,
        ~never,
        torch.stack(states, 1).float(),
    )


def dataset(size: int = 400, steps: int = 10) -> Dataset:
    train, validation = (episodes(size, steps, seed) for seed in (0, 1))
    return as_dataset(*SPECS, train=train, validation=validation)


def log_likelihood(batch: Batch) -> torch.Tensor:
    """ln p(x | u) in nats of each episode in the sensors' units, from the joint Gaussian."""
    frames, actions = batch.observations.double(), batch.actions.double()
    size, count = frames.shape[:2]
    maps = torch.zeros(count, 2, 2 * count, dtype=torch.float64)  # states from independent noises
    means = torch.zeros(size, count, 2, dtype=torch.float64)
    for t in range(count):
        if t:
            maps[t] = F @ maps[t - 1]
            means[:, t] = means[:, t - 1] @ F.T + actions[:, t - 1] @ B.T
        maps[t, :, 2 * t : 2 * t + 2] = NOISE if t else torch.eye(2, dtype=torch.float64)
    seen = (H @ maps).flatten(0, 1)
    covariance = seen @ seen.T + SENSOR**2 * torch.eye(len(seen), dtype=torch.float64)
    return MultivariateNormal((means @ H.T).flatten(1), covariance).log_prob(frames.flatten(1))


def maximise_bound(model, dataset: Dataset, folder: Path, **settings) -> None:
    """Train by the bound alone: not annealed, and with every frame observed."""
    config = TrainConfig(
        objective="elbo",
        elbo=ELBOConfig(start=1.0),
        dropout_fraction=0.0,
        tensorboard=False,
        **settings,
    )
    trainer = Trainer(model, dataset, config, folder)
    for _ in range(config.updates):
        trainer.step()


def in_units_of(model, likelihood: torch.Tensor, frames: int) -> torch.Tensor:
    """The same of the observations as a model scales them."""
    return likelihood + frames * model.codec.parts[0].std.double().log().sum()
