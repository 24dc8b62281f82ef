"""How well a model predicts: open-loop error, its baselines, and the filter's convergence."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.errors import ConfigError, ShapeError
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.types import Batch
from worldmodel.world.world import World

# From the frames that were filtered, with their ground truth, and a number k to the next k
# observations (B, k, *obs) in the environment's units: what somebody predicts who is no model.
Predictor = Callable[[Batch, int], Tensor]

# Beyond this a state is lost: the next product may overflow.
_LOST = 1e30
# Episodes whose predicted pictures are added up at a time.
_FEW = 16


@torch.no_grad()
def open_loop_error(
    world: World,
    batch: Batch,
    filtered: int,
    dreams: int = 0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " horizons"]:
    """Mean squared error of the k-step prediction, k = 1 ... T + 1 - ``filtered``.

    The model filters the first ``filtered`` frames and then predicts the rest open loop,
    under the recorded actions: by one dream without process noise, or by the predictive mean, the
    mean frame of dreams with it. That is what squared error asks for where small differences grow,
    as they do when balls collide: one sharp picture of a wrong place costs twice the variance.
    Pictures that are averaged are clipped to what can be.

    The mean of n dreams errs by an n-th of their variance more than that of all; this is
    subtracted, so that the error does not depend on n but for chance.

    Args:
        world: Of any model.
        batch: Episodes of T steps; padded frames do not count.
        filtered: Frames that are filtered before the prediction starts, at least 1.
        dreams: Dreams with process noise to average, at least 2; 0 for one without.
        generator: Source of their noise.

    Returns:
        Standard units, squared, averaged over episodes and over the observation, with what the
        model's codec misses of it; NaN where a dream without noise has diverged. A predictive mean
        that is exact may come out below 0.

    Raises:
        ConfigError: ``dreams`` is 1 or negative: one dream has no std.
    """
    if dreams == 1 or dreams < 0:
        raise ConfigError(f"dreams must be 0 or at least 2, got {dreams}")
    model, last = world.model, filtered - 1
    past = batch.window(0, last)
    beliefs = model.filter_beliefs(past.observations, past.actions, filtered, past.seen)
    truth = model.scale_observations(batch.observations[:, filtered:])
    predicted, squares = torch.zeros_like(truth), torch.zeros_like(truth)
    for _ in range(max(dreams, 1)):
        noise = generator if dreams else None
        states = world.rollout(beliefs.mean[:, -1], batch.actions[:, last:], noise)[:, 1:]
        # A few episodes at a time: their pictures are added up while they are in the cache.
        for first in range(0, len(batch), _FEW):
            part = slice(first, first + _FEW)
            frames = pictures(model, states[part], averaged=dreams > 0)
            predicted[part].add_(frames, alpha=1 / max(dreams, 1))
            if dreams:
                squares[part].addcmul_(frames, frames, value=1 / dreams)
    error = (predicted - truth).square()
    if dreams:
        error -= (squares - predicted.square()) / (dreams - 1)
    return _masked_mean(model, error, batch, filtered)


def pictures(model: StateSpaceModel, states: Tensor, averaged: bool) -> Tensor:
    """Mean observations (*batch, size); NaN where a state (*batch, latent) is lost.

    Args:
        model: Any state-space model.
        states: Dreamt ones.
        averaged: Whether pictures are to be averaged with others: then they are what can be.
    """
    # What has no picture is worth none: a distribution would not take it.
    lost = ~(states.abs() < _LOST).all(-1, keepdim=True)
    if not lost.any():
        frames = model.emit(states).mean
    else:
        frames = model.emit(states.masked_fill(lost, 0)).mean.masked_fill(lost, torch.nan)
    if averaged:
        # One dream of many that diverges must not outweigh all others.
        frames = model.codec.plausible(frames.nan_to_num(0.0))
    return frames


@torch.no_grad()
def baseline_errors(
    model: StateSpaceModel,
    batch: Batch,
    filtered: int,
    predictors: Mapping[str, Predictor] | None = None,
) -> dict[str, Float[Tensor, " horizons"]]:
    """The same errors for two predictors that know nothing of dynamics, and for any others.

    Args:
        model: Whose scaling is used, and nothing else.
        batch: Episodes of T steps; padded frames do not count.
        filtered: Frames before the prediction starts, at least 1.
        predictors: Others by name. They are given the filtered frames, not those to predict.

    Returns:
        "last_frame": the last frame that was seen stands still; "mean_frame": the mean of all
        recorded frames; and the others. Units as in ``open_loop_error``.

    Raises:
        ShapeError: A predictor's observations are not of the shape of those to predict; the
            message names it and both shapes.
    """
    frames = model.scale_observations(batch.observations)
    truth = frames[:, filtered:]
    seen = batch.frame_mask[:, :filtered]
    last = (seen * torch.arange(filtered, device=seen.device)).argmax(1)
    predicted = {
        "last_frame": frames[torch.arange(len(batch), device=last.device), last].unsqueeze(1),
        "mean_frame": frames[batch.frame_mask].mean(0),
    }
    past, expected = batch.window(0, filtered - 1), batch.observations[:, filtered:].shape
    for name, predict in (predictors or {}).items():
        observations = predict(past, truth.shape[1]).to(model.device)
        if observations.shape != expected:
            raise ShapeError(
                f"baseline {name!r} must predict {tuple(expected)}, got {tuple(observations.shape)}"
            )
        predicted[name] = model.scale_observations(observations)
    return {
        name: _masked_mean(model, (truth - value).square(), batch, filtered)
        for name, value in predicted.items()
    }


@torch.no_grad()
def filter_error(model: StateSpaceModel, batch: Batch) -> Float[Tensor, " frames"]:
    """Mean squared error of the filtered frame, by frames seen since a cold start of one.

    Returns:
        Entry k: the emission's mean at frame k against the frame, after k + 1 frames seen.
    """
    beliefs = model.filter_beliefs(batch.observations, batch.actions, 1, batch.seen)
    truth = model.scale_observations(batch.observations)
    return _masked_mean(model, (model.emit(beliefs.mean).mean - truth).square(), batch, 0)


@torch.no_grad()
def frame_variance(model: StateSpaceModel, batch: Batch) -> float:
    """Variance of the recorded frames, averaged over the observation, in scaled units.

    It is the error of the best constant prediction: dividing by it gives fractions.
    """
    frames = model.scale_observations(batch.observations)[batch.frame_mask]
    missed = model.codec.missed(batch.observations)[batch.frame_mask]
    total = frames.var(0, unbiased=False).sum() + missed.mean()
    return total.item() / model.observation_spec.size


def _masked_mean(model: StateSpaceModel, squared: Tensor, batch: Batch, start: int) -> Tensor:
    """Over the observation and over episodes, of what was scaled and of what that misses."""
    mask = batch.frame_mask[:, start:].to(squared.dtype)
    missed = model.codec.missed(batch.observations[:, start:])
    error = (squared.sum(-1) + missed) / model.observation_spec.size
    return (error * mask).sum(0) / mask.sum(0).clamp_min(1)
