"""The loss of one batch as one module: what is shared among processes, and compiled."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldmodel.device import Numerics
from worldmodel.models.learned import LearnedModel
from worldmodel.models.terms import Terms
from worldmodel.training.losses.objective import Objective
from worldmodel.training.team import Team
from worldmodel.types import Batch


class BatchLoss(nn.Module):
    """From a batch to a loss.

    Args:
        model: Whose terms the loss is made of.
        team: Who has the other rows of the batch.
        numerics: What it is computed in.

    Attributes:
        terms: Of this process's rows, as they were last.
    """

    terms: Terms

    def __init__(self, model: LearnedModel, team: Team, numerics: Numerics) -> None:
        super().__init__()
        self.model = model
        self._team, self._numerics = team, numerics

    def forward(
        self,
        objective: Objective,
        sequences: int,
        batch: Batch,
        generator: torch.Generator,
        observed: Tensor,
        prefix: int,
        unobserved_scale: float,
    ) -> Tensor:
        """As ``Objective.loss`` of ``StateSpaceModel.terms``.

        Args:
            objective: Makes one number of the terms.
            sequences: See ``Objective.loss``.
            batch: See ``StateSpaceModel.terms``, and for all that follows.
            generator: Source of every draw.
            observed: Of this process's rows.
            prefix: Leading frames that the initial state is read from.
            unobserved_scale: Of the process noise.
        """
        with self._numerics.autocast():
            terms = self.model.terms(batch, generator, observed, prefix, unobserved_scale)
            self.terms = self._team.even(terms, self.model, batch)
            return objective.loss(self.terms, sequences)
