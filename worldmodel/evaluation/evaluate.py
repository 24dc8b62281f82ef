"""One call that measures a model on a test split: the paper's tables, prediction, the filter.

Source: Karl et al. 2017, section 4.1, tables 1 and 2; the prediction error and the filter's
convergence are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from worldmodel.data import Dataset
from worldmodel.errors import DivergenceError, SpecError
from worldmodel.evaluation.dimensions import used_dimensions
from worldmodel.evaluation.identification import (
    Regression,
    Targets,
    r_squared,
    regress,
    state_targets,
)
from worldmodel.evaluation.learned import learned
from worldmodel.evaluation.prediction import (
    Predictor,
    baseline_errors,
    filter_error,
    frame_variance,
    open_loop_error,
)
from worldmodel.evaluation.recovery import recovery
from worldmodel.evaluation.termination import termination_quality
from worldmodel.evaluation.tracking import (
    ceiling,
    fitted_line,
    tracked_by_line,
    tracked_by_network,
)
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.models.terms import Terms
from worldmodel.progress import Progress
from worldmodel.types import Batch
from worldmodel.world.world import World

# Dreams with noise that estimate a predictive mean.
DREAMS = 32


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and the samples that figures of it need.

    Attributes:
        metrics: Nested dictionaries and lists of finite numbers and None, ready for JSON. ``r2``
            and ``loglik`` (nats, summed over the samples) by variable; ``bound`` with
            ``lower_bound`` (missing if the model's terms make none),
            ``reconstruction`` and ``kl`` in nats per time step, ``distortion``, the squared error
            of the reconstruction per scalar, in scaled units, and ``weight_kl``, the weights' KL
            shared among the training frames, which the bound of the paper's table leaves out;
            ``prediction_mse``, of one dream without noise, ``prediction_mse_averaged``, of the
            predictive mean, ``prediction_mse_baseline`` by horizon and ``filter_error_by_frames``,
            all in scaled units ([0, 1] for pixels), with ``prediction_variance`` to divide them by;
            ``filter_r2_by_frames`` by variable; ``tracking``, R^2 of the live filter,
            ``tracking_network``, the same read off by a small network, and ``ceiling``, that of a
            supervised network on frame pairs, by variable and stretch.
            ``recovery``, frames until the live filter is back after ten that it did not see and
            after a belief of another episode's (None: not within 30), by variable; None if test
            episodes are too short. ``dimensions``, how many of the latent state's the model uses.
            ``learned`` as from ``evaluation.learned.learned``; ``termination`` as from
            ``termination_quality``, if an episode ended.
            Without ground truth ``r2``, ``loglik``, ``filter_r2_by_frames``, these three
            and ``recovery`` are missing.
        filtered: Frames that were filtered before prediction began.
        latents: Sampled latents (n, latent) of the first ``filtered`` frames of every episode.
        truth: Ground truth (n,) at the same frames, by variable; empty if there is none.
        fitted: What the regression on the latents makes of it, (n,) by variable.
    """

    metrics: dict[str, Any]
    filtered: int
    latents: Float[np.ndarray, "n latent"]
    truth: dict[str, Float[np.ndarray, " n"]]
    fitted: dict[str, Float[np.ndarray, " n"]]


@torch.no_grad()
def evaluate(
    world: World,
    dataset: Dataset,
    seed: int = 0,
    train_steps: int = 14,
    horizon: int = 100,
    progress: bool = False,
    targets: Targets = state_targets,
    baselines: Mapping[str, Predictor] | None = None,
    supervised: bool = False,
) -> Evaluation:
    """Measure a world on the test split.

    The bound and the regressions use the first ``train_steps + 1`` frames of every episode, which
    is what the model was trained on; prediction starts from there. Of large splits a sample is
    looked at (``Episodes.sample``): of up to 250,000 frames or 64 MB, 256 MB of training data; of
    small ones that is all.

    Args:
        world: Of any model, whose mode (training or evaluation) is restored afterwards.
        dataset: With a split "test".
        seed: Of the sampled latents.
        train_steps: Steps of a training window; half of the longest test episode's where that is
            no longer than a window.
        horizon: Steps to predict at most; fewer if the episodes are shorter.
        progress: Whether to show a progress bar.
        targets: Names the ground-truth variables that the latent state ought to hold.
        baselines: Predictors to compare with by name, beside the last frame and the mean frame.
        supervised: Whether to train the networks that give the ceiling and ``tracking_network``;
            about ten seconds.

    Raises:
        ShapeError: A baseline predicts observations of another shape.
        SpecError: The dataset does not fit the model, has no split "test", its test frames
            are all the same, or no test episode has two steps.
        DivergenceError: States that are inferred or dreamt are not finite.
    """
    model = world.model
    dataset.check_fits(model.observation_spec, model.action_spec)
    test = dataset.test.sample(train_steps + horizon).to(model.device)
    train_steps = _judged_from(test, train_steps)
    _require_change(model, test)
    training = model.training
    model.eval()
    columns = (
        TextColumn("evaluate"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    metrics: dict[str, Any] = {}
    followed: tuple[Batch, Batch] | None = None
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("bound", total=4)
        start = test.window(0, train_steps)
        terms = model.terms(start, torch.Generator(model.device).manual_seed(seed))
        frames = dataset.frames("train") if "train" in dataset.splits else dataset.frames("test")
        metrics["bound"] = bound(terms, frames)
        metrics["bound"]["distortion"] = _squared_error(model, start, terms)
        if not model.is_bound:
            del metrics["bound"]["lower_bound"]
        bar.update(task, advance=1, description="identification")
        latents, truth, fitted, found = _identify(terms, start, targets)
        metrics.update(found)
        bar.update(task, advance=1, description="prediction")
        metrics.update(_predict(world, test, train_steps + 1, baselines, seed))
        metrics["learned"] = learned(world, start, max(1, train_steps // 2))
        if ends := termination_quality(world, test):
            metrics["termination"] = ends
        bar.update(task, advance=1, description="filter")
        metrics["filter_error_by_frames"] = filter_error(model, start).tolist()
        if test.states is not None:
            metrics["filter_r2_by_frames"] = filter_r2(model, test, train_steps, targets)
        if test.states is not None and "train" in dataset.splits:
            followed = dataset.train.followed(), dataset.test.sample()
            known, asked = (batch.to(model.device) for batch in followed)
            line = fitted_line(model, known, targets)
            metrics["tracking"] = tracked_by_line(model, line, asked, targets)
            generator = torch.Generator(model.device).manual_seed(seed)
            metrics["recovery"] = recovery(model, line, asked, targets, generator)
        generator = torch.Generator(model.device).manual_seed(seed)
        used = used_dimensions(model, test, generator)
        metrics["dimensions"] = {"used": used, "of": model.latent_size}
        bar.update(task, advance=1, description="")
    if supervised and followed and "validation" in dataset.splits:
        read = followed[0], dataset.validation.sample(), followed[1]
        metrics["ceiling"] = ceiling(model, *read, targets, seed, progress=progress)
        known, held_out, asked = (batch.to(model.device) for batch in read)
        found = tracked_by_network(model, known, held_out, asked, targets, seed)
        metrics["tracking_network"] = found
    model.train(training)
    return Evaluation(metrics, train_steps + 1, latents, truth, fitted)


def bound(terms: Terms, training_frames: int) -> dict[str, float]:
    """The paper's table 2: nats per time step, averaged over steps and episodes.

    Args:
        terms: Of the test episodes, every frame observed.
        training_frames: Frames that the KL of the transition's weights is shared among.
    """
    frames = terms.frame_mask.sum()
    reconstruction = (terms.reconstruction.double().sum() / frames).item()
    kl = (terms.rate.double().sum() / frames).item()
    return {
        "lower_bound": reconstruction - kl,
        "reconstruction": reconstruction,
        "kl": kl,
        "weight_kl": terms.weight_kl.item() / training_frames,
    }


def _squared_error(model: StateSpaceModel, batch: Batch, terms: Terms) -> float:
    """Of the frames that sampled states show, per scalar, whatever the emission."""
    shown = model.emit(terms.states).mean
    squared = (shown - model.scale_observations(batch.observations)).square().sum(-1)
    error = (squared + model.codec.missed(batch.observations))[terms.frame_mask]
    return error.mean(dtype=torch.float64).item() / model.observation_spec.size


@torch.no_grad()
def filter_r2(
    model: StateSpaceModel, batch: Batch, settled: int, targets: Targets
) -> dict[str, list[float]]:
    """How well the filtered state holds the truth, by frames seen since a cold start of one.

    One linear map from latent to true state is fitted to all frames after the first ``settled``,
    and held fixed: it says how far the filter still is from where it will settle.

    Args:
        model: Any state-space model.
        batch: Episodes longer than ``settled``, with states.
        settled: Steps after which the filter counts as settled.
        targets: Names the variables.

    Returns:
        R^2 over episodes by variable; entry k is after k + 1 frames, up to ``settled + 1``.
    """
    assert batch.states is not None
    beliefs = model.filter_beliefs(batch.observations, batch.actions, seen=batch.seen)
    latents = beliefs.mean.cpu().numpy()
    mask = batch.frame_mask.cpu().numpy()
    named = {k: v.astype(np.float64) for k, v in targets(batch.states.cpu().numpy()).items()}
    truth = np.stack(list(named.values()), -1)
    late = mask[:, settled:]
    fit = regress(latents[:, settled:][late], truth[:, settled:][late])
    rows = []
    for k in range(settled + 1):
        seen = mask[:, k]
        rows.append(r_squared(truth[seen, k], fit.predict(latents[seen, k])))
    return dict(zip(named, np.stack(rows, 1).tolist(), strict=True))


def _require_change(model: StateSpaceModel, test: Batch) -> None:
    """Errors are told as fractions of the frames' variance."""
    seen = test.observations[test.frame_mask]
    streams = [seen] if isinstance(seen, torch.Tensor) else seen.values()
    # Sums of equal numbers are not exact; and what varies by rounding only has no weight.
    still = all(bool((values == values[:1]).all()) for values in streams)
    if still or not frame_variance(model, test) > 0:
        raise SpecError(
            "all frames of the test episodes are the same, so that no prediction can be judged: "
            "look at what the environment shows"
        )


def _judged_from(test: Batch, train_steps: int) -> int:
    """After how many steps predictions begin."""
    if test.steps < 2:
        raise SpecError(
            "test episodes must have at least 2 steps, so that there is something to filter and "
            f"something to predict; the longest has {test.steps}"
        )
    return train_steps if train_steps < test.steps else test.steps // 2


def _identify(
    terms: Terms, batch: Batch, targets: Targets
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """Sampled latents of recorded frames, truth, fit, and the metrics of the fit."""
    mask = batch.frame_mask
    latents = terms.states[mask].cpu().numpy()
    if batch.states is None:
        return latents, {}, {}, {}
    truth = targets(batch.states[mask].cpu().numpy())
    fit: Regression = regress(latents, np.stack(list(truth.values()), -1))
    fitted = dict(zip(truth, fit.prediction.T, strict=True))
    metrics = {
        "r2": dict(zip(truth, fit.r2.tolist(), strict=True)),
        "loglik": dict(zip(truth, fit.log_likelihood.tolist(), strict=True)),
    }
    return latents, truth, fitted, metrics


def _predict(
    world: World,
    test: Batch,
    filtered: int,
    predictors: Mapping[str, Predictor] | None,
    seed: int,
) -> dict[str, Any]:
    model = world.model
    baselines = baseline_errors(model, test, filtered, predictors)
    generator = torch.Generator(model.device).manual_seed(seed)
    error = open_loop_error(world, test, filtered)
    if not torch.isfinite(error).all():
        steps = int(torch.isfinite(error).long().cumprod(0).sum())
        raise DivergenceError(f"dreams diverge: not all states are finite after {steps} steps")
    averaged = open_loop_error(world, test, filtered, DREAMS, generator)
    if not torch.isfinite(averaged).all():
        raise DivergenceError("dreams with noise diverge: their mean is not finite")
    return {
        "prediction_mse": error.tolist(),
        "prediction_mse_averaged": averaged.tolist(),
        "prediction_mse_baseline": {name: error.tolist() for name, error in baselines.items()},
        "prediction_variance": frame_variance(model, test),
    }
