"""How likely a dream is to end: what the model holds, as held-out episodes correct it.

Training draws windows, in which the last step of an episode is rarer than in episodes, and its head
sees states that were inferred, not predicted: its logits are off by a number, and too sure or too
hesitant by a factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from worldmodel.errors import ConfigError, require_finite
from worldmodel.models.program import Builder, Rows

# Standard deviations of what is believed of ln(slope) and of the shift before any episode is seen:
# where ends are told without error, no finite slope would be enough.
_PRIOR = (1.0, 3.0)
_ITERATIONS = 100
_MOST = torch.finfo(torch.float32).max
_LEAST = 1e-12  # chances are kept away from 0 and 1, whose logarithms are not finite


@dataclass(frozen=True)
class Ends:
    """Logit of an end: ``slope`` times the model's own, plus ``shift``; and what it pays.

    Attributes:
        slope: See above.
        shift: See above.
        reward: Paid on top of what the model expects of a step that does not end an episode.

    Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines". Differs: the slope is
    positive, and both have priors.
    """

    slope: float = 1.0
    shift: float = 0.0
    reward: float = 0.0

    def __post_init__(self) -> None:
        require_finite(0, slope=self.slope)
        for name in ("slope", "shift", "reward"):
            if not abs(getattr(self, name)) <= _MOST:
                raise ConfigError(f"{name} must be finite in float32, got {getattr(self, name)}")

    def __call__(self, logit: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The corrected logit."""
        return self.slope * logit + self.shift

    def compiled(self, builder: Builder, logit: Rows) -> Rows:
        """Instructions of it."""
        return builder.affine(logit, self.slope, self.shift)


def fit_ends(logit: Float[Tensor, "draws steps"], ended: Bool[Tensor, " steps"]) -> Ends:
    """What makes held-out ends likeliest; nothing is corrected unless some end and some do not.

    Args:
        logit: The model's, of states that were dreamt with several draws of noise; the chance of an
            end is the mean over these.
        ended: Whether the steps ended an episode.
    """
    if ended.all() or not ended.any():
        return Ends()
    known, truth = logit.detach().double().cpu(), ended.double().cpu()
    correction = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([correction], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")
    prior = torch.tensor(_PRIOR, dtype=torch.float64)

    def loss() -> Tensor:
        optimizer.zero_grad()
        chance = (correction[0].exp() * known + correction[1]).sigmoid().mean(0)
        missed = binary_cross_entropy(chance.clamp(_LEAST, 1 - _LEAST), truth, reduction="sum")
        value = missed + 0.5 * (correction / prior).square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    log_slope, shift = correction.tolist()
    return Ends(math.exp(log_slope), shift)
