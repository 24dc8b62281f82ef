"""Vectors of sixteen numbers for compiled code, which loops over arrays leave to luck.

With them a product of small matrices keeps its sums in the processor's vector registers, which
makes it two to four times as fast as loops that the compiler vectorises. Sixteen 32-bit numbers are
one AVX-512 register, two of AVX2 and four of NEON.

Only ``kernels`` and ``interpreter.py`` import this, for it needs numba (extra ``fast``).
"""

from __future__ import annotations

from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import load_item, store_item

LANES = 16
_INT = ir.IntType(32)
VECTOR = ir.VectorType(ir.FloatType(), LANES)
INTS = ir.VectorType(_INT, LANES)


class Vector(types.Type):
    """Numba's type of such a vector."""

    def __init__(self) -> None:
        super().__init__(name="Vector")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, VECTOR)


_vector = Vector()


def _flat(array: Any) -> bool:
    """Raise unless neighbours in memory are neighbours in the array."""
    if array.layout != "C":
        raise TypingError(f"expected a contiguous array, got {array}")
    return True


def _place(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), VECTOR.as_pointer())


def _spread(builder: Any, number: Any) -> Any:
    nothing = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(INTS, [0] * LANES))


def _call(builder: Any, name: str, *args: Any) -> Any:
    kind = ir.FunctionType(VECTOR, [VECTOR] * len(args))
    function = get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")
    return builder.call(function, args)


@intrinsic
@no_type_check
def load(typing, array, index):
    """Sixteen neighbours of a flat array."""

    def generate(context, builder, signature, args):
        value = builder.load(_place(context, builder, signature.args[0], *args))
        value.align = 4
        return value

    return _flat(array) and _vector(array, types.intp), generate


@intrinsic
@no_type_check
def store(typing, array, index, value):
    """Write sixteen neighbours of a flat array."""

    def generate(context, builder, signature, args):
        place = _place(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], place).align = 4
        return context.get_dummy_value()

    return _flat(array) and types.void(array, types.intp, value), generate


@intrinsic
@no_type_check
def get(typing, array, index):
    """One number of an array as if it were flat, never counted from its end."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return load_item(context, builder, signature.args[0], builder.gep(data, [args[1]]))

    return _flat(array) and array.dtype(array, types.intp), generate


@intrinsic
@no_type_check
def put(typing, array, index, value):
    """Write one number; see ``get``."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        store_item(context, builder, signature.args[0], args[2], builder.gep(data, [args[1]]))
        return context.get_dummy_value()

    return _flat(array) and types.void(array, types.intp, array.dtype), generate


@intrinsic
@no_type_check
def spread(typing, number):
    """The same number sixteen times."""

    def generate(context, builder, signature, args):
        return _spread(builder, args[0])

    return _vector(types.float32), generate


@intrinsic
@no_type_check
def spread_at(typing, array, index):
    """A number of a flat array sixteen times; the index is never counted from its end."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return _spread(builder, builder.load(builder.gep(data, [args[1]])))

    return _flat(array) and _vector(array, types.intp), generate


@intrinsic
@no_type_check
def fma(typing, a, b, c):
    """a b + c."""

    def generate(context, builder, signature, args):
        return _call(builder, "fmuladd", *args)

    return _vector(a, b, c), generate


@intrinsic
@no_type_check
def add(typing, a, b):
    """a + b."""

    def generate(context, builder, signature, args):
        return builder.fadd(*args)

    return _vector(a, b), generate


@intrinsic
@no_type_check
def sub(typing, a, b):
    """a - b."""

    def generate(context, builder, signature, args):
        return builder.fsub(*args)

    return _vector(a, b), generate


@intrinsic
@no_type_check
def mul(typing, a, b):
    """a b."""

    def generate(context, builder, signature, args):
        return builder.fmul(*args)

    return _vector(a, b), generate


@intrinsic
@no_type_check
def div(typing, a, b):
    """a / b."""

    def generate(context, builder, signature, args):
        return builder.fdiv(*args)

    return _vector(a, b), generate


@intrinsic
@no_type_check
def greater(typing, a, b):
    """The greater of a and b; b if one is not a number."""

    def generate(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return _vector(a, b), generate


@intrinsic
@no_type_check
def lesser(typing, a, b):
    """The lesser of a and b; b if one is not a number."""

    def generate(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return _vector(a, b), generate


@intrinsic
@no_type_check
def maximum(typing, a, b):
    """The greater ones; what is not a number stays so, in either."""

    def generate(context, builder, signature, args):
        return _call(builder, "maximum", *args)

    return _vector(a, b), generate


@intrinsic
@no_type_check
def rounded(typing, a):
    """The nearest whole number."""

    def generate(context, builder, signature, args):
        return _call(builder, "rint", *args)

    return _vector(a), generate


@intrinsic
@no_type_check
def sqrt(typing, a):
    """Square root of a."""

    def generate(context, builder, signature, args):
        return _call(builder, "sqrt", *args)

    return _vector(a), generate


@intrinsic
@no_type_check
def log(typing, a):
    """Natural logarithm of a, one by one: for what is seldom."""

    def generate(context, builder, signature, args):
        return _call(builder, "log", *args)

    return _vector(a), generate


@intrinsic
@no_type_check
def sin(typing, a):
    """Sine of a, one by one, likewise."""

    def generate(context, builder, signature, args):
        return _call(builder, "sin", *args)

    return _vector(a), generate


@intrinsic
@no_type_check
def shifted(typing, a, whole):
    """a times 2^whole, for whole numbers that keep it normal; NaN stays so."""

    def generate(context, builder, signature, args):
        # Added to the bits of the exponent.
        number = builder.fptosi(args[1], INTS)
        places = builder.shl(number, ir.Constant(INTS, [23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(args[0], INTS), places), VECTOR)

    return _vector(a, whole), generate


@intrinsic
@no_type_check
def choose(typing, test, near, far):
    """``near`` where ``test`` is at most one, else ``far``."""

    def generate(context, builder, signature, args):
        one = ir.Constant(VECTOR, [1.0] * LANES)
        return builder.select(builder.fcmp_ordered("<=", args[0], one), args[1], args[2])

    return _vector(test, near, far), generate


@intrinsic
@no_type_check
def head(typing, a, count, rest):
    """The first ``count`` (int64) of a, and the number ``rest`` in place of the others."""

    def generate(context, builder, signature, args):
        longs = ir.VectorType(ir.IntType(64), LANES)
        count = builder.insert_element(
            ir.Constant(longs, ir.Undefined), args[1], ir.Constant(_INT, 0)
        )
        zeros = ir.Constant(INTS, [0] * LANES)
        count = builder.shuffle_vector(count, ir.Constant(longs, ir.Undefined), zeros)
        kept = builder.icmp_signed("<", ir.Constant(longs, list(range(LANES))), count)
        return builder.select(kept, args[0], _spread(builder, args[2]))

    return _vector(a, types.int64, types.float32), generate


@intrinsic
@no_type_check
def total(typing, a):
    """Sum of a."""

    def generate(context, builder, signature, args):
        return _reduce(builder, "fadd", ir.Constant(ir.FloatType(), -0.0), args[0])

    return types.float32(a), generate


@intrinsic
@no_type_check
def greatest(typing, a):
    """Greatest of a, those left out that are not numbers."""

    def generate(context, builder, signature, args):
        return _reduce(builder, "fmax", args[0])

    return types.float32(a), generate


def _reduce(builder: Any, name: str, *args: Any) -> Any:
    kind = ir.FunctionType(ir.FloatType(), [arg.type for arg in args])
    name = f"llvm.vector.reduce.{name}.v{LANES}f32"
    return builder.call(
        get_or_insert_function(builder.module, kind, name), args, fastmath=("reassoc",)
    )


@intrinsic
@no_type_check
def any_reaches(typing, a, b):
    """Whether any of a is at least its fellow of b."""

    def generate(context, builder, signature, args):
        return _mask(builder, args, "!=", 0)

    return types.boolean(a, b), generate


@intrinsic
@no_type_check
def all_reach(typing, a, b):
    """Whether all of a are at least their fellows of b."""

    def generate(context, builder, signature, args):
        return _mask(builder, args, "==", 2**LANES - 1)

    return types.boolean(a, b), generate


@intrinsic
@no_type_check
def mark_beyond(typing, array, index, a, b):
    """Write sixteen booleans: whether a is not at most b, as no NaN is; and whether any is not."""

    def generate(context, builder, signature, args):
        beyond = builder.fcmp_unordered(">", args[2], args[3])
        bytes_ = ir.VectorType(ir.IntType(8), LANES)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), bytes_.as_pointer())
        builder.store(builder.zext(beyond, bytes_), place).align = 1
        bits = builder.bitcast(beyond, ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(LANES), 0))

    return _flat(array) and types.boolean(array, types.intp, a, b), generate


def _mask(builder: Any, args: Any, relation: str, expected: int) -> Any:
    bits = builder.bitcast(builder.fcmp_ordered(">=", *args), ir.IntType(LANES))
    return builder.icmp_unsigned(relation, bits, ir.Constant(ir.IntType(LANES), expected))
