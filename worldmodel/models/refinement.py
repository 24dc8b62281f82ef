"""A filter's second look at a frame: what readings missed, the emission corrects.

A network reads a frame in one go, and reads worse what it has not seen alike; the emission then
draws another frame than the one that was looked at, and says in which direction the state is off.
So the belief that fusion comes to goes one Gauss-Newton step on, towards the state that is
likeliest by the prediction, the reading and the frame that the emission draws. Of frames that
training has not seen it undoes a third to two thirds of what they are read worse by. More steps
change nothing.

Reading and emission tell of the same frame, and what an emission draws wrongly is wrong alike in
many scalars and frames: believed in as if all were independent, it would bend states that dreams go
on from (``docs/research.md`` has what that costs). So deviations by the emission count twice as
wide. The step is not taken where it would make the state less likely.

Source: Bell and Cathey 1993, "The iterated Kalman filter update as a Gauss-Newton method". Differs:
it begins where an amortised reading says (Kim et al. 2018, "Semi-Amortized Variational
Autoencoders"), whose likelihood stays; slopes are finite differences.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.models.codec.emission import Emission
from worldmodel.models.fusion import lifted
from worldmodel.models.program import Builder, Rows

# How far along each axis the emission's slope is taken, and what its deviance counts.
_REACH, _SHARE = 0.1, 0.25


def refine(
    emission: Emission,
    visible: int,
    frame: Float[Tensor, "batch size"],
    reading: Float[Tensor, "batch two_latent"],
    predicted: Float[Tensor, "batch latent"],
    spread: Float[Tensor, "batch any latent"],
    corrected: tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]],
) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
    """Mean and scale of the belief after one step.

    Args:
        emission: Whose mean draws the frame.
        visible: Leading dimensions of the state that it sees.
        frame: Flat and scaled.
        reading: Mean and scale, as ``Fusion.embed`` gives them.
        predicted: As ``Fusion.correct`` takes it.
        spread: Likewise.
        corrected: What that gave: mean and scale.
    """
    state, latent = corrected[0], predicted.shape[1]
    axes = state.new_zeros(latent + 1, visible)
    axes[1:].fill_diagonal_(_REACH)
    drawn = emission.mean(state[:, None, :visible] + axes)
    root = (_SHARE**0.5 * emission.sharpness(drawn[:, 0])).unsqueeze(-2)
    error = (frame.unsqueeze(1) - drawn[:, :1]) * root
    slopes = (drawn[:, 1:] - drawn[:, :1]) * root / _REACH
    told, pull = slopes @ slopes.mT, (slopes @ error.mT).squeeze(2)
    mean, scale = reading.chunk(2, 1)
    sharp = scale.square().reciprocal()
    told = told + torch.diag_embed(sharp)
    pull = pull + sharp * (mean - state)
    # In units in which the prediction is a standard normal: none of its directions is too thin.
    unit, _ = torch.linalg.cholesky_ex(lifted(spread.mT @ spread))
    place = torch.linalg.solve_triangular(unit, (state - predicted).unsqueeze(2), upper=False)
    precision = unit.mT @ told @ unit
    precision.diagonal(dim1=1, dim2=2).add_(1)
    # Of what is not finite there is none: then nothing is better.
    factor, _ = torch.linalg.cholesky_ex(precision)
    step = torch.cholesky_solve(unit.mT @ pull.unsqueeze(2) - place, factor)
    moved = (unit @ step).squeeze(2)
    missed = (frame - emission.mean((state + moved)[:, :visible])) * root.squeeze(-2)
    change = (
        missed.square().sum(1)
        - error.square().sum((1, 2))
        + ((2 * place + step) * step).sum((1, 2))
        + (sharp * moved * (moved - 2 * (mean - state))).sum(1)
    )
    left = torch.linalg.solve_triangular(factor, unit.mT, upper=False).square().sum(1).sqrt()
    better = (change <= 0).unsqueeze(1)
    return torch.where(better, state + moved, state), torch.where(better, left, corrected[1])


def compiled_refinement(
    builder: Builder,
    emission: Emission,
    visible: int,
    frame: Rows,
    reading: tuple[Rows, Rows],
    predicted: Rows,
    spread: Rows,
    corrected: tuple[Rows, Rows],
) -> tuple[Rows, Rows]:
    """Instructions of ``refine``; ``reading`` is mean and scale."""
    state, scale = corrected
    latent = state.count

    def draw(state: Rows, shift: np.ndarray | float) -> Rows:
        seen, _ = state.split(visible, latent - visible)
        return emission.compiled(
            builder, builder.affine(seen, 1.0, shift) if np.any(shift) else seen
        )

    def less(a: Rows, b: Rows) -> Rows:
        return builder.add(a, builder.affine(b, -1.0))

    drawn = draw(state, 0.0)
    root = builder.affine(emission.compiled_sharpness(builder, drawn), _SHARE**0.5)
    steep = builder.affine(root, 1 / _REACH)
    slopes = [
        builder.multiply(less(draw(state, axis), drawn), steep) for axis in _REACH * np.eye(visible)
    ]
    hidden = [builder.constant(np.zeros(frame.count))] * (latent - visible)
    error = builder.multiply(less(frame, drawn), root)
    told = builder.gram(builder.join(*slopes, *hidden, error), latent + 1)
    pull, apart = less(reading[0], state), less(state, predicted)
    moved, left, change = builder.refine(spread, reading[1], pull, apart, told)
    arrived = builder.add(state, moved)
    missed = builder.multiply(less(frame, draw(arrived, 0.0)), root)
    after = builder.gram(missed, 1)
    *_, before = told.split(told.count - 1, 1)
    worse = builder.add(change, less(after, before))
    both = builder.select(
        builder.affine(worse, 1.0, 1.0), builder.join(arrived, left), builder.join(state, scale)
    )
    mean, scale = both.split(latent, latent)
    return mean, scale
