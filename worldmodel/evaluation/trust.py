"""How far dreams can be believed, judged on ways to act that the model was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from worldmodel.data import Source
from worldmodel.data.probes import probes_for
from worldmodel.data.record import record, reset_seeds
from worldmodel.errors import require_finite
from worldmodel.types import Batch
from worldmodel.world.believed import BAD
from worldmodel.world.calibration import Rollouts, first_looks, rollouts, stream_variance
from worldmodel.world.trust import TrustConfig
from worldmodel.world.world import World

# Horizons that are told, in steps.
HORIZONS = (1, 5, 10, 20, 30, 50)
# Bins of the reliability diagram.
_BINS = 10


@dataclass(frozen=True)
class Judged:
    """Errors of dreams and what bounded them, at every step.

    Attributes:
        error: (n, T), fraction of the variance; NaN where nothing was recorded.
        bound: (n, T).
        reward_error: (n, T), absolute.
        reward_bound: (n, T).
        distance: (n, T), the largest so far from the data, in radii.
    """

    error: Float[np.ndarray, "n steps"]
    bound: Float[np.ndarray, "n steps"]
    reward_error: Float[np.ndarray, "n steps"]
    reward_bound: Float[np.ndarray, "n steps"]
    distance: Float[np.ndarray, "n steps"]

    @classmethod
    def of(cls, world: World, dreams: Rollouts) -> Judged:
        """Of dreams along recorded episodes; without a calibration bounds are infinite."""
        errors = dreams.errors.double().cpu().numpy()
        bounds = np.full_like(errors, np.inf)
        if world.trust is not None:
            bounds = dreams.bounds(world.trust).double().cpu().numpy()
        away = dreams.distance.cummax(1).values.double().cpu().numpy()
        return cls(errors[..., 0], bounds[..., 0], errors[..., 1], bounds[..., 1], away)


def record_probes(
    source: Source, world: World, episodes: int, steps: int, seed: int
) -> tuple[dict[str, Batch], dict[str, str]]:
    """Episodes of the real system under standard probes, and why some cannot be made.

    Args:
        source: The real environment.
        world: Whose actions are probed.
        episodes: Of each probe.
        steps: Of each episode, at most.
        seed: Of actions and environments.
    """
    able, unable = probes_for(world.model.action_spec)
    # Those that are stepped one by one gain nothing by being many, and every renderer takes memory.
    together = episodes if source.native else 1
    batches = {}
    for i, (name, process) in enumerate(able.items()):
        env = source.make_vec(together)
        batches[name] = record(env, episodes, steps, process, seed + i)
        env.close()
    return batches, unable


def probe_seeds(batches: Mapping[str, Batch], seed: int) -> dict[str, list[int]]:
    """Of the resets of episodes that ``record_probes`` has recorded under a seed."""
    return {n: reset_seeds(seed + i, len(b)) for i, (n, b) in enumerate(batches.items())}


def joined(batches: Mapping[str, Batch]) -> Batch:
    """All episodes of several recordings of as many steps, in one."""
    parts = [dict(batch.items()) for batch in batches.values()]
    return Batch(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def trust_report(
    world: World,
    probes: Mapping[str, Batch],
    limit: float = BAD,
    looks: int = 5,
    steps: int = 50,
    seed: int = 0,
) -> dict[str, Any]:
    """What a user needs to know before believing a dream; all numbers, ready for JSON.

    Args:
        world: With bounds or without.
        probes: Recorded episodes by how they were acted in.
        limit: Error, as a fraction of the variance, that the user allows; more is bad.
        looks: Frames that are filtered before dreams begin.
        steps: Of the longest dreams.
        seed: Of the process noise.

    Returns:
        ``all`` and every probe by name: see ``summary``; ``limit`` and ``coverage`` as asked for.

    Raises:
        SpecError: There are no episodes with a step.
        ConfigError: ``limit`` is not finite or negative.
    """
    require_finite(0, limit=limit)
    coverage = world.trust.config.coverage if world.trust else None
    config = replace(TrustConfig(), looks=looks, steps=steps, seed=seed)
    variance = world.trust.variance if world.trust else None
    world.model.eval()
    # As many of every probe, whose episodes may end sooner or later: bounds are of that many.
    lengths = [batch.mask.sum(1) for batch in probes.values()]
    longest = min(int(each.max()) for each in lengths)
    first = min(first_looks(torch.cat(lengths), config), max(1, longest))
    judged = {}
    for name, batch in probes.items():
        batch = batch.to(world.model.device)
        shares = stream_variance(world, batch) if variance is None else variance
        judged[name] = Judged.of(
            world, rollouts(world, batch, config, variance=shares, looks=first)
        )
    parts = {name: summary(each, limit) for name, each in judged.items()}
    return {
        "limit": limit,
        "coverage": coverage,
        "all": summary(_together(list(judged.values())), limit),
        "probes": parts,
    }


def _together(judged: list[Judged]) -> Judged:
    steps = min(each.error.shape[1] for each in judged)
    names = ("error", "bound", "reward_error", "reward_bound", "distance")
    return Judged(*(np.concatenate([getattr(e, n)[:, :steps] for e in judged]) for n in names))


def summary(judged: Judged, limit: float) -> dict[str, Any]:
    """Of some dreams, by horizon in steps.

    Returns:
        ``horizons``; at each of them ``error`` (mean), ``median``, ``inside`` and ``outside`` the
        support (mean, None where no dream is), ``bad`` (fraction), ``covered`` and
        ``reward_covered`` (fractions whose bound holds), ``sharpness`` (median bound over median
        error), ``auroc`` of bad by the bound and ``auroc_distance`` by the largest distance so far
        (None where all are bad or none is); ``believable``, steps until the median bound exceeds
        the limit; ``reliability``; and by step ``error_by_step``, its median and its 90 % quantile,
        and ``bound_by_step``, its median; None where nothing is known, or it is infinite.
    """
    steps = judged.error.shape[1]
    horizons = [h for h in HORIZONS if h <= steps]
    found: dict[str, Any] = {"horizons": horizons}
    rows = [_at(judged, h - 1, limit) for h in horizons]
    found |= {name: [row[name] for row in rows] for name in rows[0]}
    beyond = np.median(judged.bound, 0) > limit
    found["believable"] = int(beyond.argmax()) if beyond.any() else steps
    found["reliability"] = _reliability(judged)
    quantiles = {"median": 0.5, "ninth": 0.9}
    known = [errors[~np.isnan(errors)] for errors in judged.error.T]
    found["error_by_step"] = {
        name: [float(np.quantile(errors, q)) if len(errors) else None for errors in known]
        for name, q in quantiles.items()
    }
    found["bound_by_step"] = _finite(np.median(judged.bound, 0))
    return found


def _at(judged: Judged, t: int, limit: float) -> dict[str, float | None]:
    known = ~np.isnan(judged.error[:, t])
    error, bound = judged.error[known, t], judged.bound[known, t]
    inside, bad = judged.distance[known, t] <= 1, error > limit
    paid = ~np.isnan(judged.reward_error[:, t])
    held = judged.reward_error[paid, t] <= judged.reward_bound[paid, t]
    middle = float(np.median(error)) if len(error) else 0.0
    sharp = float(np.median(bound)) / middle if middle and np.isfinite(bound).any() else None
    return {
        "error": _mean(error),
        "median": _mean(np.median(error, keepdims=True)) if len(error) else None,
        "inside": _mean(error[inside]),
        "outside": _mean(error[~inside]),
        "bad": _mean(bad),
        "covered": _mean(error <= bound) if np.isfinite(bound).any() else None,
        "reward_covered": _mean(held) if paid.any() and np.isfinite(bound).any() else None,
        "sharpness": sharp if sharp is not None and np.isfinite(sharp) else None,
        "auroc": auroc(bound, bad) if np.isfinite(bound).any() else None,
        "auroc_distance": auroc(judged.distance[known, t], bad),
    }


def _finite(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) and np.isfinite(values.mean()) else None


def auroc(score: Float[np.ndarray, " n"], bad: Bool[np.ndarray, " n"]) -> float | None:
    """Probability that one that is bad has the greater score than one that is not; ties half."""
    worse, better = int(bad.sum()), int((~bad).sum())
    if not worse or not better:
        return None
    score = np.nan_to_num(score, nan=np.inf, posinf=np.finfo(float).max)
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((ranks[bad].sum() - worse * (worse + 1) / 2) / (worse * better))


def _reliability(judged: Judged) -> dict[str, list[float]]:
    """By tenths of all bounds that are finite: their median, and the fraction that holds.

    Of bounds that are right wherever they are, that is the coverage in every tenth.
    """
    known = np.isfinite(judged.bound) & np.isfinite(judged.error)
    bound, error = judged.bound[known], judged.error[known]
    if len(bound) < _BINS:
        return {"bound": [], "covered": []}
    parts = np.array_split(np.argsort(bound), _BINS)
    return {
        "bound": [float(np.median(bound[part])) for part in parts],
        "covered": [float((error[part] <= bound[part]).mean()) for part in parts],
    }
