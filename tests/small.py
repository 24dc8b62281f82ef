"""Models small enough to test in milliseconds, and data that they can be tested on."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import torch

from worldmodel.data import Dataset, Provenance, fingerprint
from worldmodel.models.dvbf import DVBF
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.models.registry import MODELS
from worldmodel.types import ActionSpec, Batch, ObservationSpec

PIXELS = ObservationSpec((8, 8, 1), True)
VECTOR = ObservationSpec((3,), False)
BOX = ActionSpec("box", (-2.0, 0.0), (2.0, 1.0))
DISCRETE = ActionSpec("discrete", (0.0,) * 3, (1.0,) * 3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_config(**changes) -> DVBFConfig:
    sizes = {"base_matrices": 3, "mixing_hidden": 6, "transition_init": 0.2}
    sizes |= {"latent_size": 3, "hidden": 10, "recurrent": 6, "head_hidden": 5}
    return DVBFConfig(**(sizes | changes))


def tiny_model(observations=VECTOR, actions=BOX, seed: int = 0, **changes) -> DVBF:
    return DVBF(tiny_config(**changes), observations, actions, seed)


def small_model(name: str, observations=VECTOR, actions=BOX, seed: int = 0, **changes):
    """A registered model at its defaults, but for sizes above eight, which become eight."""
    kind = MODELS[name]
    config = kind.config_type(**changes)
    sizes = {k: min(v, 8) for k, v in dataclasses.asdict(config).items() if type(v) is int}
    return kind(dataclasses.replace(config, **sizes), observations, actions, seed)


def random_batch(observations=VECTOR, actions=BOX, size=5, steps=6, seed=0) -> Batch:
    """Meaningless but well-formed episodes, none of them padded."""
    g = generator(seed)
    lead = (size, steps + 1, *observations.shape)
    if observations.pixels:
        frames = torch.randint(0, 256, lead, generator=g, dtype=torch.uint8)
    else:
        frames = 2 + 3 * torch.randn(lead, generator=g)
    if actions.kind == "discrete":
        index = torch.randint(actions.size, (size, steps), generator=g)
        controls = torch.nn.functional.one_hot(index, actions.size).float()
    else:
        low, high = torch.tensor(actions.low), torch.tensor(actions.high)
        controls = low + (high - low) * torch.rand(size, steps, actions.size, generator=g)
    return Batch(
        frames,
        controls,
        torch.randn(size, steps, generator=g) - 1,
        torch.rand(size, steps, generator=g) < 0.2,
        torch.ones(size, steps, dtype=torch.bool),
        torch.randn(size, steps + 1, 2, generator=g),
    )


def as_dataset(observations, actions, **splits: Batch) -> Dataset:
    digest = fingerprint(splits, observations, actions)
    created = datetime(2020, 1, 1, tzinfo=UTC).isoformat()
    provenance = Provenance("Test-v0", {}, {}, {}, None, 0, 1, {}, created, digest)
    return Dataset(splits, observations, actions, provenance)


def random_dataset(observations=VECTOR, actions=BOX, size=12, steps=6) -> Dataset:
    train, validation = (random_batch(observations, actions, size, steps, s) for s in (0, 1))
    return as_dataset(observations, actions, train=train, validation=validation)


def rotation_batch(size: int, steps: int, seed: int) -> Batch:
    """A point on a slowly turning plane that is pushed about, seen as it is."""
    g = generator(seed)
    angle = torch.tensor(0.4)
    rotation = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    actions = 2 * torch.rand(size, steps, 1, generator=g) - 1
    states = [torch.randn(size, 2, generator=g)]
    for t in range(steps):
        states.append(states[-1] @ rotation.T + actions[:, t] * torch.tensor([0.3, 0.0]))
    frames = torch.stack(states, 1)
    rewards = -frames[:, 1:].square().sum(-1)
    never = torch.zeros(size, steps, dtype=torch.bool)
    return Batch(frames, actions, rewards, never, ~never, frames.clone())


def rotation_dataset(size: int = 200, steps: int = 10) -> Dataset:
    train, validation, test = (rotation_batch(size, steps, seed) for seed in range(3))
    specs = ObservationSpec((2,), False), ActionSpec("box", (-1.0,), (1.0,))
    return as_dataset(*specs, train=train, validation=validation, test=test)


def with_fields(batch: Batch, **changes) -> Batch:
    return dataclasses.replace(batch, **changes)
