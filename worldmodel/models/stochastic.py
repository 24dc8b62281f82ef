"""Stochastic parts of a recurrent state: what a network gives, and what is drawn from it.

Both kinds take *standard normal* noise, so that whatever dreams draws the same for every model;
without noise they give what is most likely.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.errors import NotCompiled
from worldmodel.models.networks import (
    compiled_positive,
    normal_entropy,
    normal_kl,
    positive,
)
from worldmodel.models.program import Builder, Rows

# Standard deviation that is left at least: what a step learns is worth little by the bit, and no
# prior becomes so sharp that one frame costs more than all others.
LEAST = 0.1


class Stochastic(ABC):
    """Distributions over z, each given by the numbers (``raw``) that a network says.

    Attributes:
        size: Numbers of z.
        noise_size: Standard normal numbers that a draw takes.
        raw_size: Numbers that say a distribution.
    """

    size: int
    noise_size: int
    raw_size: int

    @abstractmethod
    def draw(
        self, raw: Float[Tensor, "*batch raw"], noise: Float[Tensor, "*batch noise"] | None
    ) -> Float[Tensor, "*batch size"]:
        """A draw by noise; what is most likely if there is none, or if it is zero."""

    @abstractmethod
    def slopes(
        self, raw: Float[Tensor, "*batch raw"], noise: Float[Tensor, "*batch noise"]
    ) -> Float[Tensor, "*batch slopes"]:
        """What ``pull`` needs to know of a draw."""

    @abstractmethod
    def pull(
        self, slopes: Float[Tensor, "*batch slopes"], on_z: Float[Tensor, "*batch size"]
    ) -> Float[Tensor, "*batch raw"]:
        """Gradient on ``raw`` of a draw that has this gradient on z."""

    @abstractmethod
    def scale(self, raw: Float[Tensor, "*batch raw"]) -> Float[Tensor, "*batch size"]:
        """Standard deviations of z."""

    @abstractmethod
    def kl(
        self, raw: Float[Tensor, "*batch raw"], prior: Float[Tensor, "*batch raw"]
    ) -> Float[Tensor, "*batch"]:
        """KL from the second to the first in nats."""

    @abstractmethod
    def entropy(self, raw: Float[Tensor, "*batch raw"]) -> Float[Tensor, "*batch"]:
        """Nats."""

    @abstractmethod
    def compiled(self, builder: Builder, raw: Rows) -> tuple[Rows, Rows]:
        """Instructions of what is most likely, and of ``scale``, of which noise adds multiples."""


class GaussianLatents(Stochastic):
    """N(m, s), diagonal, s at least 0.1.

    Source: Hafner et al. 2019, "Learning Latent Dynamics for Planning from Pixels".

    Args:
        size: Numbers of z.
    """

    def __init__(self, size: int) -> None:
        self.size = self.noise_size = size
        self.raw_size = 2 * size

    def _moments(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        mean, spread = raw.chunk(2, -1)
        return mean, positive(spread) + LEAST

    def draw(
        self, raw: Float[Tensor, "*batch raw"], noise: Float[Tensor, "*batch noise"] | None
    ) -> Float[Tensor, "*batch size"]:
        """The mean, and noise times the scale."""
        mean, scale = self._moments(raw)
        return mean if noise is None else torch.addcmul(mean, scale, noise)

    def slopes(
        self, raw: Float[Tensor, "*batch raw"], noise: Float[Tensor, "*batch noise"]
    ) -> Float[Tensor, "*batch slopes"]:
        """Of the softplus, times noise."""
        return raw[..., self.size :].sigmoid() * noise

    def pull(
        self, slopes: Float[Tensor, "*batch slopes"], on_z: Float[Tensor, "*batch size"]
    ) -> Float[Tensor, "*batch raw"]:
        """To mean and spread."""
        return torch.cat([on_z, on_z * slopes], -1)

    def scale(self, raw: Float[Tensor, "*batch raw"]) -> Float[Tensor, "*batch size"]:
        """Standard deviations."""
        return self._moments(raw)[1]

    def kl(
        self, raw: Float[Tensor, "*batch raw"], prior: Float[Tensor, "*batch raw"]
    ) -> Float[Tensor, "*batch"]:
        """In closed form."""
        return normal_kl(*self._moments(raw), *self._moments(prior))

    def entropy(self, raw: Float[Tensor, "*batch raw"]) -> Float[Tensor, "*batch"]:
        """Nats."""
        return normal_entropy(self.scale(raw))

    def compiled(self, builder: Builder, raw: Rows) -> tuple[Rows, Rows]:
        """Instructions of mean and scale."""
        mean, spread = raw.split(self.size, self.size)
        return mean, builder.affine(compiled_positive(builder, spread), 1.0, LEAST)


class CategoricalLatents(Stochastic):
    """Several categorical variables, one-hot, with straight-through gradients.

    A draw is the greatest of the logits and Gumbel noise, which standard normal noise is turned
    into; no noise adds the same to all classes. The gradient is that of the probabilities.

    Source: Hafner et al. 2021, "Mastering Atari with Discrete World Models".

    Args:
        variables: How many.
        classes: Of each.
    """

    def __init__(self, variables: int, classes: int) -> None:
        self.shape = variables, classes
        self.size = self.noise_size = self.raw_size = variables * classes

    def _logits(self, raw: Tensor) -> Tensor:
        return raw.unflatten(-1, self.shape).log_softmax(-1)

    def draw(
        self, raw: Float[Tensor, "*batch raw"], noise: Float[Tensor, "*batch noise"] | None
    ) -> Float[Tensor, "*batch size"]:
        """One-hot, flat."""
        logits = self._logits(raw)
        chance, favoured = logits.exp(), logits
        if noise is not None:
            uniform = torch.special.log_ndtr(noise).unflatten(-1, self.shape)
            favoured = logits - (-uniform).log()
        chosen = torch.zeros_like(chance).scatter(-1, favoured.argmax(-1, keepdim=True), 1.0)
        return (chosen + (chance - chance.detach())).flatten(-2)

    def slopes(
        self, raw: Float[Tensor, "*batch raw"], noise: Float[Tensor, "*batch noise"]
    ) -> Float[Tensor, "*batch slopes"]:
        """The probabilities."""
        return self._logits(raw).exp().flatten(-2)

    def pull(
        self, slopes: Float[Tensor, "*batch slopes"], on_z: Float[Tensor, "*batch size"]
    ) -> Float[Tensor, "*batch raw"]:
        """Of the softmax."""
        chance, felt = (each.unflatten(-1, self.shape) for each in (slopes, on_z))
        return (chance * (felt - (chance * felt).sum(-1, keepdim=True))).flatten(-2)

    def scale(self, raw: Float[Tensor, "*batch raw"]) -> Float[Tensor, "*batch size"]:
        """Standard deviation of each class's being chosen."""
        chance = self._logits(raw).exp()
        return (chance * (1 - chance)).clamp_min(0).sqrt().flatten(-2)

    def kl(
        self, raw: Float[Tensor, "*batch raw"], prior: Float[Tensor, "*batch raw"]
    ) -> Float[Tensor, "*batch"]:
        """Summed over variables."""
        ours, theirs = self._logits(raw), self._logits(prior)
        return (ours.exp() * (ours - theirs)).sum((-2, -1)).clamp_min(0)

    def entropy(self, raw: Float[Tensor, "*batch raw"]) -> Float[Tensor, "*batch"]:
        """Summed over variables."""
        logits = self._logits(raw)
        return -(logits.exp() * logits).sum((-2, -1))

    def compiled(self, builder: Builder, raw: Rows) -> tuple[Rows, Rows]:
        """There is none: a program knows no choice of the greatest."""
        raise NotCompiled("categorical latents have no compiled form")
