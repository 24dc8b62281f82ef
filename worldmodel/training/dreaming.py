"""From a trained model to a world: what its data cover, and what its dreams need.

The process noise serves two masters. In training it says what recognition may correct, and is made
wide, for wide noise makes corrections cheap; in a dream it should say what the model does not know.
So the noise of dreams is scaled until they are spread about what a filter comes to as they err.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.data import Source
from worldmodel.errors import require_at_least, require_finite
from worldmodel.evaluation.termination import predicted_ends
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.terminal import Terminal
from worldmodel.training.ends import practise_ends
from worldmodel.training.rewards import practise_rewards
from worldmodel.training.transitions import practise_transition
from worldmodel.types import Batch, Belief
from worldmodel.world.calibration import calibrate, enough, needed
from worldmodel.world.denoiser import Denoiser, DenoiserConfig
from worldmodel.world.ends import fit_ends
from worldmodel.world.members import Members, filtered_transitions
from worldmodel.world.support import Support
from worldmodel.world.trust import TrustConfig
from worldmodel.world.world import World

# Fractions of the prior's standard deviation that dreams are tried with, how many begin in each of
# how many states, and standard deviations of the states beyond which a dream is lost.
_SCALES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12)
_DREAMS, _STARTS, _LOST = 16, 500, 10.0
# Updates of the transition for each of the model's before.
PER_UPDATE = 3
# Half the way at a time: dreams stray little per step, and rare states are to stay in place.
# Every step of every dream passes the taught units: of two layers of 32 ReLUs it is four times as
# fast among many as of those that teach. Fitted to noise themselves, 32 or 64 ReLUs leave less of
# it (losses 2.30 and 2.10 against 2.40e-4 of 128 SiLUs, 2.45 once taught), but rare states to
# chance: in the pendulum's dream SAC then learned nothing (0 of 100 upright instead of 100).
FITTED: dict[str, Any] = dict(fraction=0.5, updates=12_000, hidden=128)


@dataclass(frozen=True)
class DreamConfig:
    """What is fitted to dreams after training.

    Attributes:
        denoise: Noise on the data's states, in their standard deviations, that dreams learn to
            undo, so that they stay on the data manifold. 0 leaves them alone. See
            ``world/denoiser.py``.
        distilled: Units of each layer of the small network that dreams pass for it; 0 for none, if
            the last bit of quality is worth four times the time.
        transition_updates: Gradient updates, at most, by which the transition learns after the rest
            to come over several steps to where the filter went; 0 leaves it as it is, and after few
            updates of the model there are three for each. See ``training/transitions.py``.
        trust_updates: Gradient updates that the bounds of dreams' errors are fitted by, to held-out
            episodes if there are enough (40 or more); 0 leaves them infinite.
        members: Transitions of an ensemble that shares all else; dreams go the way of the first,
            the model's own, and the bounds and ``learn --intrinsic disagreement`` go by how far
            the others are from it. 1 is no ensemble. See ``world/members.py``.
    """

    denoise: float = 0.0
    distilled: int = 32
    transition_updates: int = 4000
    trust_updates: int = 300
    members: int = 1

    def __post_init__(self) -> None:
        require_finite(0, denoise=self.denoise)
        require_at_least(0, distilled=self.distilled, trust_updates=self.trust_updates)
        require_at_least(0, transition_updates=self.transition_updates)
        require_at_least(1, members=self.members)


@torch.no_grad()
def fit_world(
    model: StateSpaceModel,
    config: DreamConfig,
    train: Batch,
    validation: Batch,
    window: int,
    seed: int,
    progress: bool,
    source: Source | None = None,
    updates: int = 0,
) -> World:
    """Cover the data by a support, and fit what keeps dreams on them.

    Args:
        model: Trained.
        config: What is fitted.
        train: Whose states are covered, and denoised: the latter the best that is known of them,
            not those after a cold start.
        validation: What the support is calibrated on, the dreams' noise, and the chance of an end.
        window: Frames that an episode's first state is read from, less one; dreams that the noise
            is fitted by last half as long.
        seed: Of the noise.
        progress: Whether to show a progress bar.
        source: Where the data come from.
        updates: Of the model that came before; the transition gets at most three times as many.

    Raises:
        DivergenceError: The states are not finite.
    """
    fewer = min(PER_UPDATE * updates, config.transition_updates)
    practise_transition(model, train, validation, fewer, seed, progress)
    beliefs = [
        model.filter_beliefs(batch.observations, batch.actions, seen=batch.seen)
        for batch in (train, validation)
    ]
    masks = train.frame_mask, validation.frame_mask
    world = World(model, _fit_support(model, beliefs, masks, seed), source=source)
    practise_rewards(model, train, validation, (beliefs[0].mean, beliefs[1].mean), seed)
    if config.denoise:
        _fit_denoiser(world, config, train, window, progress)
    world.dream_noise = _fit_noise(world, validation, beliefs[1].mean, window, seed)
    if world.denoiser is not None:
        _calibrate(world, world.denoiser, validation, window, seed)
    if config.members > 1:
        prefix = min(window, int(train.mask.sum(1).min())) + 1
        world.members = Members(model, config.members)
        world.members.fit(filtered_transitions(model, train, prefix), seed)
    if model.can_terminate:
        practise_ends(world, train, validation, beliefs[0].mean, seed)
        fitted = fit_ends(*predicted_ends(world, validation, seed))
        world.ends = replace(fitted, reward=_paid_at_end(model, train, beliefs[0].mean))
    return world


def _paid_at_end(model: StateSpaceModel, batch: Batch, means: Tensor) -> float:
    """Mean of what the last steps of episodes that ended paid beyond what the model expects."""
    ended = batch.terminated & batch.mask
    if batch.rewards is None or not model.knows_reward or not ended.any():
        return 0.0
    expected = model.reward(means[:, :-1][ended], batch.actions[ended], means[:, 1:][ended])
    return (batch.rewards[ended].double() - expected).mean().item()


def _fit_denoiser(
    world: World, config: DreamConfig, train: Batch, window: int, progress: bool
) -> None:
    """Of the states; arguments as of ``fit_world``."""
    model = world.model
    # No further than the shortest episode: padding is no observation.
    prefix = min(window, int(train.mask.sum(1).min())) + 1
    belief = model.filter_beliefs(train.observations, train.actions, prefix, train.seen)
    settings = DenoiserConfig(config.denoise, distilled=config.distilled, **FITTED)
    world.denoiser = Denoiser(model.latent_size, settings).to(model.device, model.dtype)
    world.denoiser.fit(belief.mean[train.frame_mask], progress)


def fit_trust(world: World, config: DreamConfig, validation: Batch, progress: bool) -> None:
    """Let a world know how far its dreams can be believed, if there is enough to tell it by."""
    settings = TrustConfig(updates=config.trust_updates)
    if settings.updates and enough(validation, settings):
        calibrate(world, validation, settings, progress)
    elif settings.updates and progress:
        Terminal().print(
            f"note: {len(validation.actions)} validation episodes are too few to bound errors of "
            f"dreams by ({needed(settings)} are needed), so that info['error_bound'] is infinite: "
            "record more, or run worldmodel calibrate"
            f"{'' if world.source else ' --dataset DATA, a recording with as many for validation'}",
            soft_wrap=True,
        )


def _fit_support(
    model: StateSpaceModel, beliefs: Sequence[Belief], masks: Sequence[Tensor], seed: int
) -> Support:
    """Cover the states that a filter believes in on the data, from a cold start of one frame.

    Beliefs are sampled, not averaged: a dream has process noise too.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    samples = []
    for belief, mask in zip(beliefs, masks, strict=True):
        noise = torch.randn(belief.mean.shape, generator=generator, device=model.device)
        samples.append((belief.mean + belief.scale * noise)[mask])
    support = Support(model.latent_size).to(model.device, model.dtype)
    support.fit(*samples)
    return support


def _fit_noise(
    world: World, batch: Batch, means: Float[Tensor, "n frames latent"], window: int, seed: int
) -> float:
    """The fraction of the process noise with which dreams tell best what a filter comes to.

    By their energy score, E|X - y| - E|X - X'| / 2, which dreams that are certain lose where they
    err, and vague ones everywhere. The squared error of their mean says nothing of noise that
    averages out. Of fractions that are as good as the best, as far as so many dreams tell, the
    smallest: a score of states weighs what decides pictures too little.

    Source: Gneiting and Raftery 2007, "Strictly Proper Scoring Rules, Prediction, and Estimation";
    the rule of one standard error, Breiman et al. 1984, "Classification and Regression Trees".
    """
    model, known = world.model, batch.frame_mask
    # A filter first has to find its state.
    steps = max(1, min(window, batch.steps) // 2)
    begin = torch.arange(steps, batch.steps + 1 - steps, steps, device=model.device)
    episodes, column = known[:, begin].nonzero().unbind(1)
    if not len(episodes):
        return world.dream_noise
    generator = torch.Generator(model.device).manual_seed(seed)
    chosen = torch.randperm(len(episodes), generator=generator, device=model.device)[:_STARTS]
    rows, first = episodes[chosen, None], begin[column[chosen], None]
    along = first + torch.arange(steps + 1, device=model.device)
    centre, std = means[known].mean(0), means[known].std(0).clamp_min(1e-6)

    def standard(states: Tensor) -> Tensor:
        # One dream of many that diverges must not outweigh all others.
        return ((states - centre) / std).nan_to_num(_LOST).clamp(-_LOST, _LOST)

    truth, looked = standard(means[rows, along[:, 1:]]), known[rows, along[:, 1:]]
    start = means[rows, first].squeeze(1).repeat(_DREAMS, 1)
    actions = batch.actions[rows, along[:, :-1]].repeat(_DREAMS, 1, 1)
    scores = []
    for scale in _SCALES:
        world.dream_noise = scale
        generator.manual_seed(seed)
        dreamt = standard(world.rollout(start, actions, generator)[:, 1:])
        dreamt = dreamt.unflatten(0, (_DREAMS, -1))
        missed = (dreamt - truth).norm(dim=-1).mean(0)
        apart = [(dreamt - dreamt.roll(k, 0)).norm(dim=-1).mean(0) for k in range(1, _DREAMS)]
        score = (missed - torch.stack(apart).mean(0) / 2) * looked
        scores.append(score.sum(1) / looked.sum(1).clamp_min(1))
    told = torch.stack(scores)
    worse = told - told[told.mean(1).argmin()]
    error = worse.std(1, correction=0) / math.sqrt(worse.shape[1])
    return min(compress(_SCALES, (worse.mean(1) <= error).tolist()))


def _calibrate(world: World, denoiser: Denoiser, batch: Batch, window: int, seed: int) -> None:
    """How far the denoiser moves noisy predictions from filtered states, one step ahead.

    The first states are the best that is known of them: those after a cold start are no states of
    the data, and a denoiser that may move them that far may hide anything.
    """
    model = world.model
    prefix = min(window, int(batch.mask.sum(1).min())) + 1
    beliefs = model.filter_beliefs(batch.observations, batch.actions, prefix, batch.seen)
    known = batch.mask & batch.frame_mask[:, :-1]
    state = beliefs.mean[:, :-1][known]
    generator = torch.Generator(model.device).manual_seed(seed)
    noise = torch.randn((len(state), model.noise_size), generator=generator, device=model.device)
    noise = world.dream_noise * noise
    denoiser.calibrate(model.transition(state, batch.actions[known], noise.to(state)))
