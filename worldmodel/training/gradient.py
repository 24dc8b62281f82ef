"""How much of a gradient counts."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from worldmodel.training.config import TrainConfig

# Of the moving average of the gradient's norm.
_DECAY = 0.99


class Clip:
    """Scales gradients down whose norm is too large, or far larger than usual.

    Args:
        config: Says to which norm, and how many times the usual one is too many.

    Attributes:
        usual_norm: Of the gradient, a moving average; 0 before the first.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self.usual_norm = 0.0

    def __call__(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Scale the gradient, in place; the norm that it had."""
        given = [p for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in given if p.grad is not None])
        length = norm.item()
        allowed = self.trust(length) * min(length, self._config.max_grad_norm)
        if length > allowed:
            torch.nn.utils.clip_grads_with_norm_(given, allowed, norm)
        return norm

    def trust(self, norm: float) -> float:
        """What fraction of a gradient counts: less than 1 if it is far longer than usual."""
        if not self._config.max_grad_ratio or not math.isfinite(norm):
            return 1.0
        usual = self.usual_norm or norm
        longest = self._config.max_grad_ratio * usual
        self.usual_norm = _DECAY * usual + (1 - _DECAY) * min(norm, longest)
        return min(1.0, longest / norm) if norm else 1.0
