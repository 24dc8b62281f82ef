"""How many dimensions of its latent state a model uses; the others do no more than follow.

Neither axes nor variances say it: a latent state may be turned and mixed at will, and what is not
needed moves all the same, as a function of what is, or by itself, often more than the belief doubts
it. So what counts is what the model does with its state: the fewest directions that its predictions
need.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.errors import DivergenceError
from worldmodel.evaluation.prediction import pictures
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.types import Batch

# Of the predictions' variance, that may be lost with the directions that count as unused.
_LOST = 0.01
# Steps that are predicted from a filtered state.
_AHEAD = 10
# Frames after which a filter has settled: before, it does not know what it takes several to see.
_SETTLED = 15
# States that are predicted from, at most.
_STATES = 128
# Of them, at least, those that are moved along each direction: all, if directions are few.
_FEWEST, _FEW = 32, 16
# Deviations of the states by which they are moved, to see what depends on it.
_MOVED = 0.1
# Of the widest direction's deviation, in units of the beliefs' noise: narrower is none at all.
_FLAT = 1e-5


@torch.no_grad()
def used_dimensions(model: StateSpaceModel, batch: Batch, generator: torch.Generator) -> int:
    """Fewest directions of the latent state that the model's predictions depend on.

    Filtered means are kept to k directions of their whitened space, those that the model's dreams
    of the next ten steps, under the recorded actions, depend on most (an active subspace). Used are
    the fewest of them from which the dreams still show the same observations, but for 1 % of their
    variance. A state that lies on a bent surface may need more than the surface has dimensions.

    Args:
        model: Any state-space model.
        batch: Held-out episodes; of short ones fewer steps are predicted.
        generator: Of the choice of frames.

    Returns:
        0 if all dreams show the same, up to the model's latent size.

    Raises:
        DivergenceError: Filtered means are not finite; the message says how many.

    Source: Constantine et al. 2014, "Active subspace methods in theory and practice". Differs: what
    is lost is measured on the dreams themselves, not read off the gradients.
    """
    states, chosen, actions, unit = _filtered(model, batch, generator)
    centre = states.mean(0)
    scaled = ((states - centre) / unit).double()
    _, width, directions = torch.linalg.svd(scaled, full_matrices=False)
    wide = width > _FLAT * width.max()
    spread = (width[wide, None] / len(states) ** 0.5 * directions[wide]).to(unit) * unit
    white = scaled[chosen] @ directions[wide].T / width[wide] * len(states) ** 0.5
    white = white.to(unit)

    def dreamt(coordinates: Tensor) -> Tensor:
        return _predicted(model, centre + coordinates @ spread, actions[: len(coordinates)])

    whole = dreamt(white)
    allowed = _LOST * (whole - whole.mean(0)).square().sum()
    moves = _MOVED * torch.eye(len(spread), dtype=unit.dtype, device=unit.device)
    some = white[: max(_FEWEST, _STATES * _FEW // max(len(spread), 1))]
    slopes = torch.stack([(dreamt(some + m) - dreamt(some - m)).flatten() for m in moves])
    needed = torch.linalg.eigh(slopes @ slopes.T).eigenvectors.flip(1)
    for k in range(len(spread)):
        kept = white @ needed[:, :k] @ needed[:, :k].T
        if (dreamt(kept) - whole).square().sum() <= allowed:
            return k
    return len(spread)


def _filtered(
    model: StateSpaceModel, batch: Batch, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Filtered means (n, latent), some of them, what is done next there, and their noise."""
    recorded = int(batch.mask.any(0).sum())
    ahead, first = min(_AHEAD, recorded // 3), min(_SETTLED, recorded // 3)
    beliefs = model.filter_beliefs(batch.observations, batch.actions, seen=batch.seen)
    # From frame t on all actions to be taken were recorded.
    usable = batch.frame_mask[:, ahead:].clone()
    usable[:, :first] = False
    episode, time = usable.nonzero(as_tuple=True)
    states = beliefs.mean[episode, time]
    if lost := int((~states.isfinite()).any(1).sum()):
        raise DivergenceError(
            f"{lost} of {len(states)} latent states are not finite: the model's filter diverges"
        )
    noise = beliefs.scale[episode, time].square().mean(0).sqrt()
    # What a belief knows exactly has no noise to be told in units of.
    unit = torch.where(noise > 0, noise, states.std(0))
    chosen = torch.randperm(len(time), generator=generator, device=time.device)[:_STATES]
    steps = time[chosen, None] + torch.arange(ahead, device=time.device)
    actions = batch.actions[episode[chosen, None], steps]
    return states, chosen, actions, unit.clamp_min(torch.finfo(unit.dtype).eps)


def _predicted(
    model: StateSpaceModel,
    state: Float[Tensor, "batch latent"],
    actions: Float[Tensor, "batch steps act"],
) -> Float[Tensor, "batch frames size"]:
    """Mean observations of dreams without noise: of the state itself, halfway, and at the end."""
    states, ahead = [state], actions.shape[1]
    for action in actions.unbind(1):
        states.append(model.transition(states[-1], action))
    shown = [states[t] for t in sorted({0, ahead // 2, ahead})]
    return pictures(model, torch.stack(shown, 1), averaged=False)
