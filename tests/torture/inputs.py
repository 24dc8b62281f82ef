"""Whatever somebody may hand over, by mistake or not: drawn by hypothesis, and varied cheaply."""

from __future__ import annotations

import datetime
import decimal
import fractions
import random
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

DTYPES = [np.dtype(name) for name in ("f4", "f8", "i8", "u1", "?", "c8", "U3", "M8[s]")]
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda dtype: npst.arrays(dtype, SHAPES))
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-1000, 1000), st.floats(), st.text(max_size=5)
)
ANYTHING = st.one_of(
    ARRAYS,
    st.recursive(
        PLAIN,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
        max_leaves=6,
    ),
)

_OTHERS = [np.dtype(name) for name in ("f2", "g", "i1", "u8", ">f4", "O", "S2", "m8[D]", "c16")]
_NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.5, np.nan, np.inf, -np.inf, 1e-45, 1e-300, 3e38, -3e38, 1e300]
_NUMBERS += [255, 256, -1, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 10**400]
_ODD = [
    None,
    True,
    "",
    "nan",
    "1.5",
    "\0",
    b"\x00\xff",
    1j,
    complex(np.nan, 1),
    decimal.Decimal("sNaN"),
    decimal.Decimal("1e999"),
    fractions.Fraction(1, 3),
    datetime.date(2020, 2, 29),
    range(3),
    {1, 2},
    object(),
    type,
    len,
    Ellipsis,
    slice(None),
    np.float16(6e4),
    np.longdouble("1e4000"),
    np.datetime64("NaT"),
    np.ma.masked,
    np.ma.masked_invalid([1.0, np.nan]),
    np.zeros(2, [("a", "f4"), ("b", "i2")]),
    np.zeros((), "O"),
    memoryview(b"1234"),
    torch.zeros(3, requires_grad=True),
    torch.full((2,), torch.nan),
    torch.zeros(2, 3, dtype=torch.bfloat16),
    torch.zeros((), dtype=torch.complex64),
    torch.zeros(1, 2, device="meta"),
]


def varied(value: Any, rng: random.Random) -> Any:
    """Something like it: of another type, size or shape, with a part replaced, or wrapped."""
    turn = rng.random()
    if turn < 0.06:
        return rng.choice(_ODD)
    if turn < 0.12:
        return [value] if turn < 0.09 else {"": value}
    if isinstance(value, np.ndarray):
        return _array(value, rng)
    if isinstance(value, dict | list | tuple) and len(value):
        return _container(value, rng)
    if isinstance(value, str):
        return value + rng.choice(["x", "\0", ".", " "]) if turn < 0.5 else rng.choice(_ODD)
    if isinstance(value, bytes):
        return rng.randbytes(rng.randrange(9))
    if isinstance(value, int) and not isinstance(value, bool) and turn < 0.6:
        return rng.choice([rng.getrandbits(32), value + 1, -value, float(value)])
    if turn < 0.7:
        return rng.choice(_NUMBERS)
    return _made(rng)


def _container(value: dict | list | tuple, rng: random.Random) -> dict | list | tuple:
    """With one part varied, left out or added."""
    turn = rng.random()
    if isinstance(value, dict):
        place, changed = rng.choice(list(value)), dict(value)
        if turn < 0.7:
            changed[place] = varied(value[place], rng)
        elif turn < 0.85:
            del changed[place]
        else:
            changed[rng.choice([str(place) + "x", 0, None, ""])] = value[place]
        return changed
    place, parts = rng.randrange(len(value)), list(value)
    if turn < 0.7:
        parts[place] = varied(value[place], rng)
    elif turn < 0.85:
        del parts[place]
    else:
        parts += [parts[place]] * rng.randrange(1, 4)
    return type(value)(parts)


def _array(value: np.ndarray, rng: random.Random) -> Any:
    """Of another type, shape or order, or with other numbers in it."""
    turn = rng.random()
    if turn < 0.4 and value.size and value.dtype.kind in "fiub":
        changed = value.copy()
        with np.errstate(all="ignore"):
            number = rng.choice(_NUMBERS)
            if value.dtype.kind != "f":
                number = rng.choice([0, 1, 2, 3, 100])
            changed.flat[rng.randrange(value.size)] = _into(number, value.dtype)
        return changed
    if turn < 0.5 and value.dtype.kind == "f":
        with np.errstate(all="ignore"):
            factors = [1e-9, 1e6, -1, 1e30, 1e-40]
            return (value * np.asarray(rng.choice(factors), value.dtype)).astype(value.dtype)
    if turn < 0.65:
        return _cast(value, rng.choice(DTYPES + _OTHERS))
    if turn < 0.8:
        return rng.choice(_SHAPED)(np.atleast_1d(value) if turn < 0.7 else value)
    if turn < 0.86:
        return value.tolist()
    if turn < 0.9 and value.dtype.kind in "fiub":
        return torch.tensor(value) if value.dtype in TORCH else value
    if turn < 0.93:
        locked = value.copy()
        locked.flags.writeable = False
        return locked
    return _made(rng)


_SHAPED = [
    lambda value: value[None],
    lambda value: value[..., None],
    np.ravel,
    np.transpose,
    np.squeeze,
    lambda value: np.stack([value, value]),
    lambda value: value[:0] if value.ndim else value,
    lambda value: value[..., ::-1] if value.ndim else value,
    lambda value: value[..., :1] if value.ndim else value,
    lambda value: np.repeat(value, 2),
]
TORCH = [np.dtype(name) for name in ("f4", "f8", "i8", "u1", "?")]


def _into(number: float, dtype: np.dtype) -> Any:
    """As large as a type can hold."""
    if dtype.kind == "f":
        return dtype.type(float(number)) if abs(number) < 1e308 or number != number else np.inf
    return dtype.type(number)


def _cast(value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Of another type where there is a way."""
    value = value.real if value.dtype.kind == "c" and dtype.kind != "c" else value
    try:
        with np.errstate(all="ignore"):
            return value.astype(dtype)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return np.zeros(value.shape, dtype)


def _made(rng: random.Random) -> np.ndarray:
    """Noise of any usual type and of a few axes."""
    shape = tuple(rng.choice([0, 1, 1, 2, 2, 3, 3, 4, 8]) for _ in range(rng.randrange(5)))
    dtype = rng.choice(DTYPES[:5])
    noise = np.frombuffer(rng.randbytes(int(np.prod(shape)) * dtype.itemsize), np.uint8)
    if dtype.kind == "f" and rng.random() < 0.7:  # else mostly enormous numbers and NaN
        return np.random.default_rng(rng.getrandbits(32)).normal(size=shape).astype(dtype)
    if dtype.kind == "b":
        return (noise % 2).astype(bool).reshape(shape)
    return noise.view(dtype).reshape(shape)
