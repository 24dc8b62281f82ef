"""What a transition learns after the model: to come, over several steps, to where the filter went.

Beside the model it learns single steps, from states that the next frame corrects. Nothing corrects
a dream: it goes on from its own errors, and has to be right there, too.

Source: Hafner et al. 2019, "Learning Latent Dynamics for Planning from Pixels" (latent
overshooting: predictions of several steps meet what a filter believes). Differs: after the rest,
which stays as it is; of means, not of distributions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodel.models.ssm import StateSpaceModel
from worldmodel.progress import track
from worldmodel.types import Batch
from worldmodel.world.members import transition_weights
from worldmodel.world.strays import strays

# Times that the transition learns where the filter went, which then goes with it; and by what
# fraction errors have to fall: less is lost again on other episodes (Acrobot's pictures, 8 %).
_TURNS, _WORTH = 2, 0.1
# Frames that a filter has to find its state in.
_LOOKS = 5
# Steps that are learned, and that are judged; windows of them.
_LEARNED, _BATCH = 12, 64
_JUDGED, _MOST = 30, 500
_RATE, _NORM = 3e-3, 10.0


@dataclass(frozen=True)
class _Stretches:
    """Windows of recorded episodes.

    Attributes:
        means: What a filter believed in, (episodes, frames, latent).
        actions: (episodes, steps, act).
        episodes: Of which episode each window is.
        begins: Its first frame.
        steps: Of each.
    """

    means: Float[Tensor, "episodes frames latent"]
    actions: Float[Tensor, "episodes steps act"]
    episodes: Int[Tensor, " n"]
    begins: Int[Tensor, " n"]
    steps: int

    @classmethod
    def of(cls, batch: Batch, means: Tensor, first: int, steps: int) -> _Stretches:
        """All that begin at frame ``first`` or later, as long as half of the episodes allow.

        Where a filter lost itself there is nowhere to go.
        """
        lengths = batch.mask.sum(1)
        steps = max(1, min(steps, int(lengths.median()) - first))
        at = torch.arange(batch.steps + 1, device=lengths.device)
        within = (at >= first) & (at + steps <= lengths.unsqueeze(1))
        lost = strays(means[batch.frame_mask], means).to(means)
        lost = nn.functional.max_pool1d(nn.functional.pad(lost, (0, steps)), steps + 1, 1) > 0
        within &= ~lost | lost.all()
        episodes, begins = within.nonzero().unbind(1)
        return cls(means, batch.actions, episodes, begins, steps)

    def some(
        self, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "count frames latent"], Float[Tensor, "count steps act"], Tensor]:
        """States, actions, and of which episode and frame each state is: two tensors of indices."""
        kind = {"generator": generator, "device": self.means.device}
        drawn = torch.randint(len(self.episodes), (count,), **kind)
        rows, along = self.episodes[drawn, None], self.begins[drawn, None]
        along = along + torch.arange(self.steps + 1, device=along.device)
        where = torch.stack([rows.expand_as(along), along])
        return self.means[rows, along], self.actions[rows, along[:, :-1]], where


def practise_transition(
    model: StateSpaceModel,
    train: Batch,
    validation: Batch,
    updates: int,
    seed: int,
    progress: bool = False,
) -> bool:
    """Fit the transition to where a filter went in several steps.

    It stays as it was unless held-out frames are filtered and predicted clearly better. Every step
    counts by the ratio of its error to what that was: those of late steps are many times as large.

    Args:
        model: Whose transition is fitted.
        train: Episodes.
        validation: Likewise.
        updates: Gradient updates.
        seed: Of windows.
        progress: Whether to show a progress bar.

    Returns:
        Whether it was changed.
    """
    weights = list(transition_weights(model).values())
    if not weights or not updates:
        return False
    first = max(1, min(_LOOKS, int(train.mask.sum(1).median()) // 2))
    kept = [weight.detach().clone() for weight in weights]
    begun = standing = _judged(model, validation, first, seed)
    best = kept
    for turn in range(_TURNS):
        _learn(model, weights, train, first, -(-updates // _TURNS), seed + turn, progress)
        now = _judged(model, validation, first, seed)
        if not now < standing:
            break
        standing, best = now, [weight.detach().clone() for weight in weights]
    changed = standing <= begun - _WORTH
    with torch.no_grad():
        for weight, value in zip(weights, best if changed else kept, strict=True):
            weight.copy_(value)
    return changed


@torch.no_grad()
def _learn(
    model: StateSpaceModel,
    weights: list[nn.Parameter],
    train: Batch,
    first: int,
    updates: int,
    seed: int,
    progress: bool,
) -> None:
    means = model.filter_beliefs(train.observations, train.actions, seen=train.seen).mean
    known = _Stretches.of(train, means, first, _LEARNED)
    if not len(known.episodes):
        return
    generator = torch.Generator(model.device).manual_seed(seed)
    moved = means.diff(dim=1)[train.mask]
    moved = moved[~strays(moved, moved)].std(0).clamp_min(1e-6)
    # Both errors count alike, in units of what they are at first.
    units = [part.clamp_min(1e-12) for part in _missed(model, moved, known, _MOST, generator)]
    learned = [weight.requires_grad for weight in weights]
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.Adam(weights, _RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in track(range(updates), "transition", disable=not progress):
        with torch.enable_grad():
            states, frames = _missed(model, moved, known, _BATCH, generator)
            slopes = torch.autograd.grad(states / units[0] + frames / units[1], weights)
        for weight, slope in zip(weights, slopes, strict=True):
            weight.grad = slope
        nn.utils.clip_grad_norm_(weights, _NORM)
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()
    for weight, learns in zip(weights, learned, strict=True):
        weight.requires_grad_(learns)


def _missed(
    model: StateSpaceModel,
    moved: Tensor,
    known: _Stretches,
    count: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean squared errors along dreams: of states, in usual steps, and of the frames they show."""
    states, actions, _ = known.some(count, generator)
    dreamt, truth = _dreamt(model, states[:, 0], actions)[:, 1:], states[:, 1:]
    shown, wanted = model.emit(dreamt).mean, model.emit(truth).mean
    return ((dreamt - truth) / moved).square().mean(), (shown - wanted).square().sum(-1).mean()


def _dreamt(
    model: StateSpaceModel, state: Tensor, actions: Tensor
) -> Float[Tensor, "n frames latent"]:
    """Without noise."""
    states = [state]
    for action in actions.unbind(1):
        states.append(model.transition(states[-1], action))
    return torch.stack(states, 1)


@torch.no_grad()
def _judged(model: StateSpaceModel, held: Batch, first: int, seed: int) -> float:
    """Mean logarithm of the error of recorded frames, filtered and after every number of steps."""
    means = model.filter_beliefs(held.observations, held.actions, seen=held.seen).mean
    known = _Stretches.of(held, means, first, _JUDGED)
    if not len(known.episodes):
        return torch.nan
    generator = torch.Generator(model.device).manual_seed(seed)
    states, actions, (rows, along) = known.some(_MOST, generator)
    recorded = model.scale_observations(held.observations[rows, along])
    shown = model.emit(_dreamt(model, states[:, 0], actions)).mean
    seen = held.frame_mask[rows, along]
    errors = (shown - recorded).square().sum(-1).masked_fill(~seen, 0)
    each = errors.sum(0) / seen.sum(0)
    return each[seen.any(0)].log().mean().item()
