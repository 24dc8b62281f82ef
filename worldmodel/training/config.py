"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.errors import ConfigError, require_at_least, require_choices, require_finite
from worldmodel.training.dreaming import DreamConfig
from worldmodel.training.losses.constrained import ConstrainedConfig
from worldmodel.training.losses.elbo import ELBOConfig


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        updates: Gradient updates at most.
        batch_size: Sequences per update.
        window: Steps per training sequence; longer episodes are cut at random places.
        learning_rate: Of Adam, after a warm-up; it decays by half a cosine.
        final_learning_rate: Share of it that is left at the end.
        warmup: Updates over which the learning rate rises linearly from zero.
        clip_norm: Greatest norm of the gradient.
        dropout_share: Share of sequences in which observation dropout cuts.
        dropout_scale: Standard deviation of the process noise after a cut, in (0, 1]: 1 is its
            prior, less keeps sharp what dynamics such as bounces depend on, at a constant rate.
        single_frame_share: Share of updates in which the initial network sees one frame only, as
            a filter does that starts on a live system.
        all_frames_share: Share of updates in which it sees the whole window; in the others it sees
            any number of frames.
        objective: "constrained" or "elbo".
        constrained: Of the constrained objective.
        elbo: Of the annealed bound.
        dreaming: What is fitted to dreams afterwards.
        validate_every: Updates between validations, each of which also writes a checkpoint.
        patience: Validations without improvement after which training stops, counted from when
            the objective has settled; 0 never stops early.
        tensorboard: Whether to write TensorBoard event files.
        seed: Of everything random.
    """

    updates: int = 4500
    batch_size: int = 128
    window: int = 14
    learning_rate: float = 3e-3
    final_learning_rate: float = 0.02
    warmup: int = 100
    clip_norm: float = 10.0
    dropout_share: float = 0.55
    dropout_scale: float = 1.0
    single_frame_share: float = 0.3
    all_frames_share: float = 0.3
    objective: Literal["constrained", "elbo"] = "constrained"
    constrained: ConstrainedConfig = field(default_factory=ConstrainedConfig)
    elbo: ELBOConfig = field(default_factory=ELBOConfig)
    dreaming: DreamConfig = field(default_factory=DreamConfig)
    validate_every: int = 250
    patience: int = 12
    tensorboard: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("updates", "batch_size", "window", "validate_every")
        require_at_least(1, **{name: getattr(self, name) for name in counts})
        require_choices(self)
        require_finite(0, learning_rate=self.learning_rate)
        if not 0 < self.dropout_scale <= 1:
            raise ConfigError(f"dropout_scale must lie in (0, 1], got {self.dropout_scale}")
        shares = (self.dropout_share, self.single_frame_share, self.all_frames_share)
        if min(shares) < 0 or max(shares) > 1 or sum(shares[1:]) > 1:
            raise ConfigError(
                "dropout_share, and single_frame_share and all_frames_share together, must lie "
                f"in [0, 1], got {shares}"
            )
