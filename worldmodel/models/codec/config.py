"""Settings of what stands between observations and a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from worldmodel.errors import require_at_least, require_choices

Choice = Literal["auto", "dense", "conv"]


@dataclass(frozen=True)
class CodecConfig:
    """Encoders and emissions, of all streams alike.

    Attributes:
        encoder: Of pixels: "dense", "conv", or "auto": convolutions above 24 pixels. It decides on
            the way in and, as its mirror image, on the way out.
        emission: Of pixels: "gaussian", or "bernoulli" for those that are black or white.
        channels: Of the first convolution; each further one halves the picture and doubles them.
        hidden: Hidden units of emissions; features of a convolved picture.
        depth: Hidden layers of the emission, and of what an observation goes through to the state;
            more than one where a picture is made of several things that move by themselves.
    """

    encoder: Choice = "auto"
    emission: Literal["gaussian", "bernoulli"] = "gaussian"
    channels: int = 16
    hidden: int = 128
    depth: int = 1

    def __post_init__(self) -> None:
        require_at_least(1, channels=self.channels, hidden=self.hidden, depth=self.depth)
        require_choices(self)
