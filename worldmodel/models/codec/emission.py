"""Emissions p(x_t | z_t): what a frame looks like in a latent state.

Source: Karl et al. 2017, appendix B.3.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributions import Bernoulli, Distribution, Normal, OneHotCategorical
from torch.func import jvp, vjp

from worldmodel.models.networks import compiled, numbers
from worldmodel.models.program import Builder, Rows

# Dimensions of a state up to which a decode along each costs less than derivatives do.
_AXES = 16
# Least variance of a chance: of what never happened nothing is certain.
_LEAST = 1e-2


class Comparison(NamedTuple):
    """A recorded frame against an emission, each (*batch,).

    Attributes:
        distortion: Distance of the mean from the observation, summed over it; see ``Emission``.
        reconstruction: ln p(x | z) in nats.
        calibration: The same value, with a gradient to the emission's own scale and nothing else.
    """

    distortion: Tensor
    reconstruction: Tensor
    calibration: Tensor


class Emission(nn.Module, ABC):
    """What an emission owes. ``mean`` is the network from states to the mean observation.

    Distortion is the deviance, as in generalised linear models: twice what the likelihood falls
    short of the best there is, in units of the emission's scale. That is the squared error of a
    Gaussian. It is stated in standard units, of which the mean observation is as many away as the
    stream weighs; see ``StreamCodec``.
    """

    mean: nn.Module

    @abstractmethod
    def forward(self, state: Float[Tensor, "*batch latent"]) -> Distribution:
        """Distribution over the flat, scaled observation."""

    @abstractmethod
    def compare(
        self, state: Float[Tensor, "*batch latent"], observed: Float[Tensor, "*batch size"]
    ) -> Comparison:
        """How well states explain what was recorded."""

    @abstractmethod
    def sharpness(self, mean: Float[Tensor, "*batch size"]) -> Float[Tensor, "*#batch size"]:
        """One over the standard deviation of each scalar, where the mean of all is ``mean``."""

    @abstractmethod
    def compiled_sharpness(self, builder: Builder, mean: Rows) -> Rows:
        """Instructions of it."""

    def compiled(self, builder: Builder, state: Rows) -> Rows:
        """Instructions of ``mean``.

        Raises:
            NotCompiled: A layer has none.
        """
        return compiled(self.mean, builder, state)

    def calibrate(self, observed: Float[Tensor, "n size"]) -> None:
        """Take standard units from scaled observations; a Gaussian's are in their scaling."""

    def emphasise(self, weights: Float[Tensor, " size"] | None) -> None:
        """Weigh squared errors of scaled values until told otherwise; None weighs all alike.

        What is no Gaussian has no coarse and fine, and stays as it is.
        """

    def unevenness(
        self,
        state: Float[Tensor, "n latent"],
        motion: Float[Tensor, "n latent"],
        total: Callable[[Tensor], Tensor] = lambda own: own,
    ) -> Float[Tensor, ""]:
        """Relative variance, over states, of how strongly motion shows in the observation.

        With J the mean's Jacobian and d the motion, the direction in which the observation moves
        is J d. The strength is |J^T J d|^2 / |J d|^2, the squared gradient along that direction: a
        speed, but blind to the motion's invisible part, such as a change of velocity. It is zero
        where a visible step of given length in latent space changes the observation by the same
        amount everywhere, along the data. States weigh by |J d|.

        Source: Chen et al. 2020, "Learning Flat Latent Manifolds with VAEs". Differs: J^T J is made
        even along the data's motion alone. Across, nothing is known, and an even norm of J could
        be had by changes that no data ever show.

        Args:
            state: Where the Jacobian is taken: by finite differences, or by derivatives if there
                are so many dimensions that a decode along each would cost more.
            motion: The direction in which each state moves.
            total: Adds to a sum over these states that over other processes' states.
        """
        if state.shape[1] > _AXES:
            moved = jvp(self.mean, (state,), (motion,))[1]
            (pulled,) = vjp(self.mean, state)[1](moved)
        else:
            pulled = self._pulled(state, motion)
        squared = (motion * pulled).sum(1).clamp_min(0)
        strength = pulled.square().sum(1) / (squared + 1e-12)
        weight = squared.detach().sqrt()
        weight = weight / (total(weight.sum()) + 1e-12)
        mean = total((weight * strength).sum())
        return total((weight * (strength - mean).square()).sum()) / (mean.square() + 1e-12)

    def _pulled(self, state: Tensor, motion: Tensor) -> Tensor:
        """J^T J d."""
        reach = 0.05
        axes = reach * torch.eye(state.shape[1], dtype=state.dtype, device=state.device)
        points = torch.cat([torch.zeros_like(axes[:1]), axes])
        base, moved = self.mean(state.unsqueeze(1) + points).split([1, len(axes)], 1)
        changes = moved - base
        metric = changes @ changes.mT / reach**2
        return (metric @ motion.unsqueeze(2)).squeeze(2)


class _SquaredError(torch.autograd.Function):
    """|observed - mean|^2 over the last axis: as few passes over frames as that takes."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, observed: Tensor) -> Tensor:
        """(*batch, size) to (*batch,)."""
        error = observed - mean
        ctx.save_for_backward(error)
        return torch.linalg.vector_norm(error, dim=-1).square_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] (of a decorator)
        """To both, to the observation only if it asks."""
        (error,) = ctx.saved_tensors
        on_mean = error * (-2 * grads[0]).unsqueeze(-1)
        return on_mean, -on_mean if ctx.needs_input_grad[1] else None


class GaussianEmission(Emission):
    """N(mu(z), sigma) over the flat, scaled observation, with one learned sigma.

    Args:
        mean: Network from states to the flat, scaled observation.
        observation_size: Scalars in one flat observation.
    """

    def __init__(self, mean: nn.Module, observation_size: int) -> None:
        super().__init__()
        self.size = observation_size
        self.mean = mean
        self.log_scale = nn.Parameter(torch.tensor(-2.0))
        self._roots: Tensor | None = None

    def emphasise(self, weights: Float[Tensor, " size"] | None) -> None:
        """See the base class."""
        self._roots = None if weights is None else weights.sqrt()

    def forward(self, state: Float[Tensor, "*batch latent"]) -> Normal:
        """Distribution over the flat, scaled observation."""
        return Normal(self.mean(state), self.log_scale.exp(), validate_args=False)

    def sharpness(self, mean: Float[Tensor, "*batch size"]) -> Float[Tensor, "*#batch size"]:
        """The same everywhere."""
        return (-self.log_scale).exp().expand(mean.shape[-1])

    def compiled_sharpness(self, builder: Builder, mean: Rows) -> Rows:
        """Instructions of it."""
        return builder.constant(np.full(mean.count, numbers((-self.log_scale).exp())))

    def compare(
        self, state: Float[Tensor, "*batch latent"], observed: Float[Tensor, "*batch size"]
    ) -> Comparison:
        """The squared error is all that a Gaussian of one scale needs to know of x."""
        mean = self.mean(state)
        if self._roots is not None:
            mean, observed = mean * self._roots, observed * self._roots
        error = _SquaredError.apply(mean, observed)
        return Comparison(error, self._log_likelihood(error), self._log_likelihood(error.detach()))

    def _log_likelihood(self, squared_error: Tensor) -> Tensor:
        constant = self.size * (self.log_scale + 0.5 * math.log(2 * math.pi))
        return -0.5 * squared_error * (-2 * self.log_scale).exp() - constant


class BernoulliEmission(Emission):
    """Each scalar in [0, 1] is on with probability sigmoid(logit(z)).

    For pixels that are black or white. A grey pixel is scored with the cross entropy, the expected
    likelihood of pixels drawn with its value as their probability.

    Args:
        logits: Network from states to one logit per scalar of the flat observation.
        weight: Of the stream, in standard units.
    """

    per_nat: Tensor

    def __init__(self, logits: nn.Module, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("per_nat", torch.tensor(2.0))
        self.mean = nn.Sequential(logits, nn.Sigmoid())

    def forward(self, state: Float[Tensor, "*batch latent"]) -> Bernoulli:
        """Distribution over the flat, scaled observation; takes grey values too."""
        return Bernoulli(logits=self._logits(state), validate_args=False)

    def sharpness(self, mean: Float[Tensor, "*batch size"]) -> Float[Tensor, "*#batch size"]:
        """Of chances; those that are nearly certain count as if they were less so."""
        return (mean - mean.square()).clamp_min(_LEAST).rsqrt()

    def compiled_sharpness(self, builder: Builder, mean: Rows) -> Rows:
        """Instructions of it."""
        other = builder.affine(mean, -1.0, 1.0)
        return _compiled_root(builder, builder.multiply(mean, other))

    def compare(
        self, state: Float[Tensor, "*batch latent"], observed: Float[Tensor, "*batch size"]
    ) -> Comparison:
        """The cross entropy, and what of it is not the observation's own; there is no scale."""
        cross_entropy = nn.functional.binary_cross_entropy_with_logits(
            self._logits(state), observed, reduction="none"
        ).sum(-1)
        distortion = self.per_nat * (cross_entropy - _entropy(observed).sum(-1))
        return Comparison(distortion, -cross_entropy, -cross_entropy.detach())

    @torch.no_grad()
    def calibrate(self, observed: Float[Tensor, "n size"]) -> None:
        """Entropy of the mean, less the mean of the entropies, is what the stream weighs."""
        nats = _entropy(observed.mean(0)).sum() - _entropy(observed).sum(-1).mean()
        if nats > 1e-6:
            self.per_nat.copy_(self.weight / nats)

    def _logits(self, state: Tensor) -> Tensor:
        return self.mean.get_submodule("0")(state)


class CategoricalEmission(Emission):
    """Each of several indices takes a value by a softmax over its logits.

    Args:
        logits: Network from states to the logits of all values of all indices.
        sizes: Number of values of each index.
        weight: Of the stream, in standard units.
    """

    per_nat: Tensor

    def __init__(self, logits: nn.Module, sizes: tuple[int, ...], weight: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(logits, Chances(sizes))
        self.sizes, self.weight = sizes, weight
        self.register_buffer("per_nat", torch.tensor(2.0))

    def forward(self, state: Float[Tensor, "*batch latent"]) -> Distribution:
        """Distribution over the one-hot observation, index by index."""
        groups = self._logits(state).split(self.sizes, -1)
        return Joint([OneHotCategorical(logits=g, validate_args=False) for g in groups], self.sizes)

    def sharpness(self, mean: Float[Tensor, "*batch size"]) -> Float[Tensor, "*#batch size"]:
        """As counts of rare events have it, whose squared errors add up to Pearson's statistic."""
        return mean.clamp_min(_LEAST).rsqrt()

    def compiled_sharpness(self, builder: Builder, mean: Rows) -> Rows:
        """Instructions of it."""
        return _compiled_root(builder, mean)

    def compare(
        self, state: Float[Tensor, "*batch latent"], observed: Float[Tensor, "*batch size"]
    ) -> Comparison:
        """The cross entropy; what was recorded has no entropy of its own."""
        groups = zip(
            self._logits(state).split(self.sizes, -1), observed.split(self.sizes, -1), strict=True
        )
        likelihood = torch.stack([(g.log_softmax(-1) * x).sum(-1) for g, x in groups]).sum(0)
        return Comparison(-self.per_nat * likelihood, likelihood, likelihood.detach())

    @torch.no_grad()
    def calibrate(self, observed: Float[Tensor, "n size"]) -> None:
        """The entropy of the mean is what the stream weighs."""
        chances = observed.mean(0)
        nats = -torch.xlogy(chances, chances).sum()
        if nats > 1e-6:
            self.per_nat.copy_(self.weight / nats)

    def _logits(self, state: Tensor) -> Tensor:
        return self.mean.get_submodule("0")(state)


class Chances(nn.Module):
    """Softmax over each of several groups of logits.

    Args:
        sizes: Of the groups.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, logits: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Chances."""
        return torch.cat([g.softmax(-1) for g in logits.split(self.sizes, -1)], -1)

    def compiled(self, builder: Builder, logits: Rows) -> Rows:
        """Instructions of ``forward``."""
        return builder.join(*(builder.softmax(group) for group in logits.split(*self.sizes)))


class StreamEmission(Emission):
    """Several streams, independent given the state.

    Args:
        parts: Emission of each.
        sizes: Scalars of each in the flat observation.
    """

    def __init__(self, parts: Sequence[Emission], sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.parts, self.sizes = nn.ModuleList(parts), sizes
        self.mean = Concatenated([part.mean for part in parts])

    def forward(self, state: Float[Tensor, "*batch latent"]) -> Distribution:
        """Distribution over the flat, scaled observation of all streams."""
        return Joint([part(state) for part in self._emissions], self.sizes)

    def sharpness(self, mean: Float[Tensor, "*batch size"]) -> Float[Tensor, "*#batch size"]:
        """Each its own."""
        pairs = zip(self._emissions, mean.split(self.sizes, -1), strict=True)
        found = [part.sharpness(own) for part, own in pairs]
        return torch.cat([each.expand(*mean.shape[:-1], each.shape[-1]) for each in found], -1)

    def compiled_sharpness(self, builder: Builder, mean: Rows) -> Rows:
        """Instructions of it."""
        pairs = zip(self._emissions, mean.split(*self.sizes), strict=True)
        return builder.join(*(part.compiled_sharpness(builder, own) for part, own in pairs))

    def compare(
        self, state: Float[Tensor, "*batch latent"], observed: Float[Tensor, "*batch size"]
    ) -> Comparison:
        """Sums over the streams."""
        compared = [
            part.compare(state, values)
            for part, values in zip(self._emissions, observed.split(self.sizes, -1), strict=True)
        ]
        return Comparison(*(torch.stack(terms).sum(0) for terms in zip(*compared, strict=True)))

    @property
    def _emissions(self) -> list[Emission]:
        return cast(list[Emission], list(self.parts))

    def emphasise(self, weights: Float[Tensor, " size"] | None) -> None:
        """Each its own."""
        parts = [None] * len(self.sizes) if weights is None else weights.split(self.sizes)
        for part, own in zip(self._emissions, parts, strict=True):
            part.emphasise(own)

    def calibrate(self, observed: Float[Tensor, "n size"]) -> None:
        """Each by itself."""
        for part, values in zip(self._emissions, observed.split(self.sizes, -1), strict=True):
            part.calibrate(values)


class Concatenated(nn.Module):
    """Several functions of the same state, beside each other.

    Args:
        parts: The functions.
    """

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        # Not registered: they belong to the emissions they are of.
        self._parts = list(parts)

    def forward(self, state: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch size"]:
        """All of them."""
        return torch.cat([part(state) for part in self._parts], -1)

    def compiled(self, builder: Builder, state: Rows) -> Rows:
        """Instructions of ``forward``."""
        return builder.join(*(compiled(part, builder, state) for part in self._parts))


class Joint(Distribution):
    """Independent distributions over parts of a flat observation.

    Args:
        parts: Distribution of each.
        sizes: Scalars of each.
    """

    def __init__(self, parts: Sequence[Distribution], sizes: tuple[int, ...]) -> None:
        self.parts, self.sizes = parts, sizes
        super().__init__(validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Means, beside each other."""
        return torch.cat([part.mean for part in self.parts], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats per scalar; those of a one-hot group stand at its first."""
        found = []
        for part, values in zip(self.parts, value.split(self.sizes, -1), strict=True):
            nats = part.log_prob(values)
            if part.event_shape:
                nats = nn.functional.pad(nats.unsqueeze(-1), (0, values.shape[-1] - 1))
            found.append(nats)
        return torch.cat(found, -1)


def _compiled_root(builder: Builder, variance: Rows) -> Rows:
    """One over its root, of what is clamped."""
    return builder.exp(builder.affine(builder.log(builder.clamp(variance, _LEAST, np.inf)), -0.5))


def _entropy(chance: Tensor) -> Tensor:
    """Of Bernoulli variables, in nats."""
    return -torch.xlogy(chance, chance) - torch.xlogy(1 - chance, 1 - chance)
