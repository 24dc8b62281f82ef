"""The dream's step as one compiled pass over memory, for a locally linear DVBF on a CPU.

For a thousand small states, calling dozens of tensor operations costs more than what they compute,
and each of them carries its result through memory. Here blocks of environments go through the whole
step while they are in the cache: actions, mixing weights, next state, reward, support, observation.

Only ``tick.py`` imports this, for it needs numba (extra ``fast``).
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

# Environments per block: long enough for the vector units, short enough for the nearest cache.
_BLOCK = 256
# All that may be assumed of numbers, but not that they are finite: divergence must show.
_FAST = {"contract", "reassoc", "nsz", "arcp"}
# Shape checkers must not come between numba and a function: hence no_type_check on all of them.
_jit = njit(fastmath=_FAST, error_model="numpy", cache=True, nogil=True)
# max(a, b) is written as a + (b - a + |b - a|) / 2: a choice keeps loops off the vector units.
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
# Taylor coefficients of 2^r, enough for 32 bits where |r| <= 1/2.
_POWER = tuple(np.float32(np.log(2) ** k / np.prod(np.arange(1.0, k + 1))) for k in range(7))


@_jit
@no_type_check
def _exp(row, bits):
    """exp(row) in place: 2^q by the exponent's bits, times a polynomial for the rest."""
    scale = bits.view(np.float32)
    c0, c1, c2, c3, c4, c5, c6 = _POWER
    for i in range(row.size):
        power = row[i] * np.float32(1.4426950408889634)
        power = power if power > np.float32(-126) else np.float32(-126)
        power = power if power < np.float32(127) else np.float32(127)
        whole = np.floor(power + np.float32(0.5))
        r = power - whole
        row[i] = c0 + r * (c1 + r * (c2 + r * (c3 + r * (c4 + r * (c5 + r * c6)))))
        bits[i] = np.int32((whole + np.float32(127)) * np.float32(8388608))
    for i in range(row.size):
        row[i] *= scale[i]


@_jit
@no_type_check
def _relu(rows, count):
    for k in range(count):
        row = rows[k]
        for i in range(row.size):
            row[i] = _HALF * (row[i] + abs(row[i]))


@_jit
@no_type_check
def _silu(rows, count, spare, bits):
    for k in range(count):
        row = rows[k]
        for i in range(row.size):
            spare[i] = -row[i]
        _exp(spare, bits)
        for i in range(row.size):
            row[i] /= _ONE + spare[i]


@_jit
@no_type_check
def _product(weight, x, out):
    """out = weight @ x, one column per environment; weights are padded as in ``tick.py``."""
    for row in range(0, weight.shape[0], 2):
        first, second = out[row], out[row + 1]
        one, two = weight[row], weight[row + 1]
        start, u, v = x[0], one[0], two[0]
        for i in range(start.size):
            first[i] = u * start[i]
            second[i] = v * start[i]
        for k in range(1, weight.shape[1], 4):
            a, b, c, d = x[k], x[k + 1], x[k + 2], x[k + 3]
            a1, b1, c1, d1 = one[k], one[k + 1], one[k + 2], one[k + 3]
            a2, b2, c2, d2 = two[k], two[k + 1], two[k + 2], two[k + 3]
            for i in range(start.size):
                first[i] += a1 * a[i] + b1 * b[i] + c1 * c[i] + d1 * d[i]
                second[i] += a2 * a[i] + b2 * b[i] + c2 * c[i] + d2 * d[i]


@_jit
@no_type_check
def _bias(rows, count):
    """A row of ones for the next product's bias, and zeros for its padding."""
    rows[count] = _ONE
    rows[count + 1 : count + 4] = _ZERO


@_jit
@no_type_check
def _greatest(rows, count, best):
    for i in range(best.size):
        best[i] = rows[0, i]
    for k in range(1, count):
        row = rows[k]
        for i in range(best.size):
            more = row[i] - best[i]
            best[i] += _HALF * (more + abs(more))


@_jit
@no_type_check
def _softmax(rows, count, best, total, bits):
    """Softmax over the first rows, not yet divided by ``total``."""
    _greatest(rows, count, best)
    for i in range(total.size):
        total[i] = _ZERO
    for k in range(count):
        row = rows[k]
        for i in range(row.size):
            row[i] -= best[i]
        _exp(row, bits)
        for i in range(row.size):
            total[i] += row[i]


@_jit
@no_type_check
def _logistic(rows, count, spare, total, bits):
    """One for the first row, the logistic function of the others; nothing is left to divide by."""
    rows[0], total[:] = _ONE, _ONE
    for k in range(1, count):
        row = rows[k]
        for i in range(row.size):
            spare[i] = -row[i]
        _exp(spare, bits)
        for i in range(row.size):
            row[i] = _ONE / (_ONE + spare[i])


@_jit
@no_type_check
def _contract(mixed, total, inputs, count, state):
    """Next state: mixed base matrices (count, latent) times their inputs."""
    latent = state.shape[0]
    for d in range(latent):
        out = state[d]
        for i in range(out.size):
            out[i] = _ZERO
        for k in range(count):
            matrix, value = mixed[k * latent + d], inputs[k]
            for i in range(out.size):
                out[i] += matrix[i] * value[i]
        for i in range(out.size):
            out[i] /= total[i]


@_jit
@no_type_check
def _covered(features, column, centres, threshold, scores):
    """Whether one state reaches the threshold at any of the centres (features, centres)."""
    for c in range(scores.size):
        scores[c] = -threshold
    for k in range(centres.shape[0]):
        value, weight = features[k, column], centres[k]
        for c in range(scores.size):
            scores[c] += value * weight[c]
    excess = _ZERO
    for c in range(scores.size):
        excess += scores[c] + abs(scores[c])
    return excess > _ZERO


@_jit
@no_type_check
def step(plan, sizes, limits, box, state, action, noise, out, observation, reward, inside):
    """One step of all environments, into the last four; ``tick.py`` makes the arguments.

    Returns:
        Zero if all that was dreamt is finite, else NaN.
    """
    gate_in, gate_out, base, reward_in, reward_out, near, far = plan
    latent, act, draws, matrices, smooth, factorial = sizes
    least, greatest, outside, threshold = limits
    known, total_envs = latent + act + 1, state.shape[1]
    block = min(_BLOCK, total_envs)
    # Next state, state, action, 1, noise: every product reads neighbouring rows of these.
    x = np.zeros((latent + known + draws + 3, block), np.float32)
    following, inputs = x[:latent], x[latent:]
    widest = max(gate_in.shape[0], reward_in.shape[0], near.shape[0])
    hidden = np.zeros((widest + 4, block), np.float32)
    mixing = np.zeros((gate_out.shape[0] + 4, block), np.float32)
    mixed = np.zeros((base.shape[0], block), np.float32)
    paid = np.zeros((2, block), np.float32)
    features = np.zeros((2 * latent + 4, block), np.float32)
    best, total = np.zeros(block, np.float32), np.zeros(block, np.float32)
    bits, scores = np.zeros(block, np.int32), np.zeros(far.shape[1], np.float32)
    x[latent + known - 1], features[2 * latent] = _ONE, _ONE
    finite = _ZERO
    for start in range(0, total_envs, block):
        n = min(block, total_envs - start)
        for k in range(latent):
            x[latent + k, :n] = state[k, start : start + n]
        for k in range(act):
            x[2 * latent + k, :n] = action[start : start + n, k]
        for k in range(draws):
            x[latent + known + k, :n] = noise[k, start : start + n]
        _product(gate_in, inputs, hidden)
        if smooth:
            _silu(hidden, gate_in.shape[0], best, bits)
        else:
            _relu(hidden, gate_in.shape[0])
        _bias(hidden, gate_in.shape[0])
        _product(gate_out, hidden, mixing)
        if factorial:
            _logistic(mixing, matrices, best, total, bits)
        else:
            _softmax(mixing, matrices, best, total, bits)
        mixing[matrices:] = _ZERO
        _product(base, mixing, mixed)
        _contract(mixed, total, inputs, known + draws, following)
        _product(reward_in, x, hidden)
        _relu(hidden, reward_in.shape[0])
        _bias(hidden, reward_in.shape[0])
        _product(reward_out, hidden, paid)
        for k in range(latent):
            row = x[k]
            features[k], features[latent + k] = row, row * row
        _product(near, features, hidden)
        _greatest(hidden, near.shape[0], best)
        for i in range(n):
            finite += paid[0, i] * _ZERO
            known_state = best[i] >= threshold or _covered(features, i, far, threshold, scores)
            inside[start + i] = known_state
            pay = min(max(paid[0, i], least), greatest)
            reward[start + i] = pay if known_state else min(pay, outside)
            for k in range(latent):
                value = x[k, i]
                finite += value * _ZERO
                out[k, start + i] = value
                observation[start + i, k] = min(max(value, box[0, k]), box[1, k])
    return finite
