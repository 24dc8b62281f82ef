"""What the instructions of ``models/program.py`` do, compiled: each is one pass over registers.

Register r of environment i is ``space[r * stride + i]``: neighbouring environments are neighbours
in memory, in blocks of whole pairs of vectors. With a stride of one there is a single environment,
and the vectors run over its registers instead; the last of them goes on into the room that is left
behind every range.

Only ``interpreter.py`` imports this, for it needs numba (extra ``fast``).
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from numba import njit

from worldmodel.models.fusion import LIFT
from worldmodel.models.program import PANEL, Op
from worldmodel.world.lanes import (
    LANES,
    add,
    all_reach,
    any_reaches,
    choose,
    div,
    fma,
    greater,
    greatest,
    head,
    lesser,
    load,
    log,
    mul,
    rounded,
    shifted,
    spread,
    sqrt,
    store,
    sub,
    total,
)

# What the number of environments in a block is rounded up to: two vectors.
PAIR = 2 * LANES
# Panels of points that all environments are compared with at once.
_FEW = 4
# All that may be assumed of numbers, but not that they are finite: divergence must show.
FAST = {"contract", "reassoc", "nsz", "arcp"}
_LIFT = np.float32(LIFT)
_ZERO, _ONE, _TWO, _INF = np.float32(0), np.float32(1), np.float32(2), np.float32(np.inf)
_HALF, _LEAST, _MOST = np.float32(0.5), np.float32(-125), np.float32(127)
_PER_E = np.float32(1 / np.log(2))
# A polynomial through 2^r at Chebyshev's nodes: where |r| <= 1/2 it is off by 7e-8 of it.
_POWER = np.polynomial.Chebyshev.interpolate(np.exp2, 5, (-0.5, 0.5))
_C0, _C1, _C2, _C3, _C4, _C5 = map(np.float32, _POWER.convert(kind=np.polynomial.Polynomial).coef)
OPTIONS: dict[str, Any] = {"fastmath": FAST, "error_model": "numpy"}
# Of what only compiled code calls.
INNER: dict[str, Any] = OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_jit = njit(**INNER)


# Shape checkers must not come between numba and a function: hence no_type_check on all of them.
@_jit
@no_type_check
def _exp(x, sign):
    """exp(sign x): a polynomial, times a power of two by the bits of the exponent."""
    power = mul(spread(sign * _PER_E), x)
    power = greater(spread(_LEAST), lesser(spread(_MOST), power))
    whole = rounded(power)
    r = sub(power, whole)
    rest = fma(r, spread(_C5), spread(_C4))
    rest = fma(r, rest, spread(_C3))
    rest = fma(r, rest, spread(_C2))
    rest = fma(r, rest, spread(_C1))
    rest = fma(r, rest, spread(_C0))
    return shifted(rest, whole)


@_jit
@no_type_check
def _softplus(x):
    """max(x, 0) + ln(1 + t), t = exp(-|x|), by the area tangent of s = t / (2 + t) <= 1/3."""
    zero = spread(_ZERO)
    above = greater(zero, x)
    # NaN is kept by what is above.
    t = _exp(greater(x, sub(zero, x)), -_ONE)
    s = div(t, add(t, spread(_TWO)))
    q = mul(s, s)
    rest = fma(q, spread(np.float32(1 / 13)), spread(np.float32(1 / 11)))
    rest = fma(q, rest, spread(np.float32(1 / 9)))
    rest = fma(q, rest, spread(np.float32(1 / 7)))
    rest = fma(q, rest, spread(np.float32(1 / 5)))
    rest = fma(q, rest, spread(np.float32(1 / 3)))
    rest = fma(q, rest, spread(_ONE))
    return fma(mul(spread(_TWO), s), rest, above)


@_jit
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


@_jit
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
                a = fma(spread(space[x + k]), load(weights, w), a)
                b = fma(spread(space[x + k + 1]), load(weights, w + width), b)
                c = fma(spread(space[x + k + 2]), load(weights, w + 2 * width), c)
                d = fma(spread(space[x + k + 3]), load(weights, w + 3 * width), d)
                w += 4 * width
            for k in range(whole, columns):
                a = fma(spread(space[x + k]), load(weights, w), a)
                w += width
            a = add(add(a, b), add(c, d))
        store(space, out + row, greater(zero, a) if relu else a)


@_jit
@no_type_check
def linear(weights, w, columns, space, x, out, rows, stride, relu):
    """A matrix times the registers of many environments, four rows of it at a time.

    The last four go on into the room behind the range, unless only one of them is in it.
    """
    zero = spread(_ZERO)
    panel = (columns + 1) * PANEL
    fours = rows - 1 if rows % 4 == 1 else rows
    for row in range(0, fours, 4):
        begin = w + row // PANEL * panel + row % PANEL
        width = min(PANEL, rows - row // PANEL * PANEL)
        for i in range(0, stride, PAIR):
            a0, b0 = spread(weights[begin]), spread(weights[begin + 1])
            c0, d0 = spread(weights[begin + 2]), spread(weights[begin + 3])
            a1, b1, c1, d1 = a0, b0, c0, d0
            v, y = begin, x + i
            for _ in range(columns):
                v += width
                s, t = load(space, y), load(space, y + LANES)
                y += stride
                a, b = spread(weights[v]), spread(weights[v + 1])
                c, d = spread(weights[v + 2]), spread(weights[v + 3])
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
        row = fours
        begin = w + row // PANEL * panel + row % PANEL
        width = rows - row // PANEL * PANEL
        for i in range(0, stride, PAIR):
            a0 = spread(weights[begin])
            a1 = a0
            v, y = begin, x + i
            for _ in range(columns):
                v += width
                a = spread(weights[v])
                a0, a1 = fma(a, load(space, y), a0), fma(a, load(space, y + LANES), a1)
                y += stride
            if relu:
                a0, a1 = greater(zero, a0), greater(zero, a1)
            store(space, out + row * stride + i, a0)
            store(space, out + row * stride + i + LANES, a1)


@_jit
@no_type_check
def softmax_one(space, x, out, rows):
    """``Builder.softmax`` for one environment."""
    best, whole = spread(-_INF), _ZERO
    for k in range(0, rows, LANES):
        best = greater(head(load(space, x + k), rows - k, -_INF), best)
    best = spread(greatest(best))
    for k in range(0, rows, LANES):
        e = head(_exp(sub(load(space, x + k), best), _ONE), rows - k, _ZERO)
        store(space, out + k, e)
        whole += total(e)
    each = spread(_ONE / whole)
    for k in range(0, rows, LANES):
        store(space, out + k, mul(load(space, out + k), each))


@_jit
@no_type_check
def softmax(space, x, out, rows, stride):
    """``Builder.softmax`` for many."""
    for i in range(0, stride, LANES):
        best = load(space, x + i)
        for k in range(1, rows):
            best = greater(load(space, x + k * stride + i), best)
        whole = spread(_ZERO)
        for k in range(rows):
            e = _exp(sub(load(space, x + k * stride + i), best), _ONE)
            store(space, out + k * stride + i, e)
            whole = add(whole, e)
        each = div(spread(_ONE), whole)
        for k in range(rows):
            y = out + k * stride + i
            store(space, y, mul(load(space, y), each))


@_jit
@no_type_check
def contract(space, matrix, x, start, out, rows, columns, stride):
    """``Builder.contract``; a negative ``start`` is none."""
    if stride == 1:
        for d in range(0, rows, LANES):
            a = load(space, start + d) if start >= 0 else spread(_ZERO)
            for k in range(columns):
                a = fma(spread(space[x + k]), load(space, matrix + k * rows + d), a)
            store(space, out + d, a)
        return
    for d in range(rows):
        for i in range(0, stride, LANES):
            a = load(space, start + d * stride + i) if start >= 0 else spread(_ZERO)
            for k in range(columns):
                entry = load(space, matrix + (k * rows + d) * stride + i)
                a = fma(entry, load(space, x + k * stride + i), a)
            store(space, out + d * stride + i, a)


@_jit
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


@_jit
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


@_jit
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


@_jit
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


@_jit
@no_type_check
def _limited(x, low, high):
    """What is not a number stays so."""
    return lesser(high, greater(low, x))


@_jit
@no_type_check
def _inner_product(space, a, b, scale, count, stride):
    """Of some registers of one environment, divided by squares; ``stride`` is from one to next."""
    result = _ZERO
    for k in range(0, count * stride, stride):
        result += space[a + k] * space[b + k] / (space[scale + k] * space[scale + k])
    return result


@_jit
@no_type_check
def _solve(space, p, x, n, stride):
    """x to P^-1 x in place, by Cholesky's factor, which takes the place of P's lower half."""
    down = n * stride
    for r in range(n):
        row = p + r * down
        for c in range(r + 1):
            rest, other = space[row + c * stride], p + c * down
            for k in range(0, c * stride, stride):
                rest -= space[row + k] * space[other + k]
            space[row + c * stride] = np.sqrt(rest) if r == c else rest / space[other + c * stride]
        for k in range(0, r * stride, stride):
            space[x + r * stride] -= space[row + k] * space[x + k]
        space[x + r * stride] /= space[row + r * stride]
    for r in range(n - 1, -1, -1):
        space[x + r * stride] /= space[p + r * down + r * stride]
        for k in range(r):
            space[x + k * stride] -= space[p + r * down + k * stride] * space[x + r * stride]


@_jit
@no_type_check
def fuse(space, gain, noise, pull, out, n, m, stride):
    """``Builder.fuse``, one environment after the other."""
    down = m * stride
    for i in range(stride):
        mean, scale, p, s = out + i, out + n * stride + i, out + 2 * n * stride + i, noise + i
        for r in range(n):
            row = gain + r * down + i
            space[mean + r * stride] = _inner_product(space, row, pull + i, s, m, stride)
            for c in range(r + 1):
                other = _inner_product(space, row, gain + c * down + i, s, m, stride)
                space[p + (r * n + c) * stride] = other + (_ONE if r == c else _ZERO)
        trace = _ZERO
        for r in range(n):
            trace += space[p + (r * n + r) * stride]
        for r in range(n):
            lifted = space[p + (r * n + r) * stride] + _LIFT * trace
            space[p + (r * n + r) * stride] = lifted
            space[scale + r * stride] = _ONE / np.sqrt(lifted)
        _solve(space, p, mean, n, stride)


@_jit
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


@_jit
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


@_jit
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
    elif op == Op.RELU:
        for i in range(0, count, LANES):
            store(space, out + i, greater(spread(_ZERO), load(space, a + i)))
    elif op == Op.SILU:
        for i in range(0, count, LANES):
            x = load(space, a + i)
            store(space, out + i, div(x, add(spread(_ONE), _exp(x, -_ONE))))
    elif op == Op.TANH:
        for i in range(0, count, LANES):
            x = load(space, a + i)
            tail = div(spread(_TWO), add(spread(_ONE), _exp(x, _TWO)))
            store(space, out + i, sub(spread(_ONE), tail))
    elif op == Op.SIGMOID:
        for i in range(0, count, LANES):
            e = _exp(load(space, a + i), -_ONE)
            store(space, out + i, div(spread(_ONE), add(spread(_ONE), e)))
    elif op == Op.SOFTPLUS:
        for i in range(0, count, LANES):
            store(space, out + i, _softplus(load(space, a + i)))
    elif op == Op.EXP:
        for i in range(0, count, LANES):
            store(space, out + i, _exp(load(space, a + i), _ONE))
    elif op == Op.LOG:
        for i in range(0, count, LANES):
            store(space, out + i, log(load(space, a + i)))
    elif op == Op.SQRT:
        for i in range(0, count, LANES):
            store(space, out + i, sqrt(load(space, a + i)))
