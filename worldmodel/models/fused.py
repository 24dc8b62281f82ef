"""Loops over time with gradients of their own, which autograd and autocast know nothing of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def looped(loop: type[torch.autograd.Function], weight: Tensor, *inputs: Any) -> Any:
    """Apply a loop in the precision of the weights, whatever precision products elsewhere have.

    Args:
        loop: Takes ``inputs``; it writes into tensors that it made, which autocast does not know.
        weight: A parameter, whose precision and device are those of the loop.
        inputs: Tensors and others.
    """
    if not torch.is_autocast_enabled(weight.device.type):
        return loop.apply(*inputs)
    whole = (
        each.to(weight.dtype) if isinstance(each, Tensor) and each.is_floating_point() else each
        for each in inputs
    )
    with torch.autocast(weight.device.type, enabled=False):
        return loop.apply(*whole)
