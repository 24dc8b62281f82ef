"""Pictures: minus the mean picture, over one deviation of the whole stream; or components of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from worldmodel.data.motion import STILL, stillness
from worldmodel.models.codec.components import Components
from worldmodel.models.codec.config import CodecConfig
from worldmodel.models.codec.convolution import FrameDecoder, FrameEncoder
from worldmodel.models.codec.emission import BernoulliEmission, Emission, GaussianEmission
from worldmodel.models.codec.stream import StreamCodec
from worldmodel.models.networks import Waves, mlp, normalised, numbers
from worldmodel.models.program import Builder, Rows
from worldmodel.spaces import Stream

# What a picture weighs beside a vector's components, however many pixels it has: about what the
# bouncing ball's 16 x 16 pixels vary by in all, on which multipliers were first found.
WEIGHT = 12.0
# More pictures say little new of their components; and more scalars take much memory.
_PICTURES, _SCALARS = 4096, 2**27


class PixelCodec(StreamCodec):
    """Standard units are such that a frame's squared distance from the mean frame is 12 on average.

    A single deviation leaves the pixels' proportions, and what never changes stays quiet. Of
    components, those that are kept have that distance together. Bernoulli pixels stay in [0, 1].
    """

    mean: Tensor
    unit: Tensor
    varies: Tensor

    def __init__(self, stream: Stream, config: CodecConfig) -> None:
        super().__init__(stream, config)
        self.standardised = config.emission == "gaussian"
        self.register_buffer("mean", torch.zeros(stream.size))
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("varies", torch.tensor(True))
        self.components = None
        if config.encoder == "components":
            self.components = Components(stream.size, config.components)
            self.size = self.components.count

    @torch.no_grad()
    def calibrate(self, values: Shaped[Tensor, "n ..."], lengths: Sequence[int] = ()) -> None:
        """Mean picture and total variance, in passes over parts, for frames may be many."""
        total = torch.zeros_like(self.mean, dtype=torch.float64)
        for part in values.split(4096):
            total += self._bright(part).double().sum(0)
        mean = total / len(values)
        squares = torch.zeros((), dtype=torch.float64, device=mean.device)
        for part in values.split(4096):
            squares += (self._bright(part).double() - mean).square().sum()
        variance = (squares / len(values)).item()
        self.varies.fill_(variance > 0)
        if self.standardised:
            self.mean.copy_(mean)
            if self.components and variance > 0:
                self.needed = self._fit(self.components, values, lengths)
            self._measure(variance)

    def _fit(self, components: Components, values: Tensor, lengths: Sequence[int]) -> int:
        """How many components say enough, of what moves if most of all stands still."""
        explained, chosen = self.config.explained, self._choose(values)
        pictures = self._bright(values[chosen]) - self.mean
        if not self._stands_still(values, lengths):
            return components.fit(pictures, explained)
        means = [self._bright(part).mean(0) - self.mean for part in values.split(lengths)]
        sizes = torch.tensor(lengths, device=values.device)
        episode = torch.arange(len(means), device=values.device).repeat_interleave(sizes)
        still = torch.stack(means)[episode[chosen]]
        moving = pictures - still
        if not moving.any():
            return components.fit(pictures, explained)
        return components.fit_moving(moving, still, explained)

    def _stands_still(self, values: Tensor, lengths: Sequence[int]) -> bool:
        """Whether next to all that pictures differ by stands still within episodes."""
        if not lengths:
            return False
        beyond = torch.tensor(lengths, device=values.device).cumsum(0)
        begin = beyond - torch.tensor(lengths, device=values.device)
        first, last = (self._bright(values[at]) for at in (begin, beyond - 1))
        return stillness(first, last, lengths) > STILL

    def _measure(self, variance: float) -> None:
        """Take the unit from the variance that what is scaled has in all."""
        self.unit.fill_(math.sqrt(variance / WEIGHT) if variance > 0 else 1.0)

    @torch.no_grad()
    def keep(self, count: int, spare: int = 0) -> None:
        """See the base class."""
        if self.components and self.varies:
            self.components.keep(count, spare)
            self.size = self.components.count
            self._measure(self.components.variance.sum().item())

    @torch.no_grad()
    def widen(self, values: Shaped[Tensor, "n ..."]) -> None:
        """See the base class."""
        if self.components and self.varies:
            self.components.extend(self._sample(values), self.config.explained)

    def _sample(self, values: Tensor) -> Tensor:
        """Some of the pictures, less their mean."""
        return self._bright(values[self._choose(values)]) - self.mean

    def _choose(self, values: Tensor) -> Tensor:
        """Indices of some of the pictures."""
        count = min(len(values), _PICTURES, max(_SCALARS // self.stream.size, self.size))
        generator = torch.Generator(values.device).manual_seed(0)
        return torch.randperm(len(values), generator=generator, device=values.device)[:count]

    @property
    def weight(self) -> float:
        """12, whatever the number of pixels."""
        return WEIGHT if self.varies else 0.0

    @property
    def log_volume(self) -> float:
        """Densities are those of brightness in [0, 1]."""
        return self.size * math.log(self.unit.item())

    def scale(self, values: Shaped[Tensor, "..."]) -> Float[Tensor, "*batch size"]:
        """See the class."""
        centred = self._bright(values) - self.mean
        if self.components:
            centred = self.components.project(centred)
        return centred.div_(self.unit)

    def compiled(self, builder: Builder, encoded: Rows) -> Rows:
        """See the base class."""
        factor, shift = 1 / (self.stream.white * self.unit), -self.mean / self.unit
        if self.components:
            reading = self.components.reading
            return builder.linear(encoded, numbers(factor * reading.T), numbers(shift @ reading))
        return builder.affine(encoded, numbers(factor), numbers(shift))

    def missed(self, values: Shaped[Tensor, "..."]) -> Float[Tensor, "*batch"]:
        """What lies in no component."""
        if not self.components:
            return super().missed(values)
        return self.components.missed((self._bright(values) - self.mean).div_(self.unit))

    def compiled_missed(self, builder: Builder, encoded: Rows, scaled: Rows) -> Rows | None:
        """See the base class."""
        if not self.components:
            return None
        factor, shift = 1 / (self.stream.white * self.unit), -self.mean / self.unit
        whole = builder.affine(encoded, numbers(factor), numbers(shift))
        said = builder.affine(builder.contract(scaled, scaled), -1.0)
        return builder.relu(builder.add(builder.contract(whole, whole), said))

    def emphasis(self, exponent: float) -> Float[Tensor, " size"] | None:
        """See the base class."""
        return self.components.emphasis(exponent) if self.components else None

    def unscale(self, flat: Float[Tensor, "*batch size"]) -> Shaped[Tensor, "..."]:
        """Clipped to what pixels can be, and rounded if they are whole."""
        raw = self.stream.white * self.natural(flat).clamp(0, 1)
        whole = self.stream.dtype == "uint8"
        return (raw.round().to(torch.uint8) if whole else raw).unflatten(-1, self.stream.shape)

    def plausible(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Between black and white; or where components have been."""
        if self.components:
            low, high = self.components.low / self.unit, self.components.high / self.unit
            return torch.minimum(torch.maximum(flat, low), high)
        return torch.minimum(
            torch.maximum(flat, -self.mean / self.unit), (1 - self.mean) / self.unit
        )

    def natural(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch scalars"]:
        """Brightness, [0, 1]."""
        if self.components:
            flat = self.components.expand(flat)
        return torch.addcmul(self.mean, flat, self.unit)

    def encoder(self) -> tuple[nn.Module, int]:
        """Convolutions, or hidden layers if there are to be several."""
        c, size = self.config, self.size
        if c.encoder == "conv":
            return FrameEncoder(self.stream, c.channels, c.hidden, self._gain), c.hidden
        if c.depth == 1:
            return nn.Identity(), size
        return nn.Sequential(*normalised(size, *[c.hidden] * (c.depth - 1))), c.hidden

    def emission(self, latent_size: int) -> Emission:
        """Gaussian or Bernoulli, by the encoder's mirror image."""
        c, size = self.config, self.size
        if c.encoder == "conv":
            network: nn.Module = FrameDecoder(
                latent_size, self.stream, c.channels, c.hidden, self._gain
            )
        else:
            many = size if self.components and size > c.hidden else 0
            waves = (c.hidden // 2 if many else 0) if c.waves is None else c.waves
            # Fewer units than components span less than pictures do.
            network = mlp(latent_size + waves, c.hidden, size, depth=c.depth, last=many)
            if waves:
                network = nn.Sequential(Waves(latent_size, waves), network)
        if c.emission == "bernoulli":
            return BernoulliEmission(network, WEIGHT)
        return GaussianEmission(network, size)

    @property
    def _gain(self) -> float:
        """From standard units to unit variance."""
        return math.sqrt(self.stream.size / WEIGHT) if self.standardised else 1.0

    def _bright(self, values: Tensor) -> Tensor:
        flat = values.flatten(values.ndim - len(self.stream.shape)).to(self.mean.dtype)
        return flat / self.stream.white


CODEC = PixelCodec
