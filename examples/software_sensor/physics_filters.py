"""Two filters that know the true physics and the sensor's true statistics.

Both take readings (B, T + 1, 2) in V and commanded torques (B, T, 1) in N m, and return posterior
means (B, T + 1, 3) of sin phi, cos phi and the velocity in rad/s, each from readings up to its
own time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from cheap_sensor import DECAY, DRIFT, NOISE, TORQUE_NOISE, WANDER, response

from envs.pendulum import BABBLING_SPEED, rk4_step
from worldmodel.models.kalman import Gaussian, Linear, correct, predict

# While nothing but a few readings tells where the pendulum is and how it moves, the posterior is
# wide and has several peaks: until this step there are so many times as many particles.
_UNSURE, _AT_FIRST = 15, 8
_TINY = 1e-20  # of a complex step; nothing is subtracted, so it need not be balanced


def particle_filter(
    readings: np.ndarray, actions: np.ndarray, particles: int, rng: np.random.Generator
) -> np.ndarray:
    """The optimum: the exact posterior mean, up to Monte-Carlo error.

    Particles are drawn of the angle and the velocity alone. Given those, the drift is linear and
    Gaussian, and each particle carries its exact Kalman filter (Rao-Blackwellisation), whose
    variance is the same for all.

    Source: Gordon et al. 1993; Doucet et al. 2000.
    """
    many = (len(readings), particles * _AT_FIRST)
    angle = rng.uniform(-np.pi, np.pi, many).astype(np.float32)
    velocity = rng.uniform(-BABBLING_SPEED, BABBLING_SPEED, many).astype(np.float32)
    drift, variance = np.zeros((*many, 2), np.float32), DRIFT**2
    readings, actions = readings.astype(np.float32), actions.astype(np.float32)
    estimates = []
    for t in range(readings.shape[1]):
        if t:
            kick = rng.standard_normal(angle.shape, np.float32)
            torque = actions[:, t - 1] + np.float32(TORQUE_NOISE) * kick
            angle, velocity = rk4_step(angle, velocity, torque)
            drift, variance = DECAY * drift, DECAY**2 * variance + WANDER**2
        surprise = readings[:, None, t] - response(angle) - drift
        gain = variance / (variance + NOISE**2)
        score = -0.5 * (surprise**2).sum(-1) / (variance + NOISE**2)
        drift, variance = drift + gain * surprise, (1 - gain) * variance
        weight = np.exp(score - score.max(1, keepdims=True), dtype=np.float64)
        weight /= weight.sum(1, keepdims=True)
        known = np.stack([np.sin(angle), np.cos(angle), velocity], -1)
        estimates.append(np.einsum("bp,bpk->bk", weight, known))
        count = particles * (_AT_FIRST if t < _UNSURE else 1)
        rows, chosen = _resample(weight, count, rng)
        angle, velocity, drift = angle[rows, chosen], velocity[rows, chosen], drift[rows, chosen]
    return np.stack(estimates, 1)


def _resample(
    weight: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Systematic resampling of every row; indices (B, 1) and (B, count) of the survivors."""
    rows = np.arange(len(weight))[:, None]
    comb = (np.arange(count) + rng.random((len(weight), 1))) / count
    # Rows are laid end to end, so that one search serves all.
    reached = (np.cumsum(weight, 1) + rows).ravel()
    found = np.searchsorted(reached, (comb + rows).ravel()).reshape(len(weight), count)
    size = weight.shape[1]
    return rows, np.clip(found - size * rows, 0, size - 1)


def extended_kalman_filter(readings: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """What an engineer would build: the state (phi, phi', two drifts), linearised as it goes.

    The first reading alone places the angle, by Bayes' rule on a grid: a uniform angle is no
    Gaussian to begin with. Square-root form, by the project's own Kalman filter; derivatives by a
    complex step of the very functions that the simulation runs, exact to rounding (Squire & Trapp
    1998).
    """
    values, torques = torch.from_numpy(readings.astype(np.float64)), actions.astype(np.float64)
    belief = _first_belief(readings[:, 0])
    beliefs = [belief]
    for t in range(torques.shape[1]):
        belief = predict(belief, _linear_step(belief.mean.numpy(), torques[:, t, 0]))
        belief, _ = correct(belief, _linear_reading(belief.mean.numpy()), values[:, t + 1])
        beliefs.append(belief)
    return np.stack([_known(belief) for belief in beliefs], 1)


def _first_belief(reading: np.ndarray) -> Gaussian:
    grid = np.linspace(-np.pi, np.pi, 720, endpoint=False)
    surprise = reading[:, None] - response(grid)
    score = -0.5 * (surprise**2).sum(-1) / (DRIFT**2 + NOISE**2)
    weight = np.exp(score - score.max(1, keepdims=True))
    centre = (weight * np.exp(1j * grid)).sum(1) / weight.sum(1)
    mean = np.zeros((len(reading), 4))
    mean[:, 0] = np.angle(centre)
    # The wrapped Gaussian of this mean direction and length.
    scale = np.full_like(mean, DRIFT)
    scale[:, 0] = np.sqrt(-2 * np.log(np.abs(centre)))
    scale[:, 1] = BABBLING_SPEED / np.sqrt(3)
    return Gaussian(torch.from_numpy(mean), torch.diag_embed(torch.from_numpy(scale)))


def _linear_step(mean: np.ndarray, torque: np.ndarray) -> Linear:
    def move(state: np.ndarray) -> np.ndarray:
        moved = rk4_step(state[:, 0], state[:, 1], torque + state[:, 4])
        return np.column_stack([*moved, DECAY * state[:, 2:4]])

    with_noise = np.column_stack([mean, np.zeros(len(mean))])
    slope = _jacobian(move, with_noise)
    factor = np.zeros((len(mean), 4, 4))
    factor[:, :, 0] = TORQUE_NOISE * slope[:, :, 4]
    factor[:, 2, 2] = factor[:, 3, 3] = WANDER
    return _linear(slope[:, :, :4], move(with_noise), mean, factor)


def _linear_reading(mean: np.ndarray) -> Linear:
    def read(state: np.ndarray) -> np.ndarray:
        return response(state[:, 0]) + state[:, 2:]

    factor = np.broadcast_to(NOISE * np.eye(2), (len(mean), 2, 2))
    return _linear(_jacobian(read, mean), read(mean), mean, factor)


def _jacobian(function: Callable[[np.ndarray], np.ndarray], point: np.ndarray) -> np.ndarray:
    """(B, m, n) of a function from (B, n) to (B, m)."""
    steps = 1j * _TINY * np.eye(point.shape[1])
    return np.stack([np.imag(function(point + step)) / _TINY for step in steps], -1)


def _linear(slope: np.ndarray, value: np.ndarray, at: np.ndarray, factor: np.ndarray) -> Linear:
    offset = value - np.einsum("bmn,bn->bm", slope, at)
    return Linear(*(torch.from_numpy(np.array(array)) for array in (slope, offset, factor)))


def _known(belief: Gaussian) -> np.ndarray:
    """Means of sin, cos and velocity under the belief."""
    angle, velocity = belief.mean[:, 0], belief.mean[:, 1]
    length = (-0.5 * belief.scale[:, 0].square()).exp()
    return torch.stack([length * angle.sin(), length * angle.cos(), velocity], 1).numpy()
