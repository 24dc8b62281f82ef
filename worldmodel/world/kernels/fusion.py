"""Posteriors of noise, by Cholesky's factor; ``models/fusion.py`` says of what."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from worldmodel.models.fusion import LIFT
from worldmodel.world.kernels.options import kernel

_LIFT = np.float32(LIFT)
_ZERO, _ONE = np.float32(0), np.float32(1)


@kernel
@no_type_check
def _inner_product(space, a, b, scale, count, stride):
    """Of some registers of one environment, divided by squares; ``stride`` is from one to next."""
    result = _ZERO
    for k in range(0, count * stride, stride):
        result += space[a + k] * space[b + k] / (space[scale + k] * space[scale + k])
    return result


@kernel
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


@kernel
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
