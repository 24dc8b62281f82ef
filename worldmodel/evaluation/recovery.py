"""How soon a live filter is back after it was led astray.

Two disturbances of a filter that has settled: ten frames that it does not get to see, and a belief
that is put where another episode is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.evaluation.identification import Regression, Targets, r_squared
from worldmodel.evaluation.tracking import named_truth
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.types import Batch, Belief

# Frames that the filter does not see.
BLIND = 10
# Wrong beliefs that every episode is given: some are forgotten sooner than others.
_DRAWS = 4
# Frames within which it has to come back.
WITHIN = 30
# The frame of the disturbance; earlier in shorter episodes, but settled the filter must be.
_LATEST, _EARLIEST = 40, 15
# Steps that test episodes must have.
SHORTEST = _EARLIEST + BLIND + WITHIN
# Of the R^2 of the filter that was left alone: then it counts as back.
_BACK = 0.9
# A variable of less R^2 is not held in the first place: there is nothing to come back to.
HELD = 0.1

# By variable: "level", R^2 of the filter left alone; "blind" and "kidnapped", frames until it is
# back, None if it is not within WITHIN of them or the variable is not held.
Recovery = dict[str, dict[str, float | None]]


@torch.no_grad()
def recovery(
    model: StateSpaceModel,
    line: Regression,
    test: Batch,
    targets: Targets,
    generator: torch.Generator,
) -> Recovery | None:
    """Frames that the live filter must see until it holds the truth again, by variable.

    It starts from one frame and is disturbed at frame 40, or up to 25 frames earlier where the
    median episode asks for it. Without frames ("blind") the belief's mean goes the way that the
    model's transition predicts, its uncertainty stays as it was. "Kidnapped" is a filter
    whose belief is replaced by another episode's at some time, of which it is as sure as of its
    own; every episode is, four times over.

    Back it is at the first frame at which the R^2 over episodes is 90 % of that of the filter left
    alone, at the same frame; 0 where what it predicted without looking is as good as that. The
    variance that R^2 divides by is that of all frames from the disturbance on, since at a single
    one all episodes may be alike.

    Args:
        model: Any state-space model.
        line: From filtered means to the truth, fitted to training episodes.
        test: With states.
        targets: Names the variables.
        generator: Of the choice of other episodes and times.

    Returns:
        None if fewer than two test episodes have ``SHORTEST`` steps or more, or most have not.
    """
    lengths = test.mask.sum(1)
    median = int(lengths.median())
    start = min(_LATEST, median - BLIND - WITHIN)
    last = start + BLIND + WITHIN
    lasting = test[lengths >= last]
    if start < _EARLIEST or len(lasting) < 2:
        return None
    batch = lasting.window(0, last)
    alone = _filtered(model, batch)
    truth = named_truth(batch, targets)
    scored = _Scored(line, np.stack(list(truth.values()), -1), start)
    undisturbed, level = scored.r2(alone, 0), scored.level(alone)
    disturbed = {
        "blind": (_unseeing(model, batch, alone[start], start), start + BLIND),
        "kidnapped": (_exchanged(alone[start:], generator), start),
    }
    found: Recovery = {"level": dict(zip(truth, level.tolist(), strict=True))}
    for name, (belief, first) in disturbed.items():
        reached = scored.r2(_resumed(model, batch, belief, first), first)
        back = reached >= _BACK * undisturbed[first : first + WITHIN + 1]
        back &= level >= HELD
        frames = [int(b.argmax()) if b.any() else None for b in back.T]
        found[name] = dict(zip(truth, frames, strict=True))
    return found


class _Scored:
    """R^2 of beliefs, whatever episodes they are come to by.

    Args:
        line: From means to the truth.
        truth: (B, T + 1, variables).
        start: The frame from which on its variance is taken.
    """

    def __init__(
        self,
        line: Regression,
        truth: Float[np.ndarray, "episodes frames variables"],
        start: int,
    ) -> None:
        self._line, self._truth, self._start = line, truth, start
        variance = truth[:, start:].var((0, 1))
        self._variance = np.where(variance > 0, variance, np.inf)

    def r2(self, beliefs: Sequence[Belief], first: int) -> Float[np.ndarray, "frames variables"]:
        """At every frame from ``first`` on, over episodes, each of them as often as believed in."""
        read = self._read(beliefs)
        truth = self._truth[:, first : first + len(beliefs)]
        error = read - np.tile(truth, (len(read) // len(truth), 1, 1))
        return 1 - (error**2).mean(0) / self._variance

    def level(self, beliefs: Sequence[Belief]) -> Float[np.ndarray, " variables"]:
        """Over episodes and all frames from the disturbance on, of beliefs from frame 0 on."""
        read, late = self._read(beliefs[self._start :]), self._truth[:, self._start :]
        return r_squared(late.reshape(-1, late.shape[-1]), read.reshape(-1, late.shape[-1]))

    def _read(self, beliefs: Sequence[Belief]) -> np.ndarray:
        return self._line.predict(torch.stack([b.mean for b in beliefs], 1).cpu().numpy())


def _filtered(model: StateSpaceModel, batch: Batch) -> list[Belief]:
    """Beliefs at all frames, from the first one on; covariances and all, to go on from."""
    beliefs = [model.initial(batch.observations[:, :1], batch.actions[:, :0])]
    for t in range(batch.steps):
        look = None if batch.seen is None else batch.seen[:, t + 1]
        frame = batch.observations[:, t + 1]
        beliefs.append(model.follow(beliefs[-1], batch.actions[:, t], frame, look))
    return beliefs


def _unseeing(model: StateSpaceModel, batch: Batch, belief: Belief, start: int) -> Belief:
    """The belief at frame ``start`` after ``BLIND`` steps without a look."""
    mean = belief.mean
    for t in range(start, start + BLIND):
        mean = model.transition(mean, batch.actions[:, t])
    return Belief(mean, belief.scale, belief.factor)


def _exchanged(beliefs: Sequence[Belief], generator: torch.Generator) -> Belief:
    """For every episode, ``_DRAWS`` times over, the belief of another one at some time."""
    mean = beliefs[0].mean
    count, device = len(mean), mean.device
    draws = (_DRAWS * count,)
    time = torch.randint(len(beliefs), draws, generator=generator, device=device)
    away = torch.randint(1, count, draws, generator=generator, device=device)
    episode = (torch.arange(len(time), device=device) + away) % count

    def picked(parts: list[Tensor]) -> Tensor:
        return torch.stack(parts)[time, episode]

    factors = [b.factor for b in beliefs if b.factor is not None]
    return Belief(
        picked([b.mean for b in beliefs]),
        picked([b.scale for b in beliefs]),
        picked(factors) if factors else None,
    )


def _resumed(model: StateSpaceModel, batch: Batch, belief: Belief, first: int) -> list[Belief]:
    """Beliefs from frame ``first`` on, where the filter goes on from the one given.

    Of more rows than there are episodes, episodes follow each other over and over.
    """
    beliefs, rows = [belief], torch.arange(len(belief.mean), device=model.device) % len(batch)
    for t in range(first, first + WITHIN):
        action, frame = batch.actions[:, t][rows], batch.observations[:, t + 1][rows]
        look = None if batch.seen is None else batch.seen[:, t + 1][rows]
        beliefs.append(model.follow(beliefs[-1], action, frame, look))
    return beliefs
