"""Batches that give no finite gradient: the next one is tried, and they are counted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields

import torch
from rich.console import Console
from torch import Tensor

from worldmodel.device import Numerics
from worldmodel.errors import DivergenceError
from worldmodel.models.terms import Terms
from worldmodel.training.team import Team

# In a row, after whose losses or gradients that are not finite training is given up.
_BATCHES = 10


class Skipping:
    """Goes on to the next batch where one gives no finite gradient.

    Args:
        team: The processes that share a batch; all of them skip it, or none.
        numerics: What gradients are computed in.

    Attributes:
        count: Of batches that were skipped.
    """

    def __init__(self, team: Team, numerics: Numerics) -> None:
        self._team, self._numerics = team, numerics
        self.count = 0

    def until_finite(
        self, differentiate: Callable[[], tuple[Tensor, Tensor]], explain: Callable[[Tensor], str]
    ) -> None:
        """Differentiate one batch after the other until loss and gradient are finite.

        Args:
            differentiate: Draws a batch; its loss, and the norm of its gradient.
            explain: What to say of the norm if none is.

        Raises:
            DivergenceError: None of so many is.
        """
        for tries in range(_BATCHES):
            loss, norm = differentiate()
            if self._is_finite(loss, norm):
                return
            self.count += 1
            if tries == _BATCHES - 1:
                raise DivergenceError(explain(norm))

    def tell(self, console: Console, before: int) -> None:
        """Say how many were skipped since there were so many."""
        if count := self.count - before:
            console.print(
                f"{count} batches gave no finite gradient and were skipped; a smaller "
                "--learning-rate or --max-grad-norm may help",
                soft_wrap=True,
            )

    def _is_finite(self, loss: Tensor, norm: Tensor) -> bool:
        whole = self._team.summed(loss.detach().clone())
        expected = math.isfinite(norm.item()) or self._numerics.forgives
        return expected and math.isfinite(whole.item())


def culprit(terms: Terms, norm: Tensor) -> str:
    """What is not finite: a term, or the gradient of that norm."""
    names = [*(f.name for f in fields(terms)), "unevenness"]
    tensors = ((name, getattr(terms, name)) for name in names)
    bad = [n for n, v in tensors if isinstance(v, Tensor) and not torch.isfinite(v).all()]
    return f"term {bad[0]!r}" if bad else f"the gradient (norm {norm.item()})"
