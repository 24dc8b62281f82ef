"""Runs programs (``models/program.py``), compiled: one step of one dream, or of many.

Many are stepped in blocks whose registers fit the nearest cache. Nothing of this knows a model.

Only ``compiled.py`` imports this, for it needs numba (extra ``fast``).
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any, no_type_check

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache

from worldmodel.models import program
from worldmodel.models.program import Op
from worldmodel.world.kernels.across import normalise, softmax, softmax_one
from worldmodel.world.kernels.elementwise import each, scale_or_clamp, select
from worldmodel.world.kernels.fusion import correct, refine
from worldmodel.world.kernels.nearest import nearest
from worldmodel.world.kernels.normals import fill
from worldmodel.world.kernels.options import OPTIONS, PAIR, kernel
from worldmodel.world.kernels.products import contract, gram, linear, linear_one
from worldmodel.world.lanes import (
    LANES,
    fma,
    get,
    head,
    load,
    mark_beyond,
    put,
    spread,
    store,
    total,
)
from worldmodel.world.status import DIVERGED, OUTSIDE, REFUSED, TERMINATED

# Environments per block.
BLOCK = 128
_ZERO, _ONE = np.float32(0), np.float32(1)
_ROOM, _MODELS = Path(__file__).parent, Path(program.__file__).parent
# Of all that becomes part of what is compiled here.
_SOURCES = [
    *sorted((_ROOM / "kernels").glob("*.py")),
    *(_ROOM / name for name in ("lanes.py", "status.py")),
    *(_MODELS / name for name in ("program.py", "fusion.py")),
]
_DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()[:8]


class _Kept(FunctionCache):
    """Functions compiled earlier, if they can be read; new ones are kept if the disk has room.

    Numba's own cache raises in the first step of a dream if the disk is full, or if a crash left
    half a file.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever reading half a file raises
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


@no_type_check
def _jit(function):
    """Compiled when it is first called, and kept on disk if there is a place to keep it."""
    # Numba forgets what it kept when the function's own file changes, but not when others do.
    function.__qualname__ += f"_{_DIGEST}"
    dispatcher = njit(nogil=True, **OPTIONS)(function)
    # It is raised where neither the package's folder nor the user's cache can be written to.
    with suppress(RuntimeError):
        dispatcher._cache = _Kept(function)
    return dispatcher


@_jit
@no_type_check
def execute(code, weights, space, stride):  # noqa: C901 (a switch)
    """Run a program on one block of environments; ``space`` is what ``kernels`` says."""
    for i in range(code.shape[0]):
        op, rows, size = code[i, 0], code[i, 2], code[i, 4]
        out, a = code[i, 1] * stride, code[i, 3] * stride
        b, c = code[i, 5] * stride, code[i, 6] * stride
        w = code[i, 8]
        if op == Op.LINEAR or op == Op.LINEAR_RELU:
            relu = op == Op.LINEAR_RELU
            if stride == 1:
                linear_one(weights, w, size, space, a, out, rows, relu)
            else:
                linear(weights, w, size, space, a, out, rows, stride, relu)
        elif op == Op.AFFINE or op == Op.CLAMP:
            scale_or_clamp(op == Op.AFFINE, weights, w, space, a, out, rows, stride)
        elif op == Op.SELECT:
            select(space, a, b, c, out, rows, stride)
        elif op == Op.SOFTMAX:
            if stride == 1:
                softmax_one(space, a, out, rows)
            else:
                softmax(space, a, out, rows, stride)
        elif op == Op.CONTRACT:
            contract(space, a, b, c, out, rows, code[i, 7], stride)
        elif op == Op.NEAREST:
            nearest(weights, w, code[i, 7], space, a, size, out, stride)
        elif op == Op.CORRECT:
            n = code[i, 7]
            correct(space, a, b, c, out, n, size // n, stride)
        elif op == Op.GRAM:
            gram(space, a, out, code[i, 7], size // code[i, 7], stride)
        elif op == Op.REFINE:
            n = code[i, 7]
            refine(space, a, b, out, n, size // n, stride)
        elif op == Op.NORMALISE:
            normalise(weights, w, space, a, out, rows, stride)
        else:
            each(op, space, a, b, out, rows * stride)


@_jit
@no_type_check
def filter_one(code, weights, ports, space):
    """One step of a single filter; ``compiled.py`` makes the arguments.

    Args:
        code: The program's.
        weights: The program's, and then the bounds of actions and observations.
        ports: Where in ``space`` and ``weights`` things are.
        space: Registers, with mean, scale, action and frame in the input already; and then the
            clipped mean, and spare ones. The belief becomes the next one, if all is well.

    Returns:
        What there is to say.
    """
    latent, act, mean, following, bounds, box, seen = ports
    action = mean + 2 * latent
    for k in range(act):
        if not np.isfinite(space[action + k]):
            return REFUSED
        low, high = weights[bounds + k], weights[bounds + act + k]
        space[action + k] = _cut(space[action + k], low, high)
    execute(code, weights, space, 1)
    for k in range(latent):
        if not np.isfinite(space[following + k]):
            return DIVERGED
    for k in range(latent):
        value = space[following + k]
        space[mean + k], space[mean + latent + k] = value, space[following + latent + k]
        space[seen + k] = _cut(value, weights[box + k], weights[box + latent + k])
    return 0


@kernel
@no_type_check
def _move(array, begin, other, start, n):
    """Numbers of n environments that lie behind each other, to where they do so, too."""
    whole = n - n % LANES
    for i in range(0, whole, LANES):
        store(other, start + i, load(array, begin + i))
    for i in range(whole, n):
        put(other, start + i, get(array, begin + i))


@kernel
@no_type_check
def _not_finite(space, x, n):
    """Zero if a register of n environments is finite: zero times what is not is no number."""
    zero, whole = spread(_ZERO), n - n % LANES
    result = zero
    for i in range(0, whole, LANES):
        result = fma(load(space, x + i), zero, result)
    if whole < n:
        result = fma(head(load(space, x + whole), n - whole, _ZERO), zero, result)
    return total(result)


@kernel
@no_type_check
def _mark(flags, begin, space, x, n, limit):
    """Say for each of n environments whether its register is not at most a limit, and of any."""
    some, whole = False, n - n % LANES
    for i in range(0, whole, LANES):
        some |= mark_beyond(flags, begin + i, load(space, x + i), spread(limit))
    for i in range(whole, n):
        beyond = not get(space, x + i) <= limit
        put(flags, begin + i, beyond)
        some |= beyond
    return some


@kernel
@no_type_check
def _cut(value, low, high):
    value = low if value < low else value
    return high if value > high else value


@_jit
@no_type_check
def step_one(code, weights, ports, space, given, draw):
    """One step of a single dream; ``compiled.py`` makes the arguments.

    Args:
        code: The program's.
        weights: The program's, and then the bounds of actions and observations.
        ports: Where in ``space`` and ``weights`` things are.
        space: Registers; and then the clipped observation, draws of noise, and spare ones. State
            and memory become the next ones, if all is well.
        given: The action (act,).
        draw: Which draw of noise to take; -1 for none.

    Returns:
        The reward, and what there is to say beside it.
    """
    latent, act, draws, state, action, noise, following, reward, distance, end = ports[:10]
    bounds, box, kept, _, memory, remembered, _, seen, drawn = ports[10:]
    for k in range(act):
        if not np.isfinite(given[k]):
            return _ZERO, REFUSED
        low, high = weights[bounds + k], weights[bounds + act + k]
        space[action + k] = _cut(given[k], low, high)
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
        space[seen + k] = _cut(value, weights[box + k], weights[box + latent + k])
    for k in range(kept):
        space[memory + k] = space[remembered + k]
    status = 0 if space[distance] <= _ONE else OUTSIDE
    if end >= 0 and not space[end] <= _ZERO:
        status |= TERMINATED
    return pay, status


@_jit
@no_type_check
def draw_normals(state, out):
    """Standard normal numbers; see ``kernels/normals.py``."""
    fill(state, out)


@_jit
@no_type_check
def apply_many(code, weights, ports, space, given, out):
    """A program of one input and one output, for many: from ``given`` (rows, n) to ``out``."""
    first, last = ports
    count = given.shape[1]
    for begin in range(0, count, BLOCK):
        n = min(BLOCK, count - begin)
        stride = n + -n % PAIR
        for k in range(given.shape[0]):
            _move(given, k * count + begin, space, (first + k) * stride, n)
        execute(code, weights, space, stride)
        for k in range(out.shape[0]):
            _move(space, (last + k) * stride, out, k * count + begin, n)


@_jit
@no_type_check
def step_many(  # noqa: C901 (one pass over a block's registers after the other)
    code, weights, ports, space, first, last, states, actions, noise, memories,
    out, observations, rewards, flags, remembered, bounded,
):  # fmt: skip
    """The same for many dreams at once, from ``states`` (latent, n) into the last six.

    Args:
        code: As above.
        weights: As above.
        ports: As above.
        space: Registers for one block.
        first: Of the dreams that are to be stepped; a whole number of blocks.
        last: The one behind them.
        states: Where the dreams are.
        actions: (n, act).
        noise: (draws, n); (draws, 0) for none.
        memories: (memory, n).
        out: Next states (latent, n).
        observations: (n, latent), clipped.
        rewards: (n,).
        flags: (3, n) bool: terminated, outside, and False.
        remembered: Next memories (memory, n).
        bounded: Bounds of errors (outputs, n).

    Returns:
        What is to be said of any of them.
    """
    latent, act, draws, state, action, noise_at, following, reward, distance, end = ports[:10]
    bounds, box, kept, believed, memory, next_memory, bound = ports[10:17]
    count = states.shape[1]
    finite, given, ended, left = _ZERO, _ZERO, False, False
    for begin in range(first, last, BLOCK):
        n = min(BLOCK, last - begin)
        stride = n + -n % PAIR
        for k in range(latent):
            _move(states, k * count + begin, space, (state + k) * stride, n)
        for k in range(draws):
            if noise.size:
                _move(noise, k * count + begin, space, (noise_at + k) * stride, n)
            else:
                for i in range(0, stride, LANES):
                    store(space, (noise_at + k) * stride + i, spread(_ZERO))
        for k in range(kept):
            _move(memories, k * count + begin, space, (memory + k) * stride, n)
        x = action * stride
        for k in range(act):
            for i in range(n):
                put(space, x + k * stride + i, get(actions, (begin + i) * act + k))
            given += _not_finite(space, x + k * stride, n)
        scale_or_clamp(False, weights, bounds, space, x, x, act, stride)
        execute(code, weights, space, stride)
        finite += _not_finite(space, reward * stride, n)
        _move(space, reward * stride, rewards, begin, n)
        if end >= 0:
            ended |= _mark(flags, begin, space, end * stride, n, _ZERO)
        else:
            for i in range(n):
                put(flags, begin + i, False)
        left |= _mark(flags, count + begin, space, distance * stride, n, _ONE)
        for i in range(n):
            put(flags, 2 * count + begin + i, False)
        for k in range(kept):
            _move(space, (next_memory + k) * stride, remembered, k * count + begin, n)
        for k in range(believed):
            _move(space, (bound + k) * stride, bounded, k * count + begin, n)
        x = following * stride
        for k in range(latent):
            finite += _not_finite(space, x + k * stride, n)
            _move(space, x + k * stride, out, k * count + begin, n)
        scale_or_clamp(False, weights, box, space, x, x, latent, stride)
        for k in range(latent):
            for i in range(n):
                seen = get(space, x + k * stride + i)
                put(observations, (begin + i) * latent + k, seen)
    status = (TERMINATED if ended else 0) | (OUTSIDE if left else 0)
    wrong = (DIVERGED if finite != _ZERO else 0) | (REFUSED if given != _ZERO else 0)
    return status | wrong


@_jit
@no_type_check
def turn(
    clock, limit, outside, greatest, position,
    over, began, first, seen, begin,
    states, memory, observations, rewards, flags, bounds,
):  # fmt: skip
    """``episodes.turn``."""
    n, kept = len(over), len(memory)
    for i in range(n):
        if over[i]:
            for k in range(len(states)):
                states[k, i], observations[i, k] = first[k, position], seen[position, k]
            for k in range(kept):
                memory[k, i] = begin[k]
            for k in range(len(bounds)):
                bounds[k, i] = begin[kept + k]
            rewards[i], flags[0, i], flags[1, i], began[i] = _ZERO, False, False, clock
            position += 1
    bounded = greatest < np.inf
    count, earliest = 0, clock
    for i in range(n):
        lost = flags[1, i] & outside
        if bounded:
            lost = (bounds[0, i] > greatest) & (began[i] < clock)
        ended = lost | (clock - began[i] >= limit)
        flags[2, i] = ended
        ended |= flags[0, i]
        over[i] = ended
        count += ended
        earliest = min(earliest, clock if ended else began[i])
    return count, earliest + limit
