"""Pictures: minus the per-pixel mean, over one root-mean-square deviation of the whole stream."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from worldmodel.models.codec.config import CodecConfig
from worldmodel.models.codec.convolution import FrameDecoder, FrameEncoder, convolves
from worldmodel.models.codec.emission import BernoulliEmission, Emission, GaussianEmission
from worldmodel.models.codec.stream import StreamCodec
from worldmodel.models.networks import mlp, normalised
from worldmodel.spaces import Stream

# What a picture weighs beside a vector's components, however many pixels it has: about what the
# bouncing ball's 16 x 16 pixels vary by in all, on which multipliers were first found.
WEIGHT = 12.0


class PixelCodec(StreamCodec):
    """Standard units are such that a frame's squared distance from the mean frame is 12 on average.

    A single deviation leaves the pixels' proportions, and what never changes stays quiet.
    Bernoulli pixels stay in [0, 1].
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

    @torch.no_grad()
    def calibrate(self, values: Shaped[Tensor, "n ..."]) -> None:
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
            self.unit.fill_(math.sqrt(variance / WEIGHT) if variance > 0 else 1.0)

    @property
    def weight(self) -> float:
        """12, whatever the number of pixels."""
        return WEIGHT if self.varies else 0.0

    @property
    def log_volume(self) -> float:
        """Densities are those of brightness in [0, 1]."""
        return self.stream.size * math.log(self.unit.item())

    def scale(self, values: Shaped[Tensor, "..."]) -> Float[Tensor, "*batch size"]:
        """See the class."""
        return (self._bright(values) - self.mean).div_(self.unit)

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """See the base class."""
        unit, mean = self.unit.item(), self.mean.cpu().numpy()
        return np.full_like(mean, 1 / (self.stream.white * unit)), -mean / unit

    def unscale(self, flat: Float[Tensor, "*batch size"]) -> Shaped[Tensor, "..."]:
        """Clipped to what pixels can be, and rounded if they are whole."""
        raw = self.stream.white * self.natural(flat).clamp(0, 1)
        whole = self.stream.dtype == "uint8"
        return (raw.round().to(torch.uint8) if whole else raw).unflatten(-1, self.stream.shape)

    def plausible(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Between black and white."""
        return torch.minimum(
            torch.maximum(flat, -self.mean / self.unit), (1 - self.mean) / self.unit
        )

    def natural(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Brightness, [0, 1]."""
        return torch.addcmul(self.mean, flat, self.unit)

    def encoder(self) -> tuple[nn.Module, int]:
        """Convolutions above 24 pixels; below, hidden layers if there are to be several."""
        c, size = self.config, self.stream.size
        if convolves(c.encoder, self.stream, c.depth):
            return FrameEncoder(self.stream, c.channels, c.hidden, self._gain), c.hidden
        if c.depth == 1:
            return nn.Identity(), size
        return nn.Sequential(*normalised(size, c.hidden, c.depth - 1)), c.hidden

    def emission(self, latent_size: int) -> Emission:
        """Gaussian or Bernoulli, by the encoder's mirror image."""
        c, size = self.config, self.stream.size
        if convolves(c.encoder, self.stream, c.depth):
            network: nn.Module = FrameDecoder(
                latent_size, self.stream, c.channels, c.hidden, self._gain
            )
        else:
            network = mlp(latent_size, c.hidden, size, depth=c.depth)
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
