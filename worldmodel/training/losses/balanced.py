"""A fixed exchange of distortion for rate, with free bits and KL balancing.

    L = multiplier * distortion + sum over frames of max(rate, free)

The prior learns faster from the rate than the posterior gives way to it, so that a poor prior does
not hold back what is recognised; and a frame's first nats cost nothing, so that they need not be
given up for their price. Nothing is scheduled: what is asked for is the same from the first update
to the last.

Distortion is in the streams' standard units, of which a picture has 12 whatever its pixels are, and
a vector one for each component (``StreamCodec``). So one multiplier suits a picture of any size,
where the squared error of pixels needs another for each.

Sources: Hafner et al. 2019 ("Learning Latent Dynamics for Planning from Pixels") for free bits,
2021 ("Mastering Atari with Discrete World Models") for KL balancing. Differs: free bits are each
frame's own, and distortion is standardised.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from worldmodel.errors import ConfigError, require_finite
from worldmodel.models.terms import Terms
from worldmodel.training.losses.objective import Objective, head_loss


@dataclass(frozen=True)
class BalancedConfig:
    """What is exchanged for what.

    Attributes:
        multiplier: Nats per standard unit of distortion.
        free: Nats of every frame's rate that cost nothing.
        balance: Fraction of the rate's gradient that the prior feels; the posterior feels what is
            left to 1. Only of models that learn the two against each other.
    """

    multiplier: float = 40.0
    free: float = 1.0
    balance: float = 0.8

    def __post_init__(self) -> None:
        require_finite(0, multiplier=self.multiplier, free=self.free)
        if not 0 <= self.balance <= 1:
            raise ConfigError(f"balance must lie in [0, 1], got {self.balance}")


class Balanced(Objective):
    """See this module. The emission's scale is fitted alongside, as in ``Constrained``.

    Args:
        config: Its weights.
    """

    def __init__(self, config: BalancedConfig) -> None:
        self.config = config

    def loss(self, terms: Terms, sequences: int) -> Float[Tensor, ""]:
        """See the class."""
        c = self.config
        rate = terms.rate if terms.balance is None else terms.balance(c.balance)
        per_frame = rate.clamp_min(c.free) + c.multiplier * terms.distortion
        fit = (terms.calibration * terms.observed).sum()
        return (per_frame.sum() - fit) / len(per_frame) + head_loss(terms, sequences)

    def observe(self, terms: Terms, progress: float) -> None:
        """Nothing changes."""

    def logs(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def settled(self, progress: float) -> bool:
        """From the first update on."""
        return True

    def state_dict(self) -> dict[str, float]:
        """Empty."""
        return {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Nothing to load."""
