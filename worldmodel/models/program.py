"""Compiled forms of models, as data: a list of simple instructions on registers of numbers.

A part of a model that can be compiled appends its instructions to a ``Builder``; what it leaves is
a ``Program``, plain arrays that an interpreter runs over many environments at once, without a call
per operation. Nothing here runs anything, and nothing needs a compiler.

A register holds one number of every environment. Registers come in ranges (``Rows``) that are
written once; an instruction that was given before, on the same registers, is not given again. So
parts need not know what others have worked out already.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from worldmodel.errors import ShapeError

# Rows of a matrix that lie side by side, column by column: one load of them fills a vector unit.
PANEL = 16
# Greatest shift that a matrix takes over from what it multiplies: larger ones would cancel, and
# rounding stay.
_FOLDED = 4.0


class Op(IntEnum):
    """What an instruction does; those of one name with a method of ``Builder`` do that."""

    COPY = 0
    LINEAR = 1
    LINEAR_RELU = 2
    AFFINE = 3
    CLAMP = 4
    ADD = 5
    MULTIPLY = 6
    SELECT = 7
    RELU = 8
    SILU = 9
    TANH = 10
    SIGMOID = 11
    SOFTPLUS = 12
    SQRT = 13
    SOFTMAX = 14
    CONTRACT = 15
    NEAREST = 16
    NORMALISE = 17
    LOG = 18
    CORRECT = 19
    EXP = 20
    SIN = 21
    GREATER = 22
    GRAM = 23
    REFINE = 24


# They go number by number, so that their result may take the place of an argument of its size.
_IN_PLACE = {Op.AFFINE, Op.CLAMP, Op.ADD, Op.MULTIPLY, Op.RELU, Op.SILU, Op.TANH, Op.SIGMOID}
_IN_PLACE |= {Op.GREATER, Op.SOFTPLUS, Op.SQRT, Op.LOG, Op.EXP, Op.SIN}


@dataclass(frozen=True)
class Rows:
    """Some consecutive registers.

    Attributes:
        range: The range they belong to.
        start: First of them, counted from the range's own first.
        count: How many.
    """

    range: int
    start: int
    count: int

    def split(self, *sizes: int) -> tuple[Rows, ...]:
        """The same registers in consecutive parts.

        Raises:
            ShapeError: The sizes do not add up.
        """
        if sum(sizes) != self.count:
            raise ShapeError(f"cannot split {self.count} registers into {sizes}")
        starts = [self.start + sum(sizes[:i]) for i in range(len(sizes))]
        return tuple(Rows(self.range, s, n) for s, n in zip(starts, sizes, strict=True))

    def before(self, other: Rows) -> bool:
        """Whether the other ones come next."""
        return (other.range, other.start) == (self.range, self.start + self.count)

    def with_next(self, other: Rows) -> Rows:
        """Both, of which the other ones come next."""
        return Rows(self.range, self.start, self.count + other.count)


class _Instruction(NamedTuple):
    op: Op
    out: Rows
    inputs: tuple[Rows, ...]
    size: int = 0
    weights: int = 0


@dataclass(frozen=True)
class Program:
    """Instructions ready to be run.

    Attributes:
        code: (instructions, 9) int32: operation, first register and number of registers of the
            result, the same of the first argument, first registers of up to two further arguments
            (-1 if absent), a size, and where the instruction's weights begin.
        weights: Flat float32.
        registers: How many are needed.
        inputs: First register of each input.
        outputs: First register of each output.
    """

    code: np.ndarray
    weights: np.ndarray
    registers: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Builder:
    """Takes instructions; see this module.

    Parts of models that cannot be compiled raise ``NotCompiled`` instead of giving any.
    """

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._inputs: list[Rows] = []
        self._instructions: list[_Instruction] = []
        self._given: dict[tuple, Rows] = {}
        # Of results of ``affine``: of what, with which weights.
        self._affine: dict[Rows, tuple[Rows, np.ndarray]] = {}
        self._weights: list[np.ndarray] = []
        self._stored: dict[bytes, int] = {}
        self._nothing = self._range(0)

    def input(self, count: int) -> Rows:
        """Registers that are filled from outside before the program runs."""
        self._inputs.append(self._range(count))
        return self._inputs[-1]

    def join(self, *parts: Rows) -> Rows:
        """The parts one after the other; not copied where they already are."""
        parts = tuple(part for part in parts if part.count)
        if (key := (Op.COPY, parts)) in self._given:
            return self._given[key]
        plain = np.stack([np.ones(1), np.zeros(1)])
        pairs = [self._affine.get(part, (part, plain.repeat(part.count, 1))) for part in parts]
        runs: list[tuple[Rows, np.ndarray]] = []
        for rows, pair in pairs:
            if runs and (last := runs[-1][0]).before(rows):
                rows, pair = last.with_next(rows), np.hstack([runs.pop()[1], pair])
            runs.append((rows, pair))
        scaled = [bool((pair != plain).any()) for _, pair in runs]
        if len(runs) == 1 and not scaled[0]:
            return runs[0][0]
        self._given[key] = whole = self._range(sum(part.count for part in parts))
        outs = whole.split(*(rows.count for rows, _ in runs))
        for (rows, pair), out, is_scaled in zip(runs, outs, scaled, strict=True):
            op, at = (Op.AFFINE, self._store(pair)) if is_scaled else (Op.COPY, 0)
            self._instructions.append(_Instruction(op, out, (rows,), weights=at))
        if any(scaled):
            self._affine[whole] = self.join(*(r for r, _ in runs)), np.hstack([p for _, p in runs])
        return whole

    def linear(
        self, x: Rows, matrix: np.ndarray, bias: np.ndarray | None = None, relu: bool = False
    ) -> Rows:
        """``matrix`` (m, n) times ``x`` (n,) plus ``bias`` (m,), rectified if asked to.

        Raises:
            ShapeError: The matrix has another number of columns.
        """
        rows, columns = matrix.shape
        if columns != x.count:
            raise ShapeError(f"a matrix {matrix.shape} cannot multiply {x.count} registers")
        whole = np.zeros((rows, columns + 1))
        whole[:, 1:] = matrix
        whole[:, 0] = 0 if bias is None else bias
        base, (scale, shift) = self._affine.get(x, (x, np.zeros((2, 1))))
        if base != x and abs(shift).max(initial=0) <= _FOLDED:
            # What was done to each register is done by the matrix.
            x = base
            whole[:, 0] += whole[:, 1:] @ shift
            whole[:, 1:] *= scale
        return self._add(Op.LINEAR_RELU if relu else Op.LINEAR, rows, (x,), weights=_panels(whole))

    def constant(self, values: np.ndarray) -> Rows:
        """The same numbers for every environment."""
        return self.linear(self._nothing, np.zeros((len(values), 0)), values)

    def affine(self, x: Rows, scale: np.ndarray | float, shift: np.ndarray | float = 0.0) -> Rows:
        """Each register times its ``scale`` plus its ``shift``."""
        weights = _pairs(x, scale, shift)
        result = self._add(Op.AFFINE, x.count, (x,), weights=weights)
        self._affine[result] = x, weights.astype(np.float64)
        return result

    def clamp(self, x: Rows, low: np.ndarray | float, high: np.ndarray | float) -> Rows:
        """Each register cut off below ``low`` and above ``high``; what is not a number stays so."""
        return self._add(Op.CLAMP, x.count, (x,), weights=_pairs(x, low, high))

    def add(self, a: Rows, b: Rows) -> Rows:
        """Sum, register by register."""
        return self._add(Op.ADD, _count(a, b), (a, b))

    def multiply(self, a: Rows, b: Rows) -> Rows:
        """Product, register by register."""
        return self._add(Op.MULTIPLY, _count(a, b), (a, b))

    def greater(self, a: Rows, b: Rows) -> Rows:
        """The greater one, register by register; no number where either is none."""
        return self._add(Op.GREATER, _count(a, b), (a, b))

    def select(self, distance: Rows, near: Rows, far: Rows) -> Rows:
        """``near`` where the one register of ``distance`` is at most one, else ``far``."""
        return self._add(Op.SELECT, _count(near, far), (distance, near, far))

    def relu(self, x: Rows) -> Rows:
        """The positive part."""
        return self._add(Op.RELU, x.count, (x,))

    def silu(self, x: Rows) -> Rows:
        """x / (1 + exp(-x))."""
        return self._add(Op.SILU, x.count, (x,))

    def tanh(self, x: Rows) -> Rows:
        """Hyperbolic tangent."""
        return self._add(Op.TANH, x.count, (x,))

    def sigmoid(self, x: Rows) -> Rows:
        """1 / (1 + exp(-x))."""
        return self._add(Op.SIGMOID, x.count, (x,))

    def softplus(self, x: Rows) -> Rows:
        """ln(1 + exp(x))."""
        return self._add(Op.SOFTPLUS, x.count, (x,))

    def sqrt(self, x: Rows) -> Rows:
        """Square root."""
        return self._add(Op.SQRT, x.count, (x,))

    def log(self, x: Rows) -> Rows:
        """Natural logarithm."""
        return self._add(Op.LOG, x.count, (x,))

    def exp(self, x: Rows) -> Rows:
        """Exponential, for results that are normal numbers."""
        return self._add(Op.EXP, x.count, (x,))

    def sin(self, x: Rows) -> Rows:
        """Sine."""
        return self._add(Op.SIN, x.count, (x,))

    def softmax(self, x: Rows) -> Rows:
        """Exponentials over their sum, across the registers."""
        return self._add(Op.SOFTMAX, x.count, (x,))

    def contract(self, matrix: Rows, x: Rows, start: Rows | None = None) -> Rows:
        """A matrix of registers, column by column, times ``x``; plus ``start``.

        Args:
            matrix: (n * m,): the m numbers that the first of ``x`` multiplies, and so on.
            x: (n,).
            start: (m,), or None for zeros.

        Raises:
            ShapeError: The matrix is not that of a product with ``x``.
        """
        rows, rest = divmod(matrix.count, x.count)
        if rest or (start is not None and start.count != rows):
            raise ShapeError(f"{matrix.count} registers do not take {x.count} to {start}")
        inputs = (matrix, x) if start is None else (matrix, x, start)
        return self._add(Op.CONTRACT, rows, inputs, size=x.count)

    def nearest(self, x: Rows, points: np.ndarray) -> Rows:
        """One register: squared distance of ``x`` (n,) to the nearest of ``points`` (m, n).

        Or to any other that is not further than one; it is then not looked for a nearer one, so
        put first what is near to many. No number where ``x`` is none.
        """
        # |x - p|^2 = |x|^2 - 2 (x p - |p|^2 / 2); points that fill the last panel are never near.
        table = np.zeros((len(points) + -len(points) % PANEL, x.count + 1))
        table[:, 0] = -np.inf
        table[: len(points), 0] = -0.5 * np.square(points).sum(1)
        table[: len(points), 1:] = points
        size = len(table) // PANEL
        return self._add(Op.NEAREST, 1, (x,), size=size, weights=_panels(table))

    def normalise(self, x: Rows, gain: np.ndarray, bias: np.ndarray, epsilon: float) -> Rows:
        """Layer normalisation across the registers (Ba et al. 2016)."""
        weights = np.append(_pairs(x, gain, bias), np.float32(epsilon))
        return self._add(Op.NORMALISE, x.count, (x,), weights=weights)

    def correct(self, spread: Rows, scale: Rows, pull: Rows) -> tuple[Rows, Rows]:
        """Mean and scale of x = e G, e ~ N(0, I), if x is ``pull`` but for noise of a scale.

        Of the Gaussian N(P C^-1 pull, P - P C^-1 P), with P = G' G, C = P + S and S the square of
        the scale; of its covariance the diagonal.

        Args:
            spread: G (n * m), row by row.
            scale: (m,).
            pull: (m,).
        """
        count = _count(scale, pull)
        # What is worked out on the way takes registers too.
        out = self._add(
            Op.CORRECT,
            count * (2 * count + 3),
            (spread, scale, pull),
            size=spread.count // count,
        )
        mean, left, _ = out.split(count, count, count * (2 * count + 1))
        return mean, left

    def gram(self, rows: Rows, count: int) -> Rows:
        """Products of all pairs of ``count`` vectors that lie behind each other, row by row.

        Raises:
            ShapeError: They are not of one length.
        """
        if rows.count % count:
            raise ShapeError(f"{rows.count} registers are not {count} vectors")
        return self._add(Op.GRAM, count * count, (rows,), size=count)

    def refine(
        self, spread: Rows, scale: Rows, pull: Rows, apart: Rows, told: Rows
    ) -> tuple[Rows, Rows, Rows]:
        """A Gauss-Newton step towards where three things that are known of a state agree.

        With M its information, x where it is and b how it is pulled: the step to the least of
        |w|^2 + (x - x_0)' M (x - x_0) - 2 b' (x - x_0), where x is w G off what was predicted.

        Args:
            spread: G (n * m), row by row.
            scale: (m,), deviation of a direct reading.
            pull: (m,), how far that is from x_0.
            apart: (m,), how far x_0 is from what was predicted.
            told: (m + 1) squared, ``gram`` of slopes and errors of what else is known, each
                divided by its deviation.

        Returns:
            The step (m,); scales (m,) of what is then known; and by how much |w|^2 and the
            reading's squared distance have grown.
        """
        count = _count(scale, pull)
        facts = self.join(scale, pull, apart, told)
        out = self._add(
            Op.REFINE,
            2 * count + 1 + count * (3 * count + 3),
            (spread, facts),
            size=spread.count // count,
        )
        step, left, change, _ = out.split(count, count, 1, count * (3 * count + 3))
        return step, left, change

    def finish(self, *outputs: Rows) -> Program:
        """The program that computes ``outputs``, and nothing that they do not need."""
        needed, kept = {rows.range for rows in outputs}, []
        for instruction in reversed(self._instructions):
            if instruction.out.range in needed:
                needed |= {rows.range for rows in instruction.inputs}
                kept.append(instruction)
        kept.reverse()
        held = [rows.range for rows in (*self._inputs, *outputs, self._nothing)]
        first, registers = _allocate(kept, self._sizes, held)

        def place(rows: Rows) -> int:
            return first[rows.range] + rows.start

        code = np.full((len(kept), 9), -1, np.int32)
        for line, (op, out, inputs, size, weights) in zip(code, kept, strict=True):
            line[:5] = op, place(out), out.count, place(inputs[0]), inputs[0].count
            line[5 : 4 + len(inputs)] = [place(rows) for rows in inputs[1:]]
            line[7:] = size, weights
        places = (tuple(map(place, rows)) for rows in (self._inputs, outputs))
        weights = np.concatenate([np.zeros(1, np.float32), *self._weights])
        return Program(code, weights, registers, *places)

    def _range(self, count: int) -> Rows:
        self._sizes.append(count)
        return Rows(len(self._sizes) - 1, 0, count)

    def _add(
        self,
        op: Op,
        count: int,
        inputs: tuple[Rows, ...],
        size: int = 0,
        weights: np.ndarray | None = None,
    ) -> Rows:
        place = 0 if weights is None else self._store(weights)
        if (key := (op, inputs, size, place)) not in self._given:
            self._given[key] = out = self._range(count)
            self._instructions.append(_Instruction(op, out, inputs, size, place))
        return self._given[key]

    def _store(self, weights: np.ndarray) -> int:
        flat = np.ascontiguousarray(weights, np.float32).ravel()
        if (content := flat.tobytes()) not in self._stored:
            self._stored[content] = 1 + sum(map(len, self._weights))
            self._weights.append(flat)
        return self._stored[content]


def _panels(matrix: np.ndarray) -> np.ndarray:
    """Panels of up to PANEL rows, each column by column, one behind the other."""
    rows = range(0, len(matrix), PANEL)
    return np.concatenate([matrix[row : row + PANEL].T.ravel() for row in rows])


def _pairs(x: Rows, first: np.ndarray | float, second: np.ndarray | float) -> np.ndarray:
    """One number for each register, and then another for each."""
    return np.stack([np.broadcast_to(v, x.count) for v in (first, second)]).astype(np.float32)


def _count(a: Rows, b: Rows) -> int:
    if a.count != b.count:
        raise ShapeError(f"{a.count} registers do not go with {b.count}")
    return a.count


def _allocate(
    instructions: list[_Instruction], sizes: list[int], held: list[int]
) -> tuple[dict[int, int], int]:
    """First register of every range, and how many registers that takes.

    A register is free again after the last instruction that reads it, so that a program's numbers
    stay in the nearest cache. ``held`` are never given up, and come first, in their order. Behind
    every range there is room for the rest of a panel, which need not be written to exactly.
    """
    sizes = [size + PANEL - 1 for size in sizes]
    last = {rows.range: t for t, i in enumerate(instructions) for rows in (i.out, *i.inputs)}
    last |= dict.fromkeys(held, len(instructions))
    first: dict[int, int] = {}
    taken: list[tuple[int, int]] = []  # First register of ranges, and first behind them; sorted.
    registers = 0

    def take(range_: int, place: int) -> None:
        first[range_] = place
        taken.append((place, place + sizes[range_]))
        taken.sort()

    for range_ in dict.fromkeys(held):
        take(range_, _room(sizes[range_], taken))
    for t, (op, out, inputs, *_) in enumerate(instructions):
        read = {rows.range for rows in inputs} - {out.range}
        over = [range_ for range_ in read if last[range_] == t]
        if out.range not in first:
            heirs = [range_ for range_ in over if sizes[range_] == sizes[out.range]]
            able = heirs and op in _IN_PLACE and out.count == sizes[out.range] - PANEL + 1
            place = first[heirs[0]] if able else None
            if place is not None:
                taken.remove((place, place + sizes[over.pop(over.index(heirs[0]))]))
            take(out.range, _room(sizes[out.range], taken) if place is None else place)
        registers = max(registers, *(end for _, end in taken))
        for range_ in over:
            taken.remove((first[range_], first[range_] + sizes[range_]))
    return first, max(registers, *(end for _, end in taken), 0)


def _room(size: int, taken: list[tuple[int, int]]) -> int:
    """The first place that so many registers fit into."""
    place = 0
    for start, end in taken:
        if place + size <= start:
            break
        place = max(place, end)
    return place
