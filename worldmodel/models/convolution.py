"""Convolutional encoder and decoder for frames of any size, chosen by the image.

Each stage halves the sides and doubles the channels, until the shorter side is at most four times
the filter's reach; the decoder is the encoder's mirror image and arrives at the exact size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.errors import SpecError
from worldmodel.models.networks import mlp, normalised
from worldmodel.types import ObservationSpec

# Sides at which a stage has nothing left to halve, and below which there was nothing at first.
_SMALLEST, _LEAST = 4, 8
# Up to this side a dense layer over all pixels is both faster and good enough.
_DENSE_SIDE = 24
Choice = Literal["auto", "dense", "conv"]
# Filter, stride and padding: sides are halved exactly, rounded down.
_HALVE = (4, 2, 1)


def _stages(spec: ObservationSpec) -> list[tuple[int, int]]:
    """Height and width before the first stage and after each.

    Raises:
        SpecError: There is no image, or one of a side below eight pixels.
    """
    if not spec.pixels or min(spec.shape[:2]) < _LEAST:
        raise SpecError(
            f"convolutions need pixels with sides of at least {_LEAST}, got {spec}; "
            "expected encoder 'dense' or 'auto'"
        )
    sizes = [(spec.shape[0], spec.shape[1])]
    while min(sizes[-1]) // 2 >= _SMALLEST:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


class FrameEncoder(nn.Module):
    """Features of single frames, the same for whoever looks at them.

    Args:
        spec: What one frame looks like.
        channels: Of the first stage; doubled by each further one.
        features: Size of the result.

    Raises:
        SpecError: There is no image, or one of a side below eight pixels.
    """

    def __init__(self, spec: ObservationSpec, channels: int, features: int) -> None:
        super().__init__()
        self.shape = spec.shape
        sizes, inputs = _stages(spec), spec.shape[2]
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
        images = flat.reshape(-1, *self.shape).movedim(-1, 1)
        return self.network(images).unflatten(0, lead)


class FrameDecoder(nn.Module):
    """Flat frames from latent states.

    Args:
        latent_size: Dimensions of the state.
        spec: What one frame looks like.
        channels: Of the last stage but one; doubled by each stage before it.
        hidden: Units between the state and the first image.

    Raises:
        SpecError: There is no image, or one of a side below eight pixels.
    """

    def __init__(self, latent_size: int, spec: ObservationSpec, channels: int, hidden: int) -> None:
        super().__init__()
        sizes = _stages(spec)[::-1]
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
            outputs = spec.shape[2] if last else inputs // 2
            odd = (large[0] - 2 * small[0], large[1] - 2 * small[1])
            layers.append(nn.ConvTranspose2d(inputs, outputs, *_HALVE, output_padding=odd))
            layers += [] if last else [nn.ReLU()]
            inputs = outputs
        self.network = nn.Sequential(*layers)

    def forward(self, state: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch size"]:
        """Flat frames, unbounded."""
        images = self.network(state.flatten(0, -2))
        return images.movedim(1, -1).flatten(1).unflatten(0, state.shape[:-1])


def build_encoder(
    choice: Choice, spec: ObservationSpec, channels: int, features: int, depth: int = 1
) -> tuple[nn.Module, int]:
    """What looks at frames first, and how many numbers it makes of one.

    Args:
        choice: "dense" hands the flat frame to networks of one hidden layer; "auto" convolves
            images above 24 pixels.
        spec: What one frame looks like.
        channels: As for ``FrameEncoder``.
        features: As for ``FrameEncoder``.
        depth: Hidden layers that frames go through, with the networks' own.

    Raises:
        SpecError: A depth other than one, and convolutions, which have as many as the image needs.
    """
    if _convolves(choice, spec, depth):
        return FrameEncoder(spec, channels, features), features
    if depth == 1:
        return nn.Identity(), spec.size
    return nn.Sequential(*normalised(spec.size, features, depth - 1)), features


def build_decoder(
    choice: Choice,
    latent_size: int,
    spec: ObservationSpec,
    channels: int,
    hidden: int,
    depth: int = 1,
) -> nn.Module:
    """The encoder's counterpart, from states to flat frames; arguments and errors as there."""
    if _convolves(choice, spec, depth):
        return FrameDecoder(latent_size, spec, channels, hidden)
    return mlp(latent_size, hidden, spec.size, depth=depth)


def _convolves(choice: Choice, spec: ObservationSpec, depth: int) -> bool:
    large = spec.pixels and min(spec.shape[:2]) > _DENSE_SIDE
    convolves = large if choice == "auto" else choice == "conv"
    if convolves and depth != 1:
        raise SpecError(f"convolutions take depth 1, got {depth}; expected it, or encoder 'dense'")
    return convolves
