"""Exponentials of vectors, and what is made of them."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from worldmodel.world.kernels.options import kernel
from worldmodel.world.lanes import (
    add,
    div,
    fma,
    greater,
    lesser,
    mul,
    rounded,
    shifted,
    spread,
    sub,
)

_LEAST, _MOST = np.float32(-125), np.float32(127)
_PER_E = np.float32(1 / np.log(2))
# A polynomial through 2^r at Chebyshev's nodes: where |r| <= 1/2 it is off by 7e-8 of it.
_POWER = np.polynomial.Chebyshev.interpolate(np.exp2, 5, (-0.5, 0.5))
_C0, _C1, _C2, _C3, _C4, _C5 = map(np.float32, _POWER.convert(kind=np.polynomial.Polynomial).coef)
_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)


@kernel
@no_type_check
def exp(x, sign):
    """Of sign x: a polynomial, times a power of two by the bits of the exponent."""
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


@kernel
@no_type_check
def softplus(x):
    """max(x, 0) + ln(1 + t), t = exp(-|x|), by the area tangent of s = t / (2 + t) <= 1/3."""
    zero = spread(_ZERO)
    above = greater(zero, x)
    # NaN is kept by what is above.
    t = exp(greater(x, sub(zero, x)), -_ONE)
    s = div(t, add(t, spread(_TWO)))
    q = mul(s, s)
    rest = fma(q, spread(np.float32(1 / 13)), spread(np.float32(1 / 11)))
    rest = fma(q, rest, spread(np.float32(1 / 9)))
    rest = fma(q, rest, spread(np.float32(1 / 7)))
    rest = fma(q, rest, spread(np.float32(1 / 5)))
    rest = fma(q, rest, spread(np.float32(1 / 3)))
    rest = fma(q, rest, spread(_ONE))
    return fma(mul(spread(_TWO), s), rest, above)
