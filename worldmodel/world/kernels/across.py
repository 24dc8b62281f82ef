"""What is shared out or evened out across the registers of each environment."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from worldmodel.world.kernels.exponential import exp
from worldmodel.world.kernels.options import kernel
from worldmodel.world.lanes import (
    LANES,
    add,
    div,
    greater,
    greatest,
    head,
    load,
    mul,
    spread,
    store,
    sub,
    total,
)

_ZERO, _ONE, _INF = np.float32(0), np.float32(1), np.float32(np.inf)


@kernel
@no_type_check
def softmax_one(space, x, out, rows):
    """``Builder.softmax`` for one environment."""
    best, whole = spread(-_INF), _ZERO
    for k in range(0, rows, LANES):
        best = greater(head(load(space, x + k), rows - k, -_INF), best)
    best = spread(greatest(best))
    for k in range(0, rows, LANES):
        e = head(exp(sub(load(space, x + k), best), _ONE), rows - k, _ZERO)
        store(space, out + k, e)
        whole += total(e)
    each = spread(_ONE / whole)
    for k in range(0, rows, LANES):
        store(space, out + k, mul(load(space, out + k), each))


@kernel
@no_type_check
def softmax(space, x, out, rows, stride):
    """``Builder.softmax`` for many."""
    for i in range(0, stride, LANES):
        best = load(space, x + i)
        for k in range(1, rows):
            best = greater(load(space, x + k * stride + i), best)
        whole = spread(_ZERO)
        for k in range(rows):
            e = exp(sub(load(space, x + k * stride + i), best), _ONE)
            store(space, out + k * stride + i, e)
            whole = add(whole, e)
        each = div(spread(_ONE), whole)
        for k in range(rows):
            y = out + k * stride + i
            store(space, y, mul(load(space, y), each))


@kernel
@no_type_check
def normalise(weights, w, space, x, out, rows, stride):
    """``Builder.normalise``."""
    count = np.float32(rows)
    for i in range(stride):
        whole, squares = _ZERO, _ZERO
        for k in range(rows):
            whole += space[x + k * stride + i]
        mean = whole / count
        for k in range(rows):
            squares += (space[x + k * stride + i] - mean) ** 2
        scale = _ONE / np.sqrt(squares / count + weights[w + 2 * rows])
        for k in range(rows):
            standard = (space[x + k * stride + i] - mean) * scale
            space[out + k * stride + i] = standard * weights[w + k] + weights[w + rows + k]
