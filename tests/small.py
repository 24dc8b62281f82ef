"""Models small enough to test in milliseconds, and data that they can be tested on."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import gymnasium as gym
import numpy as np
import torch

from worldmodel.data import Dataset, Provenance, fingerprint
from worldmodel.models.codec import CodecConfig
from worldmodel.models.dvbf import DVBF
from worldmodel.models.dvbf_config import DVBFConfig, RecognitionConfig, TransitionConfig
from worldmodel.models.registry import MODELS
from worldmodel.spaces import ActionSpace, ObservationSpace, Stream
from worldmodel.types import Batch, from_streams


def pixels(height: int, width: int, channels: int = 1) -> ObservationSpace:
    return ObservationSpace.from_space(gym.spaces.Box(0, 255, (height, width, channels), np.uint8))


def vector(size: int) -> ObservationSpace:
    return ObservationSpace.from_space(gym.spaces.Box(-np.inf, np.inf, (size,), np.float32))


def box(low, high) -> ActionSpace:
    """One number, or as many as the bounds have."""
    low, high = np.float32(np.atleast_1d(low)), np.float32(np.atleast_1d(high))
    return ActionSpace.from_space(gym.spaces.Box(low, high))


def discrete(count: int) -> ActionSpace:
    return ActionSpace.from_space(gym.spaces.Discrete(count))


PIXELS = pixels(8, 8)
VECTOR = vector(3)
SEVERAL = ObservationSpace.from_space(
    gym.spaces.Dict(
        {
            "camera": gym.spaces.Box(0, 255, (8, 8, 1), np.uint8),
            "joints": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
            "gear": gym.spaces.Discrete(3, start=1),
        }
    )
)
BOX = box((-2.0, 0.0), (2.0, 1.0))
DISCRETE = discrete(3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_config(codec=None, recognition=None, transition=None, **changes) -> DVBFConfig:
    """Settings of a DVBF; those of its parts as dictionaries."""
    sizes = {"latent_size": 3, "recurrent": 6, "head_hidden": 5}
    mixing = {"base_matrices": 3, "mixing_hidden": 6, "mlp_hidden": 10, "init_scale": 0.2}
    return DVBFConfig(
        codec=CodecConfig(**({"hidden": 10} | (codec or {}))),
        recognition=RecognitionConfig(**({"hidden": 10} | (recognition or {}))),
        transition=TransitionConfig(**(mixing | (transition or {}))),
        **(sizes | changes),
    )


def tiny_model(observations=VECTOR, actions=BOX, seed: int = 0, **changes) -> DVBF:
    return DVBF(tiny_config(**changes), observations, actions, seed)


def small_model(name: str, observations=VECTOR, actions=BOX, seed: int = 0, **changes):
    """A registered model at its defaults, but for sizes above eight, which become eight."""
    kind = MODELS[name]
    return kind(_small(kind.config_type(**changes)), observations, actions, seed)


def _small(config):
    def smaller(value):
        if dataclasses.is_dataclass(value):
            return _small(value)
        return min(value, 8) if type(value) is int else value

    names = [f.name for f in dataclasses.fields(config)]
    # As many components as pictures have pixels, so that they say all of them.
    exact = {"explained": 1.0} if "explained" in names else {}
    fields = {n: smaller(getattr(config, n)) for n in names if n != "components"} | exact
    return dataclasses.replace(config, **fields)


def random_batch(observations=VECTOR, actions=BOX, size=5, steps=6, seed=0) -> Batch:
    """Meaningless but well-formed episodes of any spaces, none of them padded."""
    g = generator(seed)
    streams = {
        stream.name: _random_values(stream, (size, steps + 1), g) for stream in observations.streams
    }
    controls = _random_controls(actions, (size, steps), g)
    return Batch(
        from_streams(streams, 2),
        controls,
        torch.randn(size, steps, generator=g) - 1,
        torch.rand(size, steps, generator=g) < 0.2,
        torch.ones(size, steps, dtype=torch.bool),
        torch.randn(size, steps + 1, 2, generator=g),
    )


def _random_values(stream: Stream, lead, g: torch.Generator) -> torch.Tensor:
    """Recorded values of a stream, all of them in its space."""
    if stream.kind == "discrete":
        sizes = [torch.randint(n, (*lead, 1), generator=g) for n in stream.sizes]
        return torch.cat(sizes, -1)
    if stream.dtype == "uint8":
        return torch.randint(0, 256, (*lead, *stream.shape), generator=g, dtype=torch.uint8)
    values = 2 + 3 * torch.randn((*lead, *stream.shape), generator=g)
    low, high = (torch.tensor(b).reshape(stream.shape) for b in (stream.low, stream.high))
    bounded = low.isfinite() & high.isfinite()
    within = low + (high - low) * torch.rand(values.shape, generator=g) if bounded.any() else values
    values = torch.where(bounded, within, values)
    return torch.from_numpy(stream.read(stream.write(values.numpy()), lead))


def _random_controls(space: ActionSpace, lead, g: torch.Generator) -> torch.Tensor:
    if space.kind == "discrete":
        index = torch.randint(space.size, lead, generator=g)
        return torch.nn.functional.one_hot(index, space.size).float()
    if space.kind == "box" and all(space.bounded) and all(space.continuous):
        low, high = torch.tensor(space.low), torch.tensor(space.high)
        return low + (high - low) * torch.rand(*lead, space.size, generator=g)
    rng = np.random.default_rng(int(torch.randint(2**31, (), generator=g)))
    return torch.from_numpy(space.encode(space.sample(rng, lead), lead))


def as_dataset(observations, actions, **splits: Batch) -> Dataset:
    digest = fingerprint(dict(splits), observations, actions)
    created = datetime(2020, 1, 1, tzinfo=UTC).isoformat()
    provenance = Provenance("Test-v0", {}, {}, {}, None, 0, 1, {}, created, digest)
    return Dataset(dict(splits), observations, actions, provenance)


def batches(dataset: Dataset) -> dict[str, Batch]:
    """All splits in memory."""
    return {name: dataset.split(name).padded() for name in dataset.splits}


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
    return as_dataset(vector(2), box(-1.0, 1.0), train=train, validation=validation, test=test)


def with_fields(batch: Batch, **changes) -> Batch:
    return dataclasses.replace(batch, **changes)
