"""Exact inference in linear-Gaussian models: Kalman filter, smoother and log-likelihood.

A state with a Gaussian belief, and a Gaussian whose mean is linear in it: everything here follows
from two rules about such a pair. ``predict`` gives the second's marginal, ``reverse`` turns the
pair round, by Bayes' rule. With a step of time, ``predict`` is the filter's prediction and
``reverse`` the smoother's gain; with a reading of the state, ``reverse`` is the filter's
correction. Matrices may differ from step to step and from sequence to sequence. An extended filter
chooses them by where it believes it is, which is why steps are given as a function.

Square-root form: covariances are kept as factors L with L L' the covariance, and moved by
orthogonal triangularisation. They are positive definite by construction, and 32 bits tell
variances apart whose ratio is 1e12. (Joseph's form, tried first, lost definiteness where a prior
variance was 1e6 times that of a reading.)

Source: Kaminski, Bryson & Schmidt 1971; Rauch et al. 1965.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodel.types import Belief


class Gaussian(NamedTuple):
    """N(mean, factor factor').

    Attributes:
        mean: (*batch, n).
        factor: (*batch, n, n), lower triangular; the signs of its diagonal mean nothing.
    """

    mean: Tensor
    factor: Tensor

    @property
    def covariance(self) -> Tensor:
        """(*batch, n, n)."""
        return self.factor @ self.factor.mT

    @property
    def scale(self) -> Tensor:
        """Standard deviation (*batch, n) of each dimension."""
        return self.factor.norm(dim=-1)

    def at(self, t: int | slice) -> Gaussian:
        """Those at ``t`` along the second axis, time."""
        return Gaussian(self.mean[:, t], self.factor[:, t])

    def belief(self) -> Belief:
        """What a live filter carries."""
        return Belief(self.mean, self.scale, self.factor)

    @classmethod
    def of(cls, belief: Belief) -> Gaussian:
        """From what a live filter carries."""
        factor = torch.diag_embed(belief.scale) if belief.factor is None else belief.factor
        return cls(belief.mean, factor)


class Linear(NamedTuple):
    """N(matrix z + offset, factor factor'): a Gaussian whose mean is linear in another variable.

    Attributes:
        matrix: (*batch, m, n).
        offset: (*batch, m).
        factor: (*batch, m, m), lower triangular.
    """

    matrix: Tensor
    offset: Tensor
    factor: Tensor

    def mean(self, state: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """Mean given the other variable."""
        return _apply(self.matrix, state) + self.offset

    def given(self, state: Float[Tensor, "*batch n"]) -> Gaussian:
        """The Gaussian given the other variable."""
        return Gaussian(self.mean(state), self.factor)

    def at(self, t: int | slice) -> Linear:
        """Those at ``t`` along the second axis, time."""
        return Linear(self.matrix[:, t], self.offset[:, t], self.factor[:, t])


class Filtered(NamedTuple):
    """What a filter found, batch first and then time.

    Attributes:
        predicted: Beliefs at every frame before its reading, (B, T + 1, ...).
        filtered: The same after it.
        steps: The T steps as they were taken, (B, T, ...).
        log_likelihood: Of each reading in nats, given those before it, (B, T + 1); 0 where masked.
    """

    predicted: Gaussian
    filtered: Gaussian
    steps: Linear
    log_likelihood: Tensor


# From frame t to the next, given the filter's mean at t.
Step = Callable[[int, Tensor], Linear]


def predict(belief: Gaussian, step: Linear) -> Gaussian:
    """Marginal of the variable that depends on the one believed in."""
    wide = torch.cat([step.matrix @ belief.factor, step.factor], -1)
    return Gaussian(step.mean(belief.mean), _triangular(wide))


def reverse(belief: Gaussian, step: Linear) -> Linear:
    """The variable believed in, given the one that depends on it: Bayes' rule."""
    return _reverse(belief, step)[0]


def correct(
    belief: Gaussian, reading: Linear, value: Float[Tensor, "*batch m"]
) -> tuple[Gaussian, Float[Tensor, "*batch"]]:
    """Belief after a reading of the state, and the reading's log-likelihood in nats.

    Args:
        belief: Before it.
        reading: How readings depend on the state.
        value: The one taken.
    """
    backward, factor = _reverse(belief, reading)
    residual = value - reading.mean(belief.mean)
    mean = belief.mean + _apply(backward.matrix, residual)
    return Gaussian(mean, backward.factor), _log_density(residual, factor)


def kalman_filter(
    prior: Gaussian,
    step: Step,
    reading: Linear,
    values: Float[Tensor, "batch frames m"],
    mask: Bool[Tensor, "batch frames"] | None = None,
) -> Filtered:
    """Filter forwards in time.

    Args:
        prior: Of the state at the first frame, (B, ...).
        step: From a frame t to the next, (B, ...). It is told the filter's mean, which an extended
            filter's linearisation depends on.
        reading: How readings depend on the state, (B, T + 1, ...).
        values: Readings; anything where masked.
        mask: False where there is none.
    """
    frames = values.shape[1]
    mask = torch.ones_like(values[..., 0], dtype=torch.bool) if mask is None else mask
    values = values.masked_fill(~mask.unsqueeze(-1), 0)
    beliefs, predictions, steps, scores = [], [prior], [], []
    for t in range(frames):
        before, seen = predictions[-1], mask[:, t]
        after, score = correct(before, reading.at(t), values[:, t])
        mean = torch.where(seen[:, None], after.mean, before.mean)
        factor = torch.where(seen[:, None, None], after.factor, before.factor)
        beliefs.append(Gaussian(mean, factor))
        scores.append(torch.where(seen, score, 0.0))
        if t + 1 < frames:
            steps.append(step(t, mean))
            predictions.append(predict(beliefs[-1], steps[-1]))
    return Filtered(
        Gaussian(*_stack(predictions)),
        Gaussian(*_stack(beliefs)),
        Linear(*_stack(steps)) if steps else _no_steps(prior),
        torch.stack(scores, 1),
    )


def backwards(found: Filtered) -> Linear:
    """States given the state one frame later and all readings, (B, T, ...).

    Together with the last filtered belief this is the posterior of whole trajectories.
    """
    return reverse(found.filtered.at(slice(-1)), found.steps)


def smooth(last: Gaussian, backward: Linear) -> Gaussian:
    """Beliefs at every frame given all readings, (B, T + 1, ...).

    Args:
        last: The last filtered belief, (B, ...).
        backward: Of ``backwards``.
    """
    beliefs = [last]
    for t in reversed(range(backward.offset.shape[1])):
        beliefs.append(predict(beliefs[-1], backward.at(t)))
    return Gaussian(*_stack(beliefs[::-1]))


def forwards(smoothed: Gaussian, backward: Linear) -> Linear:
    """States given the state one frame *earlier* and all readings, (B, T, ...).

    Args:
        smoothed: Of ``smooth``.
        backward: Of ``backwards``.
    """
    return reverse(smoothed.at(slice(1, None)), backward)


def sample(
    last: Gaussian, backward: Linear, noise: Float[Tensor, "batch frames n"]
) -> Float[Tensor, "batch frames n"]:
    """One trajectory of the posterior, drawn from its end to its beginning.

    Args:
        last: The last filtered belief, (B, ...).
        backward: Of ``backwards``.
        noise: Standard normal.
    """
    kicked = backward._replace(offset=backward.offset + _apply(backward.factor, noise[:, :-1]))
    states = [last.mean + _apply(last.factor, noise[:, -1])]
    for t in reversed(range(backward.offset.shape[1])):
        states.append(kicked.at(t).mean(states[-1]))
    return torch.stack(states[::-1], 1)


def gaussian_entropy(factor: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch"]:
    """Entropy in nats of a Gaussian whose covariance has this factor."""
    return _half_log_determinant(factor) + 0.5 * factor.shape[-1] * (1 + math.log(2 * math.pi))


def gaussian_kl(
    q: Gaussian, p: Gaussian, spread: Float[Tensor, "*batch n k"] | None = None
) -> Float[Tensor, "*batch"]:
    """KL(q || p) in nats; its expectation, if the means' difference has covariance S S'.

    Args:
        q: From which.
        p: To which.
        spread: S.
    """
    wide = q.factor if spread is None else torch.cat([q.factor, spread], -1)
    wide = torch.cat([wide, (q.mean - p.mean).unsqueeze(-1)], -1)
    squares = torch.linalg.solve_triangular(p.factor, wide, upper=False).square().sum((-2, -1))
    log_ratio = _half_log_determinant(p.factor) - _half_log_determinant(q.factor)
    return 0.5 * (squares - q.mean.shape[-1]) + log_ratio


def _reverse(belief: Gaussian, step: Linear) -> tuple[Linear, Tensor]:
    """See ``reverse``; and the factor of the other variable's marginal covariance."""
    size = step.offset.shape[-1]
    below = torch.zeros_like(step.matrix).mT
    above = torch.cat([step.factor, step.matrix @ belief.factor], -1)
    joint = torch.cat([above, torch.cat([below, belief.factor], -1)], -2)
    joint = _triangular(joint)
    factor, across = joint[..., :size, :size], joint[..., size:, :size]
    gain = torch.linalg.solve_triangular(factor, across, upper=False, left=False)
    offset = belief.mean - _apply(gain, step.mean(belief.mean))
    return Linear(gain, offset, joint[..., size:, size:]), factor


def _triangular(wide: Tensor) -> Tensor:
    """Lower triangular and square, with the same product with its transpose."""
    return torch.linalg.qr(wide.mT).R.mT


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _half_log_determinant(factor: Tensor) -> Tensor:
    return factor.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)


def _log_density(residual: Tensor, factor: Tensor) -> Tensor:
    white = torch.linalg.solve_triangular(factor, residual.unsqueeze(-1), upper=False)
    constant = 0.5 * residual.shape[-1] * math.log(2 * math.pi)
    return -0.5 * white.square().sum((-2, -1)) - _half_log_determinant(factor) - constant


def _stack(values: list) -> list[Tensor]:
    return [torch.stack(parts, 1) for parts in zip(*values, strict=True)]


def _no_steps(prior: Gaussian) -> Linear:
    mean, factor = prior.mean.unsqueeze(1)[:, :0], prior.factor.unsqueeze(1)[:, :0]
    return Linear(factor, mean, factor)
