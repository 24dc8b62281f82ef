"""Corrections of beliefs, by Cholesky's factor.

``models/fusion.py`` and ``models/refinement.py`` say of what.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from worldmodel.models.fusion import LIFT
from worldmodel.world.kernels.options import kernel

_LIFT = np.float32(LIFT)
_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)


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
def _backward(space, p, x, n, stride):
    """x to L'^-1 x in place."""
    down = n * stride
    for r in range(n - 1, -1, -1):
        rest = space[x + r * stride]
        for k in range(r + 1, n):
            rest -= space[p + k * down + r * stride] * space[x + k * stride]
        space[x + r * stride] = rest / space[p + r * down + r * stride]


@kernel
@no_type_check
def _covariance(space, spread, out, n, m, stride):
    """The lower half of G' G, of G (n, m)."""
    down = m * stride
    for r in range(m):
        for c in range(r + 1):
            total = _ZERO
            for row in range(spread, spread + n * down, down):
                total += space[row + r * stride] * space[row + c * stride]
            space[out + r * down + c * stride] = total


@kernel
@no_type_check
def correct(space, spread, noise, pull, out, n, m, stride):
    """``Builder.correct``, one environment after the other."""
    down = m * stride
    for i in range(stride):
        mean, left, x = out + i, out + down + i, out + 2 * down + i
        before, p = out + 3 * down + i, out + (3 + m) * down + i
        trace = _ZERO
        _covariance(space, spread + i, before, n, m, stride)
        for r in range(m):
            for c in range(r + 1):
                total = space[before + r * down + c * stride]
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


@kernel
@no_type_check
def refine(space, spread, facts, out, n, m, stride):  # noqa: C901 (products of small matrices)
    """``Builder.refine``, one environment after the other."""
    down = m * stride
    for i in range(stride):
        step, left, change = out + i, out + down + i, out + 2 * down + i
        place, pulled, x = change + stride, change + stride + down, change + stride + 2 * down
        unit = x + down
        product, p = unit + m * down, unit + 2 * m * down
        scale, pull = facts + i, facts + down + i
        apart, told = facts + 2 * down + i, facts + 3 * down + i
        # L of the prediction's covariance, lifted.
        trace = _ZERO
        _covariance(space, spread + i, unit, n, m, stride)
        for r in range(m):
            trace += space[unit + r * down + r * stride]
        for r in range(m):
            space[unit + r * down + r * stride] += _LIFT * trace
            space[place + r * stride] = space[apart + r * stride]
        _decompose(space, unit, m, stride)
        _forward(space, unit, place, m, stride)
        # M L, and what the state is pulled by.
        for r in range(m):
            row, deviation = told + r * (down + stride), space[scale + r * stride]
            sharp = _ONE / (deviation * deviation)
            for c in range(m):
                total = sharp * space[unit + r * down + c * stride] if c <= r else _ZERO
                for k in range(c, m):
                    total += space[row + k * stride] * space[unit + k * down + c * stride]
                space[product + r * down + c * stride] = total
            space[pulled + r * stride] = space[row + down] + sharp * space[pull + r * stride]
        for r in range(m):
            for c in range(r + 1):
                total = _ONE if r == c else _ZERO
                for k in range(r, m):
                    total += (
                        space[unit + k * down + r * stride] * space[product + k * down + c * stride]
                    )
                space[p + r * down + c * stride] = total
            total = -space[place + r * stride]
            for k in range(r, m):
                total += space[unit + k * down + r * stride] * space[pulled + k * stride]
            space[x + r * stride] = total
        _decompose(space, p, m, stride)
        _forward(space, p, x, m, stride)
        _backward(space, p, x, m, stride)
        grown = _ZERO
        for r in range(m):
            moved, deviation = _ZERO, space[scale + r * stride]
            for k in range(r + 1):
                moved += space[unit + r * down + k * stride] * space[x + k * stride]
            space[step + r * stride] = moved
            by = space[x + r * stride]
            grown += (_TWO * space[place + r * stride] + by) * by
            grown += moved * (moved - _TWO * space[pull + r * stride]) / (deviation * deviation)
        space[change] = grown
        # The rows of L by the factor: what is left of the prediction's spread.
        for r in range(m):
            for k in range(m):
                space[x + k * stride] = space[unit + r * down + k * stride] if k <= r else _ZERO
            _forward(space, p, x, m, stride)
            total = _ZERO
            for k in range(m):
                total += space[x + k * stride] * space[x + k * stride]
            space[left + r * stride] = np.sqrt(total)
