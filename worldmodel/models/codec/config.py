"""Settings of what stands between observations and a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from worldmodel.errors import ConfigError, require_at_least, require_choices

Choice = Literal["components", "dense", "conv"]


@dataclass(frozen=True)
class CodecConfig:
    """Encoders and emissions, of all streams alike.

    Attributes:
        encoder: Of pixels: their principal components, "dense" layers over all of them, or "conv".
            It decides on the way in and, as its mirror image, on the way out.
        components: Most components of a picture. There are fewer where fewer say enough.
        explained: Fraction of the pictures' variance that is enough.
        emission: Of pixels: "gaussian", or "bernoulli" for those that are black or white, which
            have no components.
        channels: Of the first convolution; each further one halves the picture and doubles them.
        hidden: Units of a hidden layer of emissions, of which the last has as many as a picture has
            components if these are more; features of a convolved picture.
        depth: Hidden layers of the emission, and of what an observation goes through to the state;
            more than one where a picture is made of several things that move by themselves.
        waves: Sines of the state that emissions of pixels begin with beside it, 0 for none; None
            for half as many as there are hidden units, if a picture has more components than these.
            What is small and moves far has many, and is a steep function of where it is, which
            layers learn late by themselves. What needs few is predicted worse with waves. See
            ``Waves``.
    """

    encoder: Choice = "components"
    components: int = 512
    explained: float = 0.998
    emission: Literal["gaussian", "bernoulli"] = "gaussian"
    channels: int = 16
    hidden: int = 128
    depth: int = 1
    waves: int | None = 0

    def __post_init__(self) -> None:
        sizes = ("components", "channels", "hidden", "depth")
        require_at_least(1, **{name: getattr(self, name) for name in sizes})
        require_at_least(0, waves=self.waves or 0)
        if not 0 < self.explained <= 1:
            raise ConfigError(f"explained must lie in (0, 1], got {self.explained}")
        require_choices(self)
        if self.emission == "bernoulli" and self.encoder == "components":
            raise ConfigError(
                "emission 'bernoulli' is of pixels, got encoder 'components'; expected 'dense' or "
                "'conv' with it"
            )
        if self.encoder == "conv" and self.depth != 1:
            raise ConfigError(
                f"encoder 'conv' has as many layers as the picture needs, got depth {self.depth}; "
                "expected 1, or another encoder"
            )
