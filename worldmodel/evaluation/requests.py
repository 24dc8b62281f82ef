"""What to record next: the states at which dreams under standard probes begin to fail.

A dream that has failed says little of where it went wrong: all that follows is wrong as well. So a
request begins some steps before its error passes the limit, at a state that a filter believes in,
and acts as the probe did there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.data import Source
from worldmodel.data.fulfilling import resets_to
from worldmodel.data.requests import Request, Requests, Wanted
from worldmodel.errors import require_at_least, require_finite
from worldmodel.evaluation.trust import Judged
from worldmodel.types import Batch
from worldmodel.world.believed import BAD
from worldmodel.world.calibration import rollouts, stream_variance
from worldmodel.world.trust import TrustConfig
from worldmodel.world.world import World

_MOST = 1e6  # of errors; beyond, they say no more


@dataclass(frozen=True)
class AskConfig:
    """How requests are made.

    Attributes:
        steps: Of a requested episode, from where a dream begins to fail.
        lead: Steps before its error passes the limit at which it is taken to begin to fail.
        regions: Most requests.
        looks: Frames that are filtered before dreams begin.
        horizon: Steps of the longest dreams.
    """

    steps: int = 14
    lead: int = 4
    regions: int = 8
    looks: int = 5
    horizon: int = 50

    def __post_init__(self) -> None:
        least = {name: getattr(self, name) for name in ("steps", "regions", "looks", "horizon")}
        require_at_least(1, **least)
        require_at_least(0, lead=self.lead)


@dataclass(frozen=True)
class Failing:
    """Dreams that fail, n of them.

    Attributes:
        probe: Whose actions each was under.
        episode: Which of the probe's it is along.
        frame: Of the episode, at which it begins to fail.
        latent: (n, latent), what a filter believes in there.
        weight: How much is wrong: its mean error, each step's counted up to the variance.
        error: At its end.
        bound: Of that.
    """

    probe: list[str]
    episode: Int[np.ndarray, " n"]
    frame: Int[np.ndarray, " n"]
    latent: Float[np.ndarray, "n latent"]
    weight: Float[np.ndarray, " n"]
    error: Float[np.ndarray, " n"]
    bound: Float[np.ndarray, " n"]


def ask(
    world: World,
    source: Source,
    probes: Mapping[str, Batch],
    seeds: Mapping[str, list[int]],
    known: Float[np.ndarray, "k latent"],
    frames: int,
    limit: float = BAD,
    config: AskConfig = AskConfig(),
) -> Requests:
    """What is to be recorded, so that dreams under the probes fail less.

    Args:
        world: Whose dreams are looked at.
        source: The environment that the probes were recorded in.
        probes: Recorded episodes by how they were acted in.
        seeds: Of their resets.
        known: Filtered states of training data, a sample.
        frames: That may be asked for, at most.
        limit: Error, as a fraction of the variance, from which on a dream fails.
        config: How.

    Returns:
        Requests, those first whose dreams have most of all that is wrong; none if no dream fails.

    Raises:
        ConfigError: ``limit`` is not finite, or a number is negative.
        SpecError: No episode has a step.
    """
    require_finite(0, limit=limit)
    require_at_least(0, frames=frames)
    world.model.eval()
    failing = _together([_failing(world, n, b, limit, config) for n, b in probes.items()])
    if not len(failing.weight):
        return Requests(source, False, limit, ())
    scale, radius = world.support.scale.cpu().numpy(), float(world.support.radius)
    middles, region = grouped(failing.latent / scale, failing.weight, radius, config.regions)
    shares = np.bincount(region, failing.weight, len(middles)) / failing.weight.sum()
    resettable = _resettable(source, failing, probes)
    found, spare = [], 0.0
    for i in np.argsort(-shares, kind="stable"):
        chosen = np.flatnonzero(region == i)
        chosen = chosen[np.argsort(-failing.weight[chosen], kind="stable")]
        spare += shares[i] * frames
        episodes = _episodes(failing, chosen, probes, seeds, spare, resettable, config)
        spare -= sum(episode.frames for episode in episodes)
        away = np.linalg.norm((known - failing.latent[middles[i]]) / scale, axis=1)
        near, share = int((away <= radius).sum()), float(shares[i])
        request = _request(failing, chosen, int(middles[i]), probes, near, share, episodes)
        found += [request] if episodes else []
    return Requests(source, resettable, limit, tuple(found))


def _resettable(source: Source, failing: Failing, probes: Mapping[str, Batch]) -> bool:
    """Whether the environment can be reset to the first of the states."""
    states = probes[failing.probe[0]].states
    if states is None:
        return False
    return resets_to(source, states[failing.episode[0], failing.frame[0]].double().cpu().numpy())


def _request(
    failing: Failing,
    chosen: Int[np.ndarray, " k"],
    middle: int,
    probes: Mapping[str, Batch],
    near: int,
    share: float,
    episodes: tuple[Wanted, ...],
) -> Request:
    """For some of the dreams, about one of them."""
    states, names = probes[failing.probe[middle]].states, [failing.probe[k] for k in chosen]
    place = failing.episode[middle], failing.frame[middle]
    bound = float(np.median(failing.bound[chosen]))
    return Request(
        latent=failing.latent[middle].astype(float).tolist(),
        state=None if states is None else states[place].double().tolist(),
        probe=max(sorted(set(names)), key=names.count),
        dreams=len(chosen),
        error=float(failing.error[chosen].mean()),
        bound=bound if np.isfinite(bound) else None,
        near=near,
        share=share,
        episodes=episodes,
    )


def grouped(
    points: Float[np.ndarray, "n d"], weights: Float[np.ndarray, " n"], radius: float, most: int
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " n"]]:
    """Points in groups about some of them: greedily those that have most weight about them.

    Args:
        points: In units in which distances compare.
        weights: Of the points.
        radius: About a middle, within which a point is its.
        most: Groups.

    Returns:
        Which points are middles, and of every point the middle that is nearest.
    """
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    left, middles = weights.copy(), []
    while len(middles) < most and left.max() > 0:
        middles.append(int(((apart <= radius) @ left).argmax()))
        left[apart[middles[-1]] <= radius] = 0
    return np.array(middles), apart[:, middles].argmin(1)


@torch.no_grad()
def _failing(world: World, name: str, batch: Batch, limit: float, config: AskConfig) -> Failing:
    """Dreams along a probe that fail, one from the beginning of every episode."""
    batch = batch.to(world.model.device)
    looks = min(config.looks, max(1, int(batch.mask.sum(1).median()) // 2))
    window = batch.window(0, min(batch.steps, looks - 1 + config.horizon))
    settings = replace(TrustConfig(), looks=looks, steps=window.steps + 1 - looks)
    variance = world.trust.variance if world.trust else stream_variance(world, batch)
    dreams = rollouts(world, window, settings, variance=variance).first()
    judged = Judged.of(world, dreams)
    known = window.frame_mask[dreams.episodes, looks:].cpu().numpy()
    # A dream that is not finite fails as well.
    error = np.nan_to_num(judged.error, nan=_MOST, posinf=_MOST).clip(max=_MOST) * known
    rows = np.flatnonzero((error > limit).any(1))
    last = known[rows].shape[1] - 1 - known[rows, ::-1].argmax(1)
    onset = looks - 1 + (error[rows] > limit).argmax(1)
    frame = np.maximum(onset - config.lead, 0)
    episode = dreams.episodes.cpu().numpy()[rows]
    beliefs = world.model.filter_beliefs(window.observations, window.actions, looks, window.seen)
    return Failing(
        [name] * len(rows),
        episode,
        frame,
        _numpy(beliefs.mean)[episode, frame],
        np.minimum(error[rows], 1).sum(1) / known[rows].sum(1),
        error[rows, last],
        judged.bound[rows, last],
    )


def _numpy(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()


def _together(parts: list[Failing]) -> Failing:
    names = ("episode", "frame", "latent", "weight", "error", "bound")
    joined = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    return Failing([name for part in parts for name in part.probe], *joined)


def _episodes(
    failing: Failing,
    chosen: Int[np.ndarray, " k"],
    probes: Mapping[str, Batch],
    seeds: Mapping[str, list[int]],
    frames: float,
    resettable: bool,
    config: AskConfig,
) -> tuple[Wanted, ...]:
    """Of a region, one along every dream, while there are frames; those that fail most first."""
    found: list[Wanted] = []
    for k in chosen:
        batch, episode = probes[failing.probe[k]], int(failing.episode[k])
        length = int(batch.mask[episode].sum())
        begin = max(0, min(int(failing.frame[k]), length - config.steps))
        first, options = 0, None
        if resettable:
            assert batch.states is not None, "else nothing could be reset to"
            first, options = begin, {"state": batch.states[episode, begin].double().tolist()}
        actions = batch.actions[episode, first : min(begin + config.steps, length)]
        wanted = Wanted(options, seeds[failing.probe[k]][episode], actions.cpu().numpy())
        frames -= wanted.frames
        if frames < 0:
            break
        found.append(wanted)
    return tuple(found)
