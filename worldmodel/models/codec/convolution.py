"""Convolutional encoder and decoder for frames of any size, chosen by the image.

Each stage halves the sides and doubles the channels, until the shorter side is at most four times
the filter's reach; the decoder is the encoder's mirror image and arrives at the exact size.
"""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.errors import SpecError
from worldmodel.spaces import Stream

# Sides at which a stage has nothing left to halve, and below which there was nothing at first.
_SMALLEST, _LEAST = 4, 8
# Filter, stride and padding: sides are halved exactly, rounded down.
_HALVE = (4, 2, 1)


def _stages(stream: Stream) -> list[tuple[int, int]]:
    """Height and width before the first stage and after each.

    Raises:
        SpecError: There is no image, or one of a side below eight pixels.
    """
    if min(stream.shape[:2]) < _LEAST:
        raise SpecError(
            f"convolutions need pixels with sides of at least {_LEAST}, got {stream.describe()}; "
            "expected another encoder"
        )
    sizes = [(stream.shape[0], stream.shape[1])]
    while min(sizes[-1]) // 2 >= _SMALLEST:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


class FrameEncoder(nn.Module):
    """Features of single frames, the same for whoever looks at them.

    Args:
        stream: What one frame looks like.
        channels: Of the first stage; doubled by each further one.
        features: Size of the result.
        gain: Brings scaled pixels to about unit variance.

    Raises:
        SpecError: There is no image, or one of a side below eight pixels.
    """

    def __init__(self, stream: Stream, channels: int, features: int, gain: float = 1.0) -> None:
        super().__init__()
        self.shape, self.gain = stream.shape, gain
        sizes, inputs = _stages(stream), stream.shape[2]
        layers: list[nn.Module] = []
        for stage in range(len(sizes) - 1):
            outputs = channels * 2**stage
            layers += [nn.Conv2d(inputs, outputs, *_HALVE), nn.ReLU()]
            inputs = outputs
        height, width = sizes[-1]
        self.network = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(inputs * height * width, features), nn.ReLU()
        )

    def forward(self, flat: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch features"]:
        """Features of flat, scaled frames."""
        lead = flat.shape[:-1]
        images = (self.gain * flat).reshape(-1, *self.shape).movedim(-1, 1)
        return self.network(images).unflatten(0, lead)


class FrameDecoder(nn.Module):
    """Flat frames from latent states.

    Args:
        latent_size: Dimensions of the state.
        stream: What one frame looks like.
        channels: Of the last stage but one; doubled by each stage before it.
        hidden: Units between the state and the first image.
        gain: As for ``FrameEncoder``.

    Raises:
        SpecError: There is no image, or one of a side below eight pixels.
    """

    def __init__(
        self, latent_size: int, stream: Stream, channels: int, hidden: int, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.gain = gain
        sizes = _stages(stream)[::-1]
        inputs = channels * 2 ** (len(sizes) - 2)
        first = (inputs, *sizes[0])
        layers: list[nn.Module] = [
            nn.Linear(latent_size, hidden),
            nn.ReLU(),
            nn.Linear(hidden, inputs * sizes[0][0] * sizes[0][1]),
            nn.ReLU(),
            nn.Unflatten(1, first),
        ]
        for stage, (small, large) in enumerate(pairwise(sizes), 2):
            last = stage == len(sizes)
            outputs = stream.shape[2] if last else inputs // 2
            odd = (large[0] - 2 * small[0], large[1] - 2 * small[1])
            layers.append(nn.ConvTranspose2d(inputs, outputs, *_HALVE, output_padding=odd))
            layers += [] if last else [nn.ReLU()]
            inputs = outputs
        self.network = nn.Sequential(*layers)

    def forward(self, state: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch size"]:
        """Flat frames, unbounded."""
        images = self.network(state.flatten(0, -2))
        return images.movedim(1, -1).flatten(1).unflatten(0, state.shape[:-1]) / self.gain
