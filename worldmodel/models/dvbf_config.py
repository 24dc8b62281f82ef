"""Sizes and choices of a Deep Variational Bayes Filter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from worldmodel.errors import ConfigError, require_at_least, require_choices, require_finite
from worldmodel.models.transition import Gate
from worldmodel.types import ObservationSpec


@dataclass(frozen=True)
class DVBFConfig:
    """Sizes of a Deep Variational Bayes Filter.

    Attributes:
        latent_size: Dimensions of the state, and of the process noise.
        visible_size: How many of them the emission sees, None for all. The others, such as
            velocities, show only in what comes next. Without a limit the frames may take all
            dimensions for themselves, by bending, and leave none.
        encoder: "dense", "conv", or "auto": convolutions for images above 24 pixels. It decides on
            the way in and, as its mirror image, on the way out.
        emission: "gaussian", or "bernoulli" for pixels that are black or white.
        recognition: "network" infers the process noise as in the paper; "fusion" computes it from
            what the frame alone says of the state. See ``models/fusion.py``.
        reading_scale: How sharp fusion's readings of frames are at first: their standard deviation,
            in units of the latent state.
        transition: "locally-linear" (DVBF-LL) or "mlp".
        noise_floor: Least process noise per step in every dimension, in units of the latent state;
            0 lets the transition learn any. See ``models/floored.py``.
        base_matrices: Number of base matrices of the locally linear transition.
        mixing_hidden: Hidden units of the network that mixes them.
        transition_init: Scale of the transition's initial weights.
        coupling: Standard deviation of a random matrix that all base matrices share at first: it
            lets a state that frames do not show, such as a velocity, matter from the start.
        gate: How base matrices are mixed: "smooth"; "switching" where dynamics change abruptly, as
            at a wall; or "factorial" where they do so in several independent ways at once, as where
            there are several balls.
        leak: Share of the state that is forgotten per step unless the data object; it keeps long
            dreams from diverging. See ``models/transition.py``.
        bound: Greatest absolute value of any component of the state after the first; 0 sets none.
            Dreams are then stepped by tensor operations. See ``models/bounded.py``.
        channels: Of the first convolution; each further one halves the image and doubles them.
        hidden: Hidden units of emission and recognition; features of a convolved frame.
        depth: Hidden layers of the emission, and of what a frame goes through to the state; more
            than one where an image is made of several things that move by themselves. See ``mlp``.
        recurrent: Hidden units of each direction of the initial network.
        head_hidden: Hidden units of reward and termination heads.
    """

    latent_size: int = 3
    visible_size: int | None = None
    encoder: Literal["auto", "dense", "conv"] = "auto"
    emission: Literal["gaussian", "bernoulli"] = "gaussian"
    recognition: Literal["network", "fusion"] = "network"
    reading_scale: float = 0.13
    transition: Literal["locally-linear", "mlp"] = "locally-linear"
    noise_floor: float = 0.0
    base_matrices: int = 16
    mixing_hidden: int = 32
    transition_init: float = 0.1
    coupling: float = 0.0
    gate: Gate = "smooth"
    leak: float = 0.2
    bound: float = 0.0
    channels: int = 16
    hidden: int = 128
    depth: int = 1
    recurrent: int = 64
    head_hidden: int = 64

    def __post_init__(self) -> None:
        sizes = ("latent_size", "base_matrices", "mixing_hidden")
        sizes += ("channels", "hidden", "depth", "recurrent", "head_hidden")
        require_at_least(1, **{name: getattr(self, name) for name in sizes})
        require_finite(0, coupling=self.coupling, bound=self.bound)
        require_finite(1e-3, reading_scale=self.reading_scale)
        require_choices(self)
        if self.visible_size is not None and not 1 <= self.visible_size <= self.latent_size:
            raise ConfigError(
                f"visible_size must be from 1 to latent_size {self.latent_size}, "
                f"got {self.visible_size}"
            )
        if not 0 < self.transition_init < math.inf:
            raise ConfigError(f"transition_init must be finite and > 0, got {self.transition_init}")
        if not 0 <= self.leak < 1:
            raise ConfigError(f"leak must lie in [0, 1), got {self.leak}")
        if not 0 <= self.noise_floor < 1:
            raise ConfigError(f"noise_floor must lie in [0, 1), got {self.noise_floor}")

    @classmethod
    def suited(cls, observation_spec: ObservationSpec) -> DVBFConfig:
        """The pendulum's settings for pictures; for vectors, fusion and a state of their size."""
        if observation_spec.pixels:
            return cls()
        size = max(2, observation_spec.size)
        return cls(latent_size=size, recognition="fusion", reading_scale=0.7, noise_floor=0.02)
