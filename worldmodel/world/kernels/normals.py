"""Standard normal numbers: xoshiro128++ (Blackman and Vigna 2021), and Box and Muller's transform.

Each lane is a generator of its own, whose words the caller has drawn.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from worldmodel.world.kernels.options import PAIR, kernel
from worldmodel.world.lanes import (
    INTS,
    LANES,
    VECTOR,
    Vector,
    fma,
    mul,
    shifted,
    spread,
    sqrt,
    store,
    sub,
)

_ZERO, _HALF, _ONE = map(np.float32, (0, 0.5, 1))
_MINUS_TWO_LN_2 = np.float32(-2 * np.log(2))
_ROOT = int(np.float32(np.sqrt(0.5)).view(np.int32))


def _fitted(function: Any, degree: int, low: float, high: float) -> tuple[np.float32, ...]:
    """Coefficients, the highest first, of a polynomial through Chebyshev's nodes."""
    found = np.polynomial.Chebyshev.interpolate(function, degree, (low, high))
    coefficients = found.convert(kind=np.polynomial.Polynomial).coef[::-1]
    return tuple(np.float32(number) for number in coefficients)


# -2 ln(1 + t) / t; and of the square of q, sin(2 pi q) / q and cos(2 pi q): off by 5e-7 at most.
_LOG = _fitted(lambda t: -2 * np.log1p(t) / t, 7, 0.5**0.5 - 1, 2**0.5 - 1)
_SIN = _fitted(lambda s: np.sin(2 * np.pi * np.sqrt(s)) / np.sqrt(s), 5, 0.0, 0.25)
_COS = _fitted(lambda s: np.cos(2 * np.pi * np.sqrt(s)), 6, 0.0, 0.25)


def _all(number: int) -> Any:
    return ir.Constant(INTS, [number] * LANES)


@intrinsic
@no_type_check
def _uniform(typing, state):
    """Of each lane its next number, in (0, 1]; ``state`` (64,), ``uint32``, goes on."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        whole = builder.bitcast(data, INTS.as_pointer())
        places = [builder.gep(whole, [ir.Constant(ir.IntType(64), k)]) for k in range(4)]
        a, b, c, d = words = [builder.load(place) for place in places]
        for word in words:
            word.align = 4

        def turned(word, by):
            high = builder.shl(word, _all(by))
            return builder.or_(high, builder.lshr(word, _all(32 - by)))

        result = builder.add(turned(builder.add(a, d), 7), a)
        moved = builder.shl(b, _all(9))
        c, d = builder.xor(c, a), builder.xor(d, b)
        b, a = builder.xor(b, c), builder.xor(a, d)
        c, d = builder.xor(c, moved), turned(d, 11)
        for word, place in zip((a, b, c, d), places, strict=True):
            builder.store(word, place).align = 4
        number = builder.sitofp(builder.lshr(result, _all(8)), VECTOR)
        middle = builder.fadd(number, ir.Constant(VECTOR, [0.5] * LANES))
        return builder.fmul(middle, ir.Constant(VECTOR, [2.0**-24] * LANES))

    return Vector()(state), generate


@intrinsic
@no_type_check
def _exponent(typing, a):
    """The power of two that leaves of a what lies between the roots of a half and of two."""

    def generate(context, builder, signature, args):
        bits = builder.sub(builder.bitcast(args[0], INTS), _all(_ROOT))
        return builder.sitofp(builder.ashr(bits, _all(23)), VECTOR)

    return Vector()(a), generate


@kernel
@no_type_check
def _polynomial(x, coefficients):
    value = spread(coefficients[0])
    for k in range(1, len(coefficients)):
        value = fma(value, x, spread(coefficients[k]))
    return value


@kernel
@no_type_check
def fill(state, out):
    """Fill ``out``, (a multiple of PAIR,), from ``state`` (64,), ``uint32``, which goes on."""
    zero, one, half = spread(_ZERO), spread(_ONE), spread(_HALF)
    for i in range(0, out.size, PAIR):
        u, q = _uniform(state), sub(_uniform(state), half)
        power = _exponent(u)
        t = sub(shifted(u, sub(zero, power)), one)
        rest = mul(t, _polynomial(t, _LOG))
        radius = sqrt(fma(power, spread(_MINUS_TWO_LN_2), rest))
        s = mul(q, q)
        store(out, i, mul(radius, mul(q, _polynomial(s, _SIN))))
        store(out, i + LANES, mul(radius, _polynomial(s, _COS)))
