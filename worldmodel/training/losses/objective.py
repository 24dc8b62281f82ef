"""What the trainer asks of an objective: a loss from terms, and its own small state."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from worldmodel.models.terms import Terms


class Objective(ABC):
    """Turns unreduced terms into one loss; never touches an optimiser."""

    @abstractmethod
    def loss(self, terms: Terms, sequences: int) -> Float[Tensor, ""]:
        """Nats per sequence, to be minimised.

        Args:
            terms: Of one batch.
            sequences: Number of sequences of the batch's length in the whole training set, among
                which the weights' KL is shared.
        """

    @abstractmethod
    def observe(self, terms: Terms, progress: float) -> None:
        """Update the objective's own state after a gradient step, ``progress`` in [0, 1]."""

    @abstractmethod
    def logs(self) -> dict[str, float]:
        """Scalars worth watching."""

    @abstractmethod
    def settled(self, progress: float) -> bool:
        """Whether the objective no longer changes, so that validation values compare."""

    @abstractmethod
    def state_dict(self) -> dict[str, float]:
        """What exact resume needs."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, float]) -> None:
        """Inverse of ``state_dict``."""


def head_loss(terms: Terms, sequences: int) -> Float[Tensor, ""]:
    """What every objective adds: all that is learned beside the states, and the weights' KL."""
    beside = terms.reward.sum() + terms.termination.sum()
    if terms.filtering is not None:
        beside = beside + terms.filtering.sum()
    return terms.weight_kl / sequences - beside / len(terms.rate)
