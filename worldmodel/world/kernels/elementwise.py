"""What goes number by number."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from worldmodel.models.program import Op
from worldmodel.world.kernels.exponential import exp, softplus
from worldmodel.world.kernels.options import kernel
from worldmodel.world.lanes import (
    LANES,
    add,
    choose,
    div,
    fma,
    greater,
    lesser,
    load,
    log,
    maximum,
    mul,
    sin,
    spread,
    sqrt,
    store,
    sub,
)

_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)


@kernel
@no_type_check
def _limited(x, low, high):
    """What is not a number stays so."""
    return lesser(high, greater(low, x))


@kernel
@no_type_check
def scale_or_clamp(scale, weights, w, space, a, out, rows, stride):
    """With two weights for each register."""
    if stride == 1:
        for i in range(0, rows, LANES):
            x, p, q = load(space, a + i), load(weights, w + i), load(weights, w + rows + i)
            store(space, out + i, fma(x, p, q) if scale else _limited(x, p, q))
        return
    for k in range(rows):
        p, q = spread(weights[w + k]), spread(weights[w + rows + k])
        for i in range(k * stride, (k + 1) * stride, LANES):
            x = load(space, a + i)
            store(space, out + i, fma(x, p, q) if scale else _limited(x, p, q))


@kernel
@no_type_check
def select(space, distance, near, far, out, rows, stride):
    """``Builder.select``."""
    if stride == 1:
        test = spread(space[distance])
        for i in range(0, rows, LANES):
            store(space, out + i, choose(test, load(space, near + i), load(space, far + i)))
        return
    for k in range(0, rows * stride, stride):
        for i in range(0, stride, LANES):
            test, y = load(space, distance + i), k + i
            store(space, out + y, choose(test, load(space, near + y), load(space, far + y)))


@kernel
@no_type_check
def each(op, space, a, b, out, count):  # noqa: C901 (a switch)
    """What goes number by number."""
    if op == Op.COPY:
        for i in range(0, count, LANES):
            store(space, out + i, load(space, a + i))
    elif op == Op.ADD:
        for i in range(0, count, LANES):
            store(space, out + i, add(load(space, a + i), load(space, b + i)))
    elif op == Op.MULTIPLY:
        for i in range(0, count, LANES):
            store(space, out + i, mul(load(space, a + i), load(space, b + i)))
    elif op == Op.GREATER:
        for i in range(0, count, LANES):
            store(space, out + i, maximum(load(space, a + i), load(space, b + i)))
    elif op == Op.RELU:
        for i in range(0, count, LANES):
            store(space, out + i, greater(spread(_ZERO), load(space, a + i)))
    elif op == Op.SILU:
        for i in range(0, count, LANES):
            x = load(space, a + i)
            store(space, out + i, div(x, add(spread(_ONE), exp(x, -_ONE))))
    elif op == Op.TANH:
        for i in range(0, count, LANES):
            x = load(space, a + i)
            tail = div(spread(_TWO), add(spread(_ONE), exp(x, _TWO)))
            store(space, out + i, sub(spread(_ONE), tail))
    elif op == Op.SIGMOID:
        for i in range(0, count, LANES):
            e = exp(load(space, a + i), -_ONE)
            store(space, out + i, div(spread(_ONE), add(spread(_ONE), e)))
    elif op == Op.SOFTPLUS:
        for i in range(0, count, LANES):
            store(space, out + i, softplus(load(space, a + i)))
    elif op == Op.EXP:
        for i in range(0, count, LANES):
            store(space, out + i, exp(load(space, a + i), _ONE))
    elif op == Op.LOG:
        for i in range(0, count, LANES):
            store(space, out + i, log(load(space, a + i)))
    elif op == Op.SQRT:
        for i in range(0, count, LANES):
            store(space, out + i, sqrt(load(space, a + i)))
    elif op == Op.SIN:
        for i in range(0, count, LANES):
            store(space, out + i, sin(load(space, a + i)))
