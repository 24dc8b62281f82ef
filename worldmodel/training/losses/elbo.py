"""The evidence lower bound, annealed as in the paper.

Source: Karl et al. 2017, eq. 11 and its annealed form. The paper prints max(1, 0.01 + i / T_A) for
the inverse temperature; only min(1, ...) fits its text, and is used here.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from worldmodel.errors import require_fraction
from worldmodel.models.terms import Terms
from worldmodel.training.losses.objective import Objective, head_loss


@dataclass(frozen=True)
class ELBOConfig:
    """Annealing of the bound.

    Attributes:
        start: Inverse temperature c at the first update; 1 is the plain bound.
        anneal: Fraction of training over which c rises linearly to 1.
    """

    start: float = 0.01
    anneal: float = 0.5

    def __post_init__(self) -> None:
        require_fraction(start=self.start, anneal=self.anneal)


class AnnealedELBO(Objective):
    """-(c ln p(x|z) - ln q(w) + c ln p(w)) + KL(q(v) || p(v)) per sequence."""

    def __init__(self, config: ELBOConfig) -> None:
        self.config = config
        self.temperature = config.start

    def loss(self, terms: Terms, sequences: int) -> Float[Tensor, ""]:
        """See the class. c ln p(w) - ln q(w) = (1 - c) entropy - c KL, in expectation."""
        c = self.temperature
        per_frame = c * (terms.rate - terms.reconstruction) - (1 - c) * terms.entropy
        return per_frame.sum() / len(per_frame) + head_loss(terms, sequences)

    def observe(self, terms: Terms, progress: float) -> None:
        """Raise the inverse temperature."""
        fraction = progress / self.config.anneal if self.config.anneal else 1.0
        self.temperature = min(1.0, self.config.start + (1 - self.config.start) * fraction)

    def logs(self) -> dict[str, float]:
        """The inverse temperature."""
        return {"inverse_temperature": self.temperature}

    def settled(self, progress: float) -> bool:
        """Once annealed."""
        return progress >= self.config.anneal

    def state_dict(self) -> dict[str, float]:
        """The inverse temperature."""
        return {"temperature": self.temperature}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """The inverse temperature."""
        self.temperature = state["temperature"]
