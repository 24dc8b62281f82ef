"""Constrained optimisation: minimise the rate subject to a distortion.

    L = rate + lambda * (distortion - D_0 + flatness * unevenness),   lambda >= 0

The bound with a learned emission scale balances rate and distortion by itself, and often balances
them so that frames are reconstructed one by one and no dynamics are learned. Here the distortion
allowed is named in the units of the observation, loose at first, so that the multiplier falls and
the dynamics are learned, and then tightened.

Frames that are foretold without a look err by far more than those that are looked at, and their
slopes, through many steps of the transition, are larger still where a dream went astray, and say
nothing: squared, a few such frames drown what all others teach. Huber's loss, which beyond what is
allowed counts an error by itself instead of its square, leaves them a say of their size.

Source: Klushyn et al. 2021 ("Latent Matters"). Differs: the multiplier follows the relative
violation with a clipped step in log lambda, and D_0 is scheduled. Huber 1964, "Robust estimation of
a location parameter", for frames that are foretold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.errors import ConfigError, require_finite
from worldmodel.models.terms import Terms
from worldmodel.training.losses.objective import Objective, head_loss


@dataclass(frozen=True)
class ConstrainedConfig:
    """Schedule of the constraint.

    Attributes:
        loose: First allowed distortion, as a fraction of the mean observation's (of the variance,
            if the emission is Gaussian; see ``Emission``).
        tight: Last allowed distortion.
        tighten_from: Fraction of training after which the constraint tightens, geometrically.
        tighten_to: Fraction of training at which it is tight.
        step: Largest change of log lambda per update.
        decay: Of the moving average of the distortion.
        min_multiplier: Least lambda, in nats per standard unit of distortion, of which a picture
            has 12 and a vector one for each component; see ``StreamCodec``.
        max_multiplier: Greatest lambda.
        flatness: Weight of the emission's unevenness beside a sequence's distortion; lambda weighs
            both. It is no part of the bound; see ``Emission.unevenness``.
        huber: Whether frames that are foretold without a look count by Huber's loss. Then the
            multiplied loss is no bound any more, since their distortion counts for less.
    """

    loose: float = 0.05
    tight: float = 0.004
    tighten_from: float = 0.25
    tighten_to: float = 0.6
    step: float = 0.005
    decay: float = 0.99
    min_multiplier: float = 4.0
    max_multiplier: float = 105.0
    flatness: float = 190.0
    huber: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.tight <= self.loose < math.inf:
            raise ConfigError(
                "tight must be above 0 and at most loose, which is finite, "
                f"got {self.tight} and {self.loose}"
            )
        if not 0 <= self.tighten_from <= self.tighten_to <= 1:
            raise ConfigError(
                "tighten_from must be at most tighten_to, both in [0, 1], "
                f"got {self.tighten_from} and {self.tighten_to}"
            )
        if not 0 < self.min_multiplier <= self.max_multiplier < math.inf:
            raise ConfigError(
                "min_multiplier must be above 0 and at most max_multiplier, which is finite, "
                f"got {self.min_multiplier} and {self.max_multiplier}"
            )
        if not 0 <= self.decay < 1:
            raise ConfigError(f"decay must lie in [0, 1), got {self.decay}")
        require_finite(0, step=self.step, flatness=self.flatness)


class Constrained(Objective):
    """Rate plus lambda times the summed distortion, per sequence.

    The emission's scale has no part in the constraint: it is fitted alongside, by maximum
    likelihood on the reconstructions as they are, so that the bound can be reported.

    Args:
        config: Schedule.
    """

    def __init__(self, config: ConstrainedConfig) -> None:
        self.config = config
        self.log_multiplier = math.log(config.min_multiplier)
        self.distortion: float | None = None
        self.target = config.loose

    def loss(self, terms: Terms, sequences: int) -> Float[Tensor, ""]:
        """See the class."""
        multiplier = math.exp(self.log_multiplier)
        per_frame = terms.rate + multiplier * self._counted(terms)
        fit = (terms.calibration * terms.observed).sum()
        loss = (per_frame.sum() - fit) / len(per_frame) + head_loss(terms, sequences)
        if self.config.flatness:
            loss = loss + multiplier * self.config.flatness * terms.unevenness
        return loss

    def _counted(self, terms: Terms) -> Float[Tensor, "batch frames"]:
        """Distortion, of frames without a look by Huber's loss."""
        if not self.config.huber:
            return terms.distortion
        allowed = self.target * (terms.weight or 1.0)
        far = 2 * (allowed * terms.distortion.clamp_min(allowed)).sqrt() - allowed
        return torch.where(terms.observed, terms.distortion, terms.distortion.minimum(far))

    def observe(self, terms: Terms, progress: float) -> None:
        """Move lambda by the violation on sequences that were filtered throughout."""
        c = self.config
        whole = (terms.observed | ~terms.frame_mask).all(1) & terms.frame_mask.any(1)
        if whole.any():
            frames = terms.frame_mask[whole].sum().item()
            # What never changed weighs nothing: then distortion itself is what there is to judge.
            distortion = terms.distortion[whole].sum().item() / (frames * (terms.weight or 1.0))
            previous = distortion if self.distortion is None else self.distortion
            self.distortion = c.decay * previous + (1 - c.decay) * distortion
        fraction = (progress - c.tighten_from) / max(c.tighten_to - c.tighten_from, 1e-9)
        self.target = c.loose * (c.tight / c.loose) ** min(max(fraction, 0.0), 1.0)
        if self.distortion is not None:
            violation = self.distortion / self.target - 1
            self.log_multiplier += c.step * min(max(violation, -1.0), 1.0)
        low, high = math.log(c.min_multiplier), math.log(c.max_multiplier)
        self.log_multiplier = min(max(self.log_multiplier, low), high)

    def logs(self) -> dict[str, float]:
        """Multiplier; allowed and actual distortion, as fractions of the mean observation's."""
        return {
            "multiplier": math.exp(self.log_multiplier),
            "distortion_target": self.target,
            "distortion": math.nan if self.distortion is None else self.distortion,
        }

    def settled(self, progress: float) -> bool:
        """Once tight."""
        return progress >= self.config.tighten_to

    def state_dict(self) -> dict[str, float]:
        """Multiplier and moving average."""
        return {
            "log_multiplier": self.log_multiplier,
            "distortion": math.nan if self.distortion is None else self.distortion,
            "target": self.target,
        }

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Multiplier and moving average."""
        self.log_multiplier, self.target = state["log_multiplier"], state["target"]
        self.distortion = None if math.isnan(state["distortion"]) else state["distortion"]
