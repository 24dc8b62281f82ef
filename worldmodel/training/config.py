"""Settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Literal

from worldmodel.device import Precision
from worldmodel.errors import (
    ConfigError,
    require_at_least,
    require_choices,
    require_finite,
    require_fraction,
    require_positive,
)
from worldmodel.training.dreaming import DreamConfig
from worldmodel.training.losses.balanced import BalancedConfig
from worldmodel.training.losses.constrained import ConstrainedConfig
from worldmodel.training.losses.elbo import ELBOConfig


def _has_tensorboard() -> bool:
    return find_spec("tensorboard") is not None


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        updates: Gradient updates at most.
        batch_size: Sequences per update.
        window: Steps per training sequence; longer episodes are cut at random places.
        optimizer: "adam"; or "muon", by which emissions learn to draw what is rarely seen sooner,
            for their wide matrices, and Adam for all else. See ``training/muon.py``.
        learning_rate: Of the optimiser, after a warm-up; it decays by half a cosine.
        lr_final_fraction: Fraction of it at the end.
        warmup_steps: Updates over which the learning rate rises linearly from zero.
        max_grad_norm: The gradient is scaled down to this norm.
        max_grad_ratio: A gradient whose norm is more than this many times the usual one is scaled
            down further, by as much as it is above that; at least 1, or 0 to count all alike.
            Where all gradients are scaled to one norm, the one of a batch with a single sequence
            on which the filter diverges would else undo what hundreds of others have done.
        dropout_fraction: Fraction of sequences in which observation dropout cuts.
        dropout_scale: Standard deviation of the process noise after a cut, in (0, 1]: 1 is its
            prior, less keeps sharp what dynamics such as bounces depend on, at a constant rate.
        dropout_until: Fraction of training after which observation dropout ends, in (0, 1]. It
            makes the transition predict far ahead; but where the future is open, as about an
            unstable equilibrium, the best prediction far ahead is an average of futures, and the
            transition learns to shrink towards it. Without dropout it learns what the next state
            is.
        single_frame_fraction: Fraction of updates in which the initial network sees one frame only,
            as a filter does that starts on a live system.
        all_frames_fraction: Fraction of updates in which it sees the whole window; in the others it
            sees any number of frames.
        coarse: Power of their variance that components of pictures are weighed with at first, so
            that what is coarse is learned first; see ``models/codec/components.py``.
        coarse_until: Fraction of training over which it falls to 0, linearly.
        halved_until: Fraction of training in which sequences are half as long, and twice as many:
            each update then sees as many frames, of more places, by which pictures are learned
            sooner; long sequences are for what happens slowly. In [0, 1).
        objective: "constrained", "elbo" or "balanced".
        constrained: Of the constrained objective.
        balanced: Of the one with free bits and KL balancing.
        elbo: Of the annealed bound.
        dreaming: What is fitted to dreams afterwards.
        validate_every: Updates between validations, each of which also writes a checkpoint.
        patience: Validations without improvement after which training stops, counted from when
            the objective has settled; 0 never stops early.
        tensorboard: Whether to write TensorBoard event files; by default if it is installed.
        precision: "fp32", or "bf16" or "fp16": products of matrices in 16 bits, weights in 32.
        compile: Whether to compile the model's networks by ``torch.compile``, which takes a minute
            or two at the first update. On a CPU it does not pay.
        seed: Of everything random.
    """

    updates: int = 4500
    batch_size: int = 128
    window: int = 14
    optimizer: Literal["adam", "muon"] = "adam"
    learning_rate: float = 3e-3
    lr_final_fraction: float = 0.02
    warmup_steps: int = 100
    max_grad_norm: float = 10.0
    max_grad_ratio: float = 0.0
    dropout_fraction: float = 0.55
    dropout_scale: float = 1.0
    dropout_until: float = 1.0
    single_frame_fraction: float = 0.3
    all_frames_fraction: float = 0.3
    coarse: float = 2.0
    coarse_until: float = 0.4
    halved_until: float = 0.0
    objective: Literal["constrained", "elbo", "balanced"] = "constrained"
    constrained: ConstrainedConfig = field(default_factory=ConstrainedConfig)
    balanced: BalancedConfig = field(default_factory=BalancedConfig)
    elbo: ELBOConfig = field(default_factory=ELBOConfig)
    dreaming: DreamConfig = field(default_factory=DreamConfig)
    validate_every: int = 250
    patience: int = 12
    tensorboard: bool = field(default_factory=_has_tensorboard)
    precision: Precision = "fp32"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("updates", "batch_size", "window", "validate_every")
        require_at_least(1, **{name: getattr(self, name) for name in counts})
        require_choices(self)
        require_at_least(0, warmup_steps=self.warmup_steps, patience=self.patience, seed=self.seed)
        require_finite(0, learning_rate=self.learning_rate, coarse=self.coarse)
        require_positive(max_grad_norm=self.max_grad_norm)
        require_fraction(lr_final_fraction=self.lr_final_fraction)
        if not 0 < self.coarse_until <= 1:
            raise ConfigError(f"coarse_until must lie in (0, 1], got {self.coarse_until}")
        if not 0 <= self.halved_until < 1:
            raise ConfigError(f"halved_until must lie in [0, 1), got {self.halved_until}")
        if self.max_grad_ratio != 0 and not 1 <= self.max_grad_ratio < math.inf:
            raise ConfigError(
                f"max_grad_ratio must be 0, or finite and at least 1, got {self.max_grad_ratio}"
            )
        if not 0 < self.dropout_scale <= 1:
            raise ConfigError(f"dropout_scale must lie in (0, 1], got {self.dropout_scale}")
        if not 0 < self.dropout_until <= 1:
            raise ConfigError(f"dropout_until must lie in (0, 1], got {self.dropout_until}")
        fractions = (self.dropout_fraction, self.single_frame_fraction, self.all_frames_fraction)
        if not (0 <= min(fractions) <= max(fractions) <= 1 and sum(fractions[1:]) <= 1):
            raise ConfigError(
                "dropout_fraction, and single_frame_fraction and all_frames_fraction together, "
                f"must lie in [0, 1], got {fractions}"
            )

    def warmed(self) -> TrainConfig:
        """The same to go on from weights that were trained so: all that comes first is over.

        A third of the updates at a third of the learning rate, sequences of full length, all
        components weighed alike, and the constraint tight from the beginning.
        """
        return replace(
            self,
            updates=max(1, self.updates // 3),
            learning_rate=self.learning_rate / 3,
            coarse=0.0,
            halved_until=0.0,
            constrained=replace(self.constrained, tighten_from=0.0, tighten_to=0.0),
        )
