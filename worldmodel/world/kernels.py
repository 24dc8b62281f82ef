"""The interpreter of ``models/program.py``, compiled: each instruction is one pass over registers.

A program runs on a block of environments whose registers fit the nearest cache. Register r of
environment i is ``space[r * stride + i]``: neighbouring environments are neighbours in memory, in
blocks of whole vectors. With a stride of one there is a single environment, and the vectors run over
its registers instead; the last of them goes on into room that is left behind every range.

Nothing of this knows a model. ``compiled.py`` alone imports it, for it needs numba (extra
``fast``).
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from worldmodel.models.program import PANEL, Op
from worldmodel.world.compiled import DIVERGED, OUTSIDE, REFUSED, TERMINATED
from worldmodel.world.lanes import (
    LANES,
    add,
    all_reach,
    any_reaches,
    choose,
    div,
    floor,
    fma,
    get,
    greater,
    greatest,
    head,
    lesser,
    load,
    mul,
    power_of_two,
    put,
    spread,
    sqrt,
    store,
    sub,
    total,
)

# Environments per block, and what their number is rounded up to: two vectors.
BLOCK, PAIR = 64, 2 * LANES
# Panels of points that all environments are compared with at once.
_FEW = 4
# All that may be assumed of numbers, but not that they are finite: divergence must show.
_FAST = {"contract", "reassoc", "nsz", "arcp"}
_ZERO, _ONE, _TWO, _INF = np.float32(0), np.float32(1), np.float32(2), np.float32(np.inf)
_HALF, _LEAST, _MOST = np.float32(0.5), np.float32(-126), np.float32(127)
_PER_E = np.float32(1 / np.log(2))
# Taylor coefficients of 2^r, enough for 32 bits where |r| <= 1/2.
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(np.log(2) ** k / np.prod(np.arange(1.0, k + 1))) for k in range(7)
)


@no_type_check
def _jit(function):
    """Compiled when it is first called, and kept on disk if there is a place to keep it."""
    options = {"fastmath": _FAST, "error_model": "numpy", "nogil": True}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        # Neither the package's folder nor the user's cache can be written to.
        return njit(**options)(function)


# Shape checkers must not come between numba and a function: hence no_type_check on all of them.
@_jit
@no_type_check
def _exp(x):
    """exp(x): a power of two by the exponent's bits, times a polynomial for the rest."""
    power = mul(spread(_PER_E), x)
    power = greater(spread(_LEAST), lesser(spread(_MOST), power))
    whole = floor(add(power, spread(_HALF)))
    r = sub(power, whole)
    rest = fma(r, spread(_C6), spread(_C5))
    rest = fma(r, rest, spread(_C4))
    rest = fma(r, rest, spread(_C3))
    rest = fma(r, rest, spread(_C2))
    rest = fma(r, rest, spread(_C1))
    rest = fma(r, rest, spread(_C0))
    return mul(rest, power_of_two(whole))


@_jit
@no_type_check
def _sigmoid(x):
    one = spread(_ONE)
    return div(one, add(one, _exp(sub(spread(_ZERO), x))))


@_jit
@no_type_check
def _softplus(x):
    """max(x, 0) + ln(1 + t), t = exp(-|x|), by the area tangent of s = t / (2 + t) <= 1/3."""
    zero = spread(_ZERO)
    above = greater(zero, x)
    # NaN is kept by what is above.
    t = _exp(sub(zero, greater(x, sub(zero, x))))
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
def _linear_one(weights, w, columns, space, x, out, rows, relu):
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
def _linear(weights, w, columns, space, x, out, rows, stride, relu):
    """A matrix times the registers of many environments, four rows of it at a time."""
    zero = spread(_ZERO)
    panel = (columns + 1) * PANEL
    fours = rows - rows % 4
    for row in range(0, fours, 4):
        begin, width = (
            w + row // PANEL * panel + row % PANEL,
            min(PANEL, rows - row // PANEL * PANEL),
        )
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
    for row in range(fours, rows):
        begin, width = w + row // PANEL * panel + row % PANEL, rows - row // PANEL * PANEL
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
def _softmax_one(space, x, out, rows):
    best, whole = spread(-_INF), _ZERO
    for k in range(0, rows, LANES):
        best = greater(head(load(space, x + k), rows - k, -_INF), best)
    best = spread(greatest(best))
    for k in range(0, rows, LANES):
        e = head(_exp(sub(load(space, x + k), best)), rows - k, _ZERO)
        store(space, out + k, e)
        whole += total(e)
    each = spread(_ONE / whole)
    for k in range(0, rows, LANES):
        store(space, out + k, mul(load(space, out + k), each))


@_jit
@no_type_check
def _softmax(space, x, out, rows, stride):
    for i in range(0, stride, LANES):
        best = load(space, x + i)
        for k in range(1, rows):
            best = greater(load(space, x + k * stride + i), best)
        whole = spread(_ZERO)
        for k in range(rows):
            e = _exp(sub(load(space, x + k * stride + i), best))
            store(space, out + k * stride + i, e)
            whole = add(whole, e)
        each = div(spread(_ONE), whole)
        for k in range(rows):
            y = out + k * stride + i
            store(space, y, mul(load(space, y), each))


@_jit
@no_type_check
def _contract(space, matrix, x, start, out, rows, columns, stride):
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
def _nearest(weights, w, panels, space, x, size, out, stride):
    """For a pair of vectors of environments at a time, four points at a time.

    The first few panels decide nearly all; who is left searches the others alone.
    """
    if stride == 1:
        space[out] = _search(weights, w, panels, space, x, size, 1)
        return
    for i in range(0, stride, PAIR):
        square, squares = spread(_ZERO), spread(_ZERO)
        for k in range(size):
            y, z = load(space, x + k * stride + i), load(space, x + k * stride + i + LANES)
            square, squares = fma(y, y, square), fma(z, z, squares)
        enough = mul(spread(_HALF), sub(square, spread(_ONE)))
        enoughs = mul(spread(_HALF), sub(squares, spread(_ONE)))
        best, bests, u = spread(-_INF), spread(-_INF), w
        for _ in range(min(panels, _FEW)):
            for j in range(u, u + PANEL, 4):
                a0, b0 = spread(weights[j]), spread(weights[j + 1])
                c0, d0 = spread(weights[j + 2]), spread(weights[j + 3])
                a1, b1, c1, d1 = a0, b0, c0, d0
                v, y = j, x + i
                for _ in range(size):
                    v += PANEL
                    s, t = load(space, y), load(space, y + LANES)
                    y += stride
                    a, b = spread(weights[v]), spread(weights[v + 1])
                    c, d = spread(weights[v + 2]), spread(weights[v + 3])
                    a0, b0, c0, d0 = fma(a, s, a0), fma(b, s, b0), fma(c, s, c0), fma(d, s, d0)
                    a1, b1, c1, d1 = fma(a, t, a1), fma(b, t, b1), fma(c, t, c1), fma(d, t, d1)
                best = greater(greater(greater(a0, b0), greater(c0, d0)), best)
                bests = greater(greater(greater(a1, b1), greater(c1, d1)), bests)
            if all_reach(best, enough) and all_reach(bests, enoughs):
                break
            u += PANEL * (size + 1)
        store(space, out + i, sub(square, add(best, best)))
        store(space, out + i + LANES, sub(squares, add(bests, bests)))
        if panels > _FEW and not (all_reach(best, enough) and all_reach(bests, enoughs)):
            for j in range(i, i + PAIR):
                if not space[out + j] <= _ONE:
                    other = _search(weights, u, panels - _FEW, space, x + j, size, stride)
                    space[out + j] = other if other < space[out + j] else space[out + j]


@_jit
@no_type_check
def _normalise(weights, w, space, x, out, rows, stride):
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
def _scale_or_clamp(scale, weights, w, space, a, out, rows, stride):
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
def _select(space, distance, near, far, out, rows, stride):
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
def _each(op, space, a, b, out, count):
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
            store(space, out + i, mul(x, _sigmoid(x)))
    elif op == Op.TANH:
        for i in range(0, count, LANES):
            x = load(space, a + i)
            half = _sigmoid(add(x, x))
            store(space, out + i, sub(add(half, half), spread(_ONE)))
    elif op == Op.SIGMOID:
        for i in range(0, count, LANES):
            store(space, out + i, _sigmoid(load(space, a + i)))
    elif op == Op.SOFTPLUS:
        for i in range(0, count, LANES):
            store(space, out + i, _softplus(load(space, a + i)))
    elif op == Op.SQRT:
        for i in range(0, count, LANES):
            store(space, out + i, sqrt(load(space, a + i)))


@_jit
@no_type_check
def execute(code, weights, space, stride):
    """Run a program on one block of environments."""
    for i in range(code.shape[0]):
        op, rows, size = code[i, 0], code[i, 2], code[i, 4]
        out, a = code[i, 1] * stride, code[i, 3] * stride
        b, c = code[i, 5] * stride, code[i, 6] * stride
        w = code[i, 8]
        if op == Op.LINEAR or op == Op.LINEAR_RELU:
            relu = op == Op.LINEAR_RELU
            if stride == 1:
                _linear_one(weights, w, size, space, a, out, rows, relu)
            else:
                _linear(weights, w, size, space, a, out, rows, stride, relu)
        elif op == Op.AFFINE or op == Op.CLAMP:
            _scale_or_clamp(op == Op.AFFINE, weights, w, space, a, out, rows, stride)
        elif op == Op.SELECT:
            _select(space, a, b, c, out, rows, stride)
        elif op == Op.SOFTMAX:
            if stride == 1:
                _softmax_one(space, a, out, rows)
            else:
                _softmax(space, a, out, rows, stride)
        elif op == Op.CONTRACT:
            _contract(space, a, b, c, out, rows, code[i, 7], stride)
        elif op == Op.NEAREST:
            _nearest(weights, w, code[i, 7], space, a, size, out, stride)
        elif op == Op.NORMALISE:
            _normalise(weights, w, space, a, out, rows, stride)
        else:
            _each(op, space, a, b, out, rows * stride)


@_jit
@no_type_check
def step_one(code, weights, ports, space, draw):
    """One step of a single dream; ``compiled.py`` makes the arguments.

    Args:
        code: The program's.
        weights: The program's, and then the bounds of actions and observations.
        ports: Where in ``space`` and ``weights`` things are.
        space: Registers; and then the clipped observation, draws of noise, and spare ones. The
            action is among its inputs already. The state becomes the next one, if all is well.
        draw: Which draw of noise to take; -1 for none.

    Returns:
        The reward, and what there is to say beside it.
    """
    latent, act, draws, state, action, noise, following, reward, distance, logit = ports[:10]
    bounds, box, seen, drawn = ports[10:]
    for k in range(act):
        value = space[action + k]
        if not np.isfinite(value):
            return _ZERO, REFUSED
        value = max(value, weights[bounds + k])
        space[action + k] = min(value, weights[bounds + act + k])
    for k in range(draws):
        space[noise + k] = space[drawn + draw * draws + k] if draw >= 0 else _ZERO
    execute(code, weights, space, 1)
    pay = space[reward]
    finite = pay * _ZERO
    for k in range(latent):
        finite += space[following + k] * _ZERO
    if finite != _ZERO:
        return pay, DIVERGED
    for k in range(latent):
        value = space[following + k]
        space[state + k] = value
        space[seen + k] = min(max(value, weights[box + k]), weights[box + latent + k])
    status = 0 if space[distance] <= _ONE else OUTSIDE
    if logit >= 0 and space[logit] > _ZERO:
        status |= TERMINATED
    return pay, status


@_jit
@no_type_check
def step_many(
    code, weights, ports, space, states, actions, noise, out, observations, rewards, flags
):
    """The same for many dreams at once, from ``states`` (latent, n) into the last four.

    Args:
        code: As above.
        weights: As above.
        ports: As above.
        space: Registers for one block, and spare ones.
        states: Where the dreams are.
        actions: (n, act).
        noise: (noise, n); (noise, 0) for none.
        out: Next states (latent, n).
        observations: (n, latent), clipped.
        rewards: (n,).
        flags: (2, n) bool: terminated, outside.

    Returns:
        What is to be said of any of them.
    """
    latent, act, draws, state, action, noise_at, following, reward, distance, logit = ports[:10]
    bounds, box = ports[10], ports[11]
    count = states.shape[1]
    finite, given, ended, left = _ZERO, _ZERO, False, False
    for begin in range(0, count, BLOCK):
        n = min(BLOCK, count - begin)
        stride = n + -n % PAIR
        for k in range(latent):
            x, y = (state + k) * stride, k * count + begin
            for i in range(n):
                put(space, x + i, get(states, y + i))
        for k in range(act):
            low, high = weights[bounds + k], weights[bounds + act + k]
            x, y = (action + k) * stride, begin * act + k
            for i in range(n):
                value = get(actions, y + i * act)
                given += value * _ZERO
                value = low if value < low else value
                put(space, x + i, high if value > high else value)
        for k in range(draws):
            x, y = (noise_at + k) * stride, k * count + begin
            for i in range(n):
                put(space, x + i, get(noise, y + i) if noise.size else _ZERO)
        execute(code, weights, space, stride)
        x, y, z = reward * stride, distance * stride, logit * stride
        for i in range(n):
            pay = get(space, x + i)
            finite += pay * _ZERO
            put(rewards, begin + i, pay)
        for i in range(n):
            ends = logit >= 0 and get(space, z + i) > _ZERO
            ended |= ends
            put(flags, begin + i, ends)
        for i in range(n):
            is_out = not get(space, y + i) <= _ONE
            left |= is_out
            put(flags, count + begin + i, is_out)
        for k in range(latent):
            low, high = weights[box + k], weights[box + latent + k]
            x, y, z = (following + k) * stride, k * count + begin, begin * latent + k
            for i in range(n):
                value = get(space, x + i)
                finite += value * _ZERO
                put(out, y + i, value)
            for i in range(n):
                value = get(space, x + i)
                value = low if value < low else value
                put(observations, z + i * latent, high if value > high else value)
    wrong = (REFUSED if given != _ZERO else 0) | (DIVERGED if finite != _ZERO else 0)
    return wrong | (TERMINATED if ended else 0) | (OUTSIDE if left else 0)
