"""Products of matrices with registers: of weights, and of other registers."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from worldmodel.models.program import PANEL
from worldmodel.world.kernels.options import PAIR, kernel
from worldmodel.world.lanes import (
    LANES,
    add,
    fma,
    greater,
    head,
    load,
    mul,
    spread,
    spread_at,
    store,
    total,
)

_ZERO = np.float32(0)


@kernel
@no_type_check
def _dot(weights, w, columns, space, x):
    """One row of a matrix times the registers of one environment."""
    a = spread(_ZERO)
    whole = columns - columns % LANES
    for k in range(0, whole, LANES):
        a = fma(load(weights, w + 1 + k), load(space, x + k), a)
    if whole < columns:
        rest = mul(load(weights, w + 1 + whole), load(space, x + whole))
        a = add(a, head(rest, columns - whole, _ZERO))
    return weights[w] + total(a)


@kernel
@no_type_check
def linear_one(weights, w, columns, space, x, out, rows, relu):
    """A matrix times the registers of one environment, sixteen rows at a time."""
    zero = spread(_ZERO)
    for row in range(0, rows, PANEL):
        width = min(PANEL, rows - row)
        if width == 1:
            a = spread(_dot(weights, w, columns, space, x))
        else:
            a, b, c, d = load(weights, w), zero, zero, zero
            w += width
            whole = columns - columns % 4
            for k in range(0, whole, 4):
                a = fma(spread_at(space, x + k), load(weights, w), a)
                b = fma(spread_at(space, x + k + 1), load(weights, w + width), b)
                c = fma(spread_at(space, x + k + 2), load(weights, w + 2 * width), c)
                d = fma(spread_at(space, x + k + 3), load(weights, w + 3 * width), d)
                w += 4 * width
            for k in range(whole, columns):
                a = fma(spread_at(space, x + k), load(weights, w), a)
                w += width
            a = add(add(a, b), add(c, d))
        store(space, out + row, greater(zero, a) if relu else a)


@kernel
@no_type_check
def _one(weights, w, width, columns, space, x, out, stride, relu):
    """One row for many environments, in two sums, so that products need not wait for each other."""
    zero = spread(_ZERO)
    for i in range(0, stride, PAIR):
        a0 = spread_at(weights, w)
        a1, b0, b1, v, y = a0, zero, zero, w, x + i
        for _ in range(columns // 2):
            a, b = spread_at(weights, v + width), spread_at(weights, v + 2 * width)
            a0, a1 = fma(a, load(space, y), a0), fma(a, load(space, y + LANES), a1)
            y += stride
            b0, b1 = fma(b, load(space, y), b0), fma(b, load(space, y + LANES), b1)
            y += stride
            v += 2 * width
        if columns % 2:
            a = spread_at(weights, v + width)
            a0, a1 = fma(a, load(space, y), a0), fma(a, load(space, y + LANES), a1)
        a0, a1 = add(a0, b0), add(a1, b1)
        if relu:
            a0, a1 = greater(zero, a0), greater(zero, a1)
        store(space, out + i, a0)
        store(space, out + i + LANES, a1)


@kernel
@no_type_check
def _three(weights, w, width, columns, space, x, out, stride, relu):
    """Three rows for many environments."""
    zero = spread(_ZERO)
    for i in range(0, stride, PAIR):
        a0, b0, c0 = spread_at(weights, w), spread_at(weights, w + 1), spread_at(weights, w + 2)
        a1, b1, c1, v, y = a0, b0, c0, w, x + i
        for _ in range(columns):
            v += width
            s, t = load(space, y), load(space, y + LANES)
            y += stride
            a, b, c = spread_at(weights, v), spread_at(weights, v + 1), spread_at(weights, v + 2)
            a0, b0, c0 = fma(a, s, a0), fma(b, s, b0), fma(c, s, c0)
            a1, b1, c1 = fma(a, t, a1), fma(b, t, b1), fma(c, t, c1)
        if relu:
            a0, b0, c0 = greater(zero, a0), greater(zero, b0), greater(zero, c0)
            a1, b1, c1 = greater(zero, a1), greater(zero, b1), greater(zero, c1)
        store(space, out + i, a0)
        store(space, out + i + LANES, a1)
        store(space, out + stride + i, b0)
        store(space, out + stride + i + LANES, b1)
        store(space, out + 2 * stride + i, c0)
        store(space, out + 2 * stride + i + LANES, c1)


@kernel
@no_type_check
def linear(weights, w, columns, space, x, out, rows, stride, relu):
    """A matrix times the registers of many environments, four rows of it at a time.

    Of what is left two rows go on into the room behind the range, as if they were three.
    """
    zero = spread(_ZERO)
    panel = (columns + 1) * PANEL
    fours = rows - rows % 4
    for row in range(0, fours, 4):
        begin = w + row // PANEL * panel + row % PANEL
        width = min(PANEL, rows - row // PANEL * PANEL)
        for i in range(0, stride, PAIR):
            a0, b0 = spread_at(weights, begin), spread_at(weights, begin + 1)
            c0, d0 = spread_at(weights, begin + 2), spread_at(weights, begin + 3)
            a1, b1, c1, d1 = a0, b0, c0, d0
            v, y = begin, x + i
            for _ in range(columns):
                v += width
                s, t = load(space, y), load(space, y + LANES)
                y += stride
                a, b = spread_at(weights, v), spread_at(weights, v + 1)
                c, d = spread_at(weights, v + 2), spread_at(weights, v + 3)
                a0, b0, c0, d0 = fma(a, s, a0), fma(b, s, b0), fma(c, s, c0), fma(d, s, d0)
                a1, b1, c1, d1 = fma(a, t, a1), fma(b, t, b1), fma(c, t, c1), fma(d, t, d1)
            if relu:
                a0, b0, c0, d0 = (
                    greater(zero, a0), greater(zero, b0), greater(zero, c0), greater(zero, d0)
                )  # fmt: skip
                a1, b1, c1, d1 = (
                    greater(zero, a1), greater(zero, b1), greater(zero, c1), greater(zero, d1)
                )  # fmt: skip
            o = out + row * stride + i
            store(space, o, a0)
            store(space, o + LANES, a1)
            store(space, o + stride, b0)
            store(space, o + stride + LANES, b1)
            store(space, o + 2 * stride, c0)
            store(space, o + 2 * stride + LANES, c1)
            store(space, o + 3 * stride, d0)
            store(space, o + 3 * stride + LANES, d1)
    if fours < rows:
        begin = w + fours // PANEL * panel + fours % PANEL
        width, o = rows - fours // PANEL * PANEL, out + fours * stride
        if rows == fours + 1:
            _one(weights, begin, width, columns, space, x, o, stride, relu)
        else:
            _three(weights, begin, width, columns, space, x, o, stride, relu)


@kernel
@no_type_check
def contract(space, matrix, x, start, out, rows, columns, stride):
    """``Builder.contract``; a negative ``start`` is none."""
    if stride == 1:
        for d in range(0, rows, LANES):
            a = load(space, start + d) if start >= 0 else spread(_ZERO)
            for k in range(columns):
                a = fma(spread_at(space, x + k), load(space, matrix + k * rows + d), a)
            store(space, out + d, a)
        return
    for d in range(rows):
        for i in range(0, stride, LANES):
            a = load(space, start + d * stride + i) if start >= 0 else spread(_ZERO)
            for k in range(columns):
                entry = load(space, matrix + (k * rows + d) * stride + i)
                a = fma(entry, load(space, x + k * stride + i), a)
            store(space, out + d * stride + i, a)


@kernel
@no_type_check
def gram(space, rows, out, count, size, stride):
    """``Builder.gram``, each pair once."""
    for r in range(count):
        for c in range(r + 1):
            a, b = rows + r * size * stride, rows + c * size * stride
            above, below = out + (c * count + r) * stride, out + (r * count + c) * stride
            if stride == 1:
                whole = spread(_ZERO)
                for k in range(0, size, LANES):
                    left = head(load(space, a + k), size - k, _ZERO)
                    whole = fma(left, head(load(space, b + k), size - k, _ZERO), whole)
                space[above] = space[below] = total(whole)
            else:
                for i in range(0, stride, LANES):
                    whole = spread(_ZERO)
                    for k in range(i, size * stride, stride):
                        whole = fma(load(space, a + k), load(space, b + k), whole)
                    store(space, above + i, whole)
                    store(space, below + i, whole)
