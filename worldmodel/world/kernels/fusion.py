"""Kalman's corrections, by Cholesky's factor; ``models/fusion.py`` says of what."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from worldmodel.models.fusion import LIFT
from worldmodel.world.kernels.options import kernel

_LIFT = np.float32(LIFT)
_ZERO = np.float32(0)


@kernel
@no_type_check
def _decompose(space, p, n, stride):
    """The lower half of a symmetric matrix to its Cholesky factor, in place."""
    down = n * stride
    for r in range(n):
        row = p + r * down
        for c in range(r + 1):
            rest, other = space[row + c * stride], p + c * down
            for k in range(0, c * stride, stride):
                rest -= space[row + k] * space[other + k]
            space[row + c * stride] = np.sqrt(rest) if r == c else rest / space[other + c * stride]


@kernel
@no_type_check
def _forward(space, p, x, n, stride):
    """x to L^-1 x in place, of the factor that ``_decompose`` left."""
    down = n * stride
    for r in range(n):
        rest = space[x + r * stride]
        for k in range(0, r * stride, stride):
            rest -= space[p + r * down + k] * space[x + k]
        space[x + r * stride] = rest / space[p + r * down + r * stride]


@kernel
@no_type_check
def correct(space, spread, noise, pull, out, n, m, stride):
    """``Builder.correct``, one environment after the other."""
    down = m * stride
    for i in range(stride):
        mean, left, x = out + i, out + down + i, out + 2 * down + i
        before, p = out + 3 * down + i, out + (3 + m) * down + i
        trace = _ZERO
        for r in range(m):
            for c in range(r + 1):
                total = _ZERO
                for k in range(0, n * down, down):
                    row = spread + k + i
                    total += space[row + r * stride] * space[row + c * stride]
                space[before + r * down + c * stride] = total
                space[before + c * down + r * stride] = total
                space[p + r * down + c * stride] = total
            scale = space[noise + i + r * stride]
            space[p + r * down + r * stride] += scale * scale
            trace += space[p + r * down + r * stride]
        for r in range(m):
            space[p + r * down + r * stride] += _LIFT * trace
            space[x + r * stride] = space[pull + i + r * stride]
        _decompose(space, p, m, stride)
        _forward(space, p, x, m, stride)
        # With L L' = C and half = L^-1 P: P C^-1 pull = half' L^-1 pull, P C^-1 P = half' half.
        for r in range(m):
            half, variance = before + r * down, space[before + r * down + r * stride]
            _forward(space, p, half, m, stride)
            moved, known = _ZERO, _ZERO
            for k in range(0, down, stride):
                moved += space[half + k] * space[x + k]
                known += space[half + k] * space[half + k]
            space[mean + r * stride] = moved
            space[left + r * stride] = np.sqrt(max(variance - known, _LIFT * variance))
