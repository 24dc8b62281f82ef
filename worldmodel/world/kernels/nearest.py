"""Distances to the nearest of many points."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from worldmodel.models.program import PANEL
from worldmodel.world.kernels.options import PAIR, kernel
from worldmodel.world.lanes import (
    LANES,
    add,
    all_reach,
    any_reaches,
    fma,
    greater,
    greatest,
    load,
    mul,
    spread,
    store,
    sub,
)

# Panels of points that all environments are compared with at once.
_FEW = 4
_ZERO, _HALF, _ONE, _TWO = map(np.float32, (0, 0.5, 1, 2))
_INF = np.float32(np.inf)


@kernel
@no_type_check
def _search(weights, w, panels, space, x, size, stride):
    """Squared distance of one environment's registers to the nearest point, or to a near one."""
    square = _ZERO
    for k in range(0, size * stride, stride):
        square += space[x + k] ** 2
    best, enough = spread(-_INF), spread(_HALF * (square - _ONE))
    for _ in range(panels):
        a = load(weights, w)
        for k in range(0, size * stride, stride):
            w += PANEL
            a = fma(spread(space[x + k]), load(weights, w), a)
        w += PANEL
        best = greater(a, best)
        if any_reaches(best, enough):
            break
    return square - _TWO * greatest(best)


@kernel
@no_type_check
def _few(weights, w, panels, space, x, size, out, i, stride):
    """For a pair of vectors of environments, four points at a time; whether all are near one."""
    square, squares = spread(_ZERO), spread(_ZERO)
    for y in range(x + i, x + i + size * stride, stride):
        s, t = load(space, y), load(space, y + LANES)
        square, squares = fma(s, s, square), fma(t, t, squares)
    best, bests, done = spread(-_INF), spread(-_INF), False
    enough = mul(spread(_HALF), sub(square, spread(_ONE)))
    enoughs = mul(spread(_HALF), sub(squares, spread(_ONE)))
    for panel in range(panels):
        begin = w + panel * PANEL * (size + 1)
        for v in range(begin, begin + PANEL, 4):
            a0, b0 = spread(weights[v]), spread(weights[v + 1])
            c0, d0 = spread(weights[v + 2]), spread(weights[v + 3])
            a1, b1, c1, d1 = a0, b0, c0, d0
            for k in range(size):
                u, y = v + (k + 1) * PANEL, x + i + k * stride
                s, t = load(space, y), load(space, y + LANES)
                a, b = spread(weights[u]), spread(weights[u + 1])
                c, d = spread(weights[u + 2]), spread(weights[u + 3])
                a0, b0, c0, d0 = fma(a, s, a0), fma(b, s, b0), fma(c, s, c0), fma(d, s, d0)
                a1, b1, c1, d1 = fma(a, t, a1), fma(b, t, b1), fma(c, t, c1), fma(d, t, d1)
            best = greater(greater(greater(a0, b0), greater(c0, d0)), best)
            bests = greater(greater(greater(a1, b1), greater(c1, d1)), bests)
        done = all_reach(best, enough) and all_reach(bests, enoughs)
        if done:
            break
    store(space, out + i, sub(square, add(best, best)))
    store(space, out + i + LANES, sub(squares, add(bests, bests)))
    return done


@kernel
@no_type_check
def nearest(weights, w, panels, space, x, size, out, stride):
    """``Builder.nearest``. The first few panels decide nearly all; who is left searches alone."""
    if stride == 1:
        space[out] = _search(weights, w, panels, space, x, size, 1)
        return
    few = min(panels, _FEW)
    others = w + few * PANEL * (size + 1)
    for i in range(0, stride, PAIR):
        if _few(weights, w, few, space, x, size, out, i, stride) or panels == few:
            continue
        for j in range(i, i + PAIR):
            if not space[out + j] <= _ONE:
                other = _search(weights, others, panels - few, space, x + j, size, stride)
                space[out + j] = other if other < space[out + j] else space[out + j]
