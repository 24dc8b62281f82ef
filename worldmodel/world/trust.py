"""How far a dream can be believed: an upper bound on its own error, at every step.

An error grows on the way: a little where nothing happens, much where a pendulum stands upright or a
ball meets a wall, and outside the data without limit. So what bounds it goes along with the dream
and keeps a memory, of which every step forgets a learned fraction and to which it adds. From the
memory a quantile of the error's logarithm is read; what that quantile lacks of its coverage on
rollouts that it was not fitted to is then added (``calibration.py``).

Source: Romano, Patterson and Candes 2019, "Conformalized Quantile Regression". Differs: of
sequences, corrected at some steps and in between by straight lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.errors import ConfigError, require_at_least
from worldmodel.models.networks import compiled, numbers
from worldmodel.models.program import Builder, Rows
from worldmodel.world.members import Members

# Distances, in radii, between which they are told apart: inside the support the compiled step does
# not look for the very nearest centre.
_NEAR, _FAR = 1.0, 4.0
# Logarithms of bounds beyond which they say no more.
_LEAST, _MOST = -30.0, 30.0
# Steps at which bounds are corrected.
_KNOTS = (1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 50, 65, 80, 100, 130, 160, 200)


@dataclass(frozen=True)
class TrustConfig:
    """How the bound on a dream's error is fitted.

    Attributes:
        coverage: Fraction of dreams whose error at a step is to lie below its bound.
        steps: Of the longest rollouts; beyond, a bound is infinite.
        looks: Frames that are filtered before a rollout begins; fewer in shorter episodes.
        updates: Gradient updates. 0 fits nothing, and bounds are infinite.
        memory: Numbers that go along with a dream.
        hidden: Units of the layer that looks at a step.
        seed: Of initial weights, batches, noise, and of what is held out for the correction.
    """

    coverage: float = 0.9
    steps: int = 50
    looks: int = 5
    updates: int = 300
    memory: int = 8
    hidden: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = ("steps", "looks", "memory", "hidden")
        require_at_least(1, **{name: getattr(self, name) for name in sizes})
        require_at_least(0, updates=self.updates, seed=self.seed)
        if not 0.5 <= self.coverage < 1:
            raise ConfigError(f"coverage must lie in [0.5, 1), got {self.coverage}")

    @property
    def fewest(self) -> int:
        """Rollouts without which no correction is finite."""
        return math.ceil(self.coverage / (1 - self.coverage) - 1e-9)


class Bounds(NamedTuple):
    """Upper bounds on the error of dreams at a step, each infinite where nobody knows.

    Attributes:
        error: Mean squared error of the predicted observation as a fraction of its stream's
            variance, the largest over streams.
        reward: Absolute error of the reward, in the environment's units.
        streams: The first of each stream, by name.
    """

    error: Tensor
    reward: Tensor
    streams: dict[str, Tensor]


class Trust(nn.Module):
    """Bounds of a dream's error; buffers and weights travel with the model's checkpoint.

    Args:
        latent: Components of a state.
        act: Of an action.
        noise: Of the process noise.
        streams: Names of the observation's streams.
        horizon: Steps for which there are bounds.
        config: How it is fitted.
        members: Whose disagreement along the dream it sees; None if there are none.
    """

    mean: Tensor
    std: Tensor
    start: Tensor
    surprise: Tensor
    unknown: Tensor
    variance: Tensor
    offset: Tensor
    slopes: Tensor

    def __init__(
        self,
        latent: int,
        act: int,
        noise: int,
        streams: tuple[str, ...],
        horizon: int,
        config: TrustConfig = TrustConfig(),
        members: Members | None = None,
    ) -> None:
        super().__init__()
        self.config, self.horizon, self.noise_size = config, horizon, noise
        # In a tuple, since they are no part of this: they have their own place in a checkpoint.
        self._members = (members,)
        # Of one stream alone the largest is its own.
        self.streams = streams if len(streams) > 1 else ()
        self.outputs = 2 + len(self.streams)
        size = (2 if members is None else 3) * latent + act + noise + 1
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.register_buffer("start", torch.full((self.outputs,), torch.inf))
        self.register_buffer("surprise", torch.tensor(torch.inf))
        self.register_buffer("unknown", torch.zeros(self.outputs))
        self.register_buffer("variance", torch.ones(len(streams)))
        self.register_buffer("offset", torch.zeros(2, self.outputs))
        self.register_buffer("slopes", torch.zeros(2, len(self.knots), self.outputs))
        c = config
        self.look = nn.Sequential(
            nn.Linear(size, c.hidden), nn.SiLU(), nn.Linear(c.hidden, 2 * c.memory)
        )
        self.first = nn.Parameter(torch.zeros(c.memory))
        self.read = nn.Sequential(
            nn.Linear(c.memory, 2 * c.memory), nn.SiLU(), nn.Linear(2 * c.memory, self.outputs)
        )
        self.requires_grad_(False)

    @property
    def knots(self) -> tuple[int, ...]:
        """Steps at which bounds are corrected: some up to the horizon, and that."""
        return (*(k for k in _KNOTS if k < self.horizon), self.horizon)

    @property
    def memory_size(self) -> int:
        """Numbers that go along with a dream: what is remembered, its steps, and its members."""
        return len(self.first) + 1 + self._offsets_size

    @property
    def _offsets_size(self) -> int:
        return 0 if self._members[0] is None else self._members[0].offsets_size

    def begin(self, n: int) -> Float[Tensor, "n memory"]:
        """Memories of dreams that begin."""
        return nn.functional.pad(self.first, (0, 1 + self._offsets_size)).expand(n, -1).clone()

    def remember(
        self, kept: Float[Tensor, "batch memory"], seen: Float[Tensor, "batch size"]
    ) -> Float[Tensor, "batch memory"]:
        """The memory after a step."""
        fraction, added = self.look((seen - self.mean) / self.std).chunk(2, -1)
        return fraction.sigmoid() * kept + added

    def corrections(self, steps: Float[Tensor, " batch"]) -> Float[Tensor, "2 batch outputs"]:
        """What is added to quantiles after so many steps; without process noise, and with it."""
        knots = torch.tensor(self.knots, dtype=steps.dtype, device=steps.device)
        beyond = (steps.unsqueeze(1) - knots).relu()
        return self.offset.unsqueeze(1) + beyond @ self.slopes

    def forward(
        self,
        memory: Float[Tensor, "batch memory"],
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch draws"] | None,
        arrived: Float[Tensor, "batch latent"],
        distance: Float[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch memory"], Float[Tensor, "batch outputs"]]:
        """The memory after a step, and bounds: largest over streams, reward, and every stream's.

        Args:
            memory: Before the step.
            state: Where the dreams were.
            action: Controls.
            noise: Random numbers, as of ``Dynamics.draw``, of which those of ends say nothing; None
                of dreams without.
            arrived: Where they came to.
            distance: From the data, in radii.
        """
        quiet = noise is None
        size = self.noise_size
        noise = state.new_zeros(len(state), size) if noise is None else noise[:, :size]
        kept, steps, offsets = memory.split([len(self.first), 1, self._offsets_size], 1)
        steps, (members,) = steps.squeeze(1) + 1, self._members
        seen = looked_at(state, action, noise, arrived, distance)
        if members is not None:
            offsets = members.follow(offsets, state, action)
            seen = torch.cat([seen, members.apart(offsets)], 1)
        kept = self.remember(kept, seen)
        corrections = self.corrections(steps)
        drawn = torch.zeros_like(steps, dtype=torch.bool) if quiet else (noise != 0).any(1)
        correction = torch.where(drawn.unsqueeze(1), corrections[1], corrections[0])
        bounds = (self.read(kept) + correction).clamp(_LEAST, _MOST).exp() + self.unknown
        known = steps <= self.horizon
        bounds = torch.where(known.unsqueeze(1), bounds, torch.inf)
        return torch.cat([kept, steps.unsqueeze(1), offsets], 1), bounds

    def compiled(
        self,
        builder: Builder,
        memory: Rows,
        state: Rows,
        action: Rows,
        noise: Rows,
        arrived: Rows,
        squared: Rows,
    ) -> tuple[Rows, Rows]:
        """Instructions of ``forward``, of the squared distance."""
        kept, steps, offsets = memory.split(len(self.first), 1, self._offsets_size)
        away = builder.sqrt(builder.clamp(squared, _NEAR**2, _FAR**2))
        parts = [state, action, noise, arrived, away]
        if (members := self._members[0]) is not None:
            offsets = members.compiled(builder, offsets, state, action)
            parts.append(members.compiled_apart(builder, offsets))
        ends = np.cumsum([part.count for part in parts])[:-1]
        pairs = 1 / self.std, -self.mean / self.std
        scales = (np.split(numbers(values), ends) for values in pairs)
        seen = builder.join(*map(builder.affine, parts, *scales))
        fraction, added = compiled(self.look, builder, seen).split(kept.count, kept.count)
        kept = builder.add(builder.multiply(builder.sigmoid(fraction), kept), added)
        steps = builder.affine(steps, 1.0, 1.0)
        knots = np.array(self.knots, np.float32)
        beyond = builder.linear(steps, np.ones((len(knots), 1)), -knots, relu=True)
        slopes = numbers(self.slopes.transpose(1, 2).flatten(0, 1))
        both = builder.linear(beyond, slopes, numbers(self.offset.flatten()))
        quiet, noisy = both.split(self.outputs, self.outputs)
        correction = quiet
        if noise.count:
            # No draw is as near to zero as this.
            drawn = builder.affine(builder.contract(noise, noise), 1e12)
            correction = builder.select(drawn, quiet, noisy)
        bounds = builder.add(compiled(self.read, builder, kept), correction)
        bounds = builder.exp(builder.clamp(bounds, _LEAST, _MOST))
        bounds = builder.affine(bounds, 1.0, numbers(self.unknown))
        unknown = builder.constant(np.full(self.outputs, np.inf))
        bounds = builder.select(builder.affine(steps, 1 / (self.horizon + 0.5)), bounds, unknown)
        return builder.join(kept, steps, offsets), bounds

    def named(self, bounds: Float[Tensor, "*batch outputs"]) -> Bounds:
        """Bounds by what they are of."""
        error, reward, *streams = bounds.unbind(-1)
        return Bounds(error, reward, dict(zip(self.streams, streams, strict=True)))


def looked_at(
    state: Float[Tensor, "*batch latent"],
    action: Float[Tensor, "*batch act"],
    noise: Float[Tensor, "*batch noise"],
    arrived: Float[Tensor, "*batch latent"],
    distance: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch size"]:
    """What the trust sees of a step, beside what members say."""
    away = distance.clamp(_NEAR, _FAR).unsqueeze(-1)
    return torch.cat([state, action, noise, arrived, away], -1)
