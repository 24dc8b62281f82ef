"""Constrained optimisation: minimise the rate subject to a distortion.

    L = rate + lambda * (distortion - D_0 + flatness * unevenness),   lambda >= 0

The bound with a learned emission scale balances rate and distortion by itself, and often balances
them so that frames are reconstructed one by one and no dynamics are learned. Here the distortion
allowed is named in the units of the observation, loose at first, so that the multiplier falls and
the dynamics are learned, and then tightened.

Source: Klushyn et al. 2021 ("Latent Matters"). Differs: the multiplier follows the relative
violation with a clipped step in log lambda, and D_0 is scheduled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from worldmodel.errors import ConfigError
from worldmodel.models.terms import Terms
from worldmodel.training.losses.objective import Objective, head_loss


@dataclass(frozen=True)
class ConstrainedConfig:
    """Schedule of the constraint.

    Attributes:
        loose: First allowed distortion, as a share of the observations' variance (of their deviance
            if the emission is not Gaussian; see ``Emission``).
        tight: Last allowed distortion.
        tighten_from: Share of training after which the constraint tightens, geometrically.
        tighten_to: Share of training at which it is tight.
        step: Largest change of log lambda per update.
        decay: Of the moving average of the distortion.
        least: Least lambda, in nats per squared unit of the scaled observation, or of deviance.
        greatest: Greatest lambda.
        flatness: Weight of the emission's unevenness beside a sequence's distortion; lambda weighs
            both. It is no part of the bound; see ``Emission.unevenness``.
    """

    loose: float = 0.05
    tight: float = 0.004
    tighten_from: float = 0.25
    tighten_to: float = 0.6
    step: float = 0.005
    decay: float = 0.99
    least: float = 8.0
    greatest: float = 200.0
    flatness: float = 100.0

    def __post_init__(self) -> None:
        if not 0 < self.tight <= self.loose:
            raise ConfigError(
                f"tight must be above 0 and at most loose {self.loose}, got {self.tight}"
            )
        if not 0 <= self.tighten_from <= self.tighten_to <= 1:
            raise ConfigError(
                "tighten_from must be at most tighten_to, both in [0, 1], "
                f"got {self.tighten_from} and {self.tighten_to}"
            )
        if not 0 < self.least <= self.greatest:
            raise ConfigError(
                f"least must be above 0 and at most greatest {self.greatest}, got {self.least}"
            )
        if not 0 <= self.decay < 1:
            raise ConfigError(f"decay must lie in [0, 1), got {self.decay}")
        if min(self.step, self.flatness) < 0:
            raise ConfigError(
                f"step and flatness must be at least 0, got {self.step} and {self.flatness}"
            )


class Constrained(Objective):
    """Rate plus lambda times the summed distortion, per sequence.

    The emission's scale has no part in the constraint: it is fitted alongside, by maximum
    likelihood on the reconstructions as they are, so that the bound can be reported.

    Args:
        config: Schedule.
        deviance: Of the scaled observations, averaged over their scalars; for a Gaussian emission
            their variance.
    """

    def __init__(self, config: ConstrainedConfig, deviance: float) -> None:
        self.config = config
        self.deviance = deviance
        self.log_multiplier = math.log(config.least)
        self.distortion: float | None = None
        self.target = config.loose

    def loss(self, terms: Terms, sequences: int) -> Float[Tensor, ""]:
        """See the class."""
        multiplier = math.exp(self.log_multiplier)
        per_frame = terms.rate + multiplier * terms.distortion
        fit = (terms.calibration * terms.observed).sum()
        loss = (per_frame.sum() - fit) / len(per_frame) + head_loss(terms, sequences)
        if self.config.flatness:
            loss = loss + multiplier * self.config.flatness * terms.unevenness
        return loss

    def observe(self, terms: Terms, progress: float) -> None:
        """Move lambda by the violation on sequences that were filtered throughout."""
        c = self.config
        whole = (terms.observed | ~terms.frame_mask).all(1)
        if whole.any():
            frames = terms.frame_mask[whole].sum().item()
            distortion = terms.distortion[whole].sum().item() / (frames * terms.observation_size)
            previous = distortion if self.distortion is None else self.distortion
            self.distortion = c.decay * previous + (1 - c.decay) * distortion
        share = (progress - c.tighten_from) / max(c.tighten_to - c.tighten_from, 1e-9)
        self.target = c.loose * (c.tight / c.loose) ** min(max(share, 0.0), 1.0)
        if self.distortion is not None:
            violation = self.distortion / (self.target * self.deviance) - 1
            self.log_multiplier += c.step * min(max(violation, -1.0), 1.0)
        low, high = math.log(c.least), math.log(c.greatest)
        self.log_multiplier = min(max(self.log_multiplier, low), high)

    def logs(self) -> dict[str, float]:
        """Multiplier; allowed and actual distortion, as shares of the deviance."""
        return {
            "multiplier": math.exp(self.log_multiplier),
            "distortion_target": self.target,
            "distortion": math.nan if self.distortion is None else self.distortion / self.deviance,
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
