"""Sizes and choices of a Deep Variational Bayes Filter, nested with the part that they are of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from worldmodel.errors import ConfigError, require_at_least, require_choices, require_finite
from worldmodel.models.codec import CodecConfig
from worldmodel.models.transition import Gate


@dataclass(frozen=True)
class RecognitionConfig:
    """What infers the process noise.

    Attributes:
        kind: "network" infers it as in the paper; "fusion" computes it from what the frame alone
            says of the state. See ``models/fusion.py``.
        hidden: Hidden units.
        reading_scale: How sharp fusion's readings of frames are at first: their standard deviation,
            in units of the latent state.
        reading_weight: Of what fusion's readings learn beside the bound: to say the states that
            were inferred, as likely as they can. 0 leaves them to the bound.
    """

    kind: Literal["network", "fusion"] = "network"
    hidden: int = 128
    reading_scale: float = 0.13
    reading_weight: float = 0.0

    def __post_init__(self) -> None:
        require_at_least(1, hidden=self.hidden)
        require_finite(1e-3, reading_scale=self.reading_scale)
        require_finite(0, reading_weight=self.reading_weight)
        require_choices(self)


@dataclass(frozen=True)
class TransitionConfig:
    """How states follow each other.

    Attributes:
        kind: "locally-linear" (DVBF-LL) or "mlp".
        base_matrices: Number of base matrices of the locally linear transition.
        mixing_hidden: Hidden units of the network that mixes them.
        mlp_hidden: Hidden units of the transition "mlp".
        init_scale: Scale of initial weights.
        coupling: Standard deviation of a random matrix that all base matrices share at first: it
            lets a state that frames do not show, such as a velocity, matter from the start.
        gate: How base matrices are mixed: "smooth"; "switching" where dynamics change abruptly, as
            at a wall; or "factorial" where they do so in several independent ways at once, as where
            there are several balls.
        leak: Fraction of the state that is forgotten per step unless the data object; it keeps long
            dreams from diverging. See ``models/transition.py``.
        noise_floor: Least process noise per step in every dimension, in units of the latent state;
            0 lets the transition learn any. See ``models/floored.py``.
        bound: Greatest absolute value of any component of the state after the first; 0 sets none.
            See ``models/bounded.py``.
    """

    kind: Literal["locally-linear", "mlp"] = "locally-linear"
    base_matrices: int = 16
    mixing_hidden: int = 32
    mlp_hidden: int = 128
    init_scale: float = 0.1
    coupling: float = 0.0
    gate: Gate = "smooth"
    leak: float = 0.2
    noise_floor: float = 0.0
    bound: float = 0.0

    def __post_init__(self) -> None:
        sizes = ("base_matrices", "mixing_hidden", "mlp_hidden")
        require_at_least(1, **{name: getattr(self, name) for name in sizes})
        require_finite(0, coupling=self.coupling, bound=self.bound)
        require_choices(self)
        if not 0 < self.init_scale < math.inf:
            raise ConfigError(f"init_scale must be finite and > 0, got {self.init_scale}")
        if not 0 <= self.leak < 1:
            raise ConfigError(f"leak must lie in [0, 1), got {self.leak}")
        if not 0 <= self.noise_floor < 1:
            raise ConfigError(f"noise_floor must lie in [0, 1), got {self.noise_floor}")


@dataclass(frozen=True)
class DVBFConfig:
    """Sizes of a Deep Variational Bayes Filter.

    Attributes:
        latent_size: Dimensions of the state, and of the process noise.
        visible_size: How many of them the emission sees, None for all. The others, such as
            velocities, show only in what comes next. Without a limit the frames may take all
            dimensions for themselves, by bending, and leave none.
        codec: Of observations.
        recognition: Of the process noise.
        transition: Between states.
        recurrent: Hidden units of each direction of the initial network.
        initial_scale: Standard deviation of the first state's belief as its network begins; None
            for about 0.7. Where it is wide, frames are told apart late.
        head_hidden: Hidden units of reward and termination heads.
    """

    latent_size: int = 3
    visible_size: int | None = None
    codec: CodecConfig = field(default_factory=CodecConfig)
    recognition: RecognitionConfig = field(default_factory=RecognitionConfig)
    transition: TransitionConfig = field(default_factory=TransitionConfig)
    recurrent: int = 64
    initial_scale: float | None = None
    head_hidden: int = 64

    def __post_init__(self) -> None:
        if self.initial_scale is not None:
            require_finite(1e-3, initial_scale=self.initial_scale)
        sizes = ("latent_size", "recurrent", "head_hidden")
        require_at_least(1, **{name: getattr(self, name) for name in sizes})
        if self.visible_size is not None and not 1 <= self.visible_size <= self.latent_size:
            raise ConfigError(
                f"visible_size must be from 1 to latent_size {self.latent_size}, "
                f"got {self.visible_size}"
            )
