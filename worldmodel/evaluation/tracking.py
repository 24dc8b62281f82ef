"""Does the live filter hold on to the state for whole episodes, and what could be held at all?

A filter that starts from one frame may be right on as many frames as it was trained on and lose
itself after; so R^2 is told by stretch of the episode. And what a camera cannot show is not asked
of it: the ceiling is a network that is told the truth in training and sees two neighbouring frames.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.progress import track
from torch import Tensor, nn

from worldmodel.evaluation.identification import Targets, r_squared, regress
from worldmodel.models.networks import mlp
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.types import Batch

# First frames of the stretches.
STRETCHES = (0, 15, 40, 100)

# R^2 by variable and by stretch, such as "15-40"; the last one, "100-", is open.
Tracking = dict[str, dict[str, float]]


@torch.no_grad()
def tracked(model: StateSpaceModel, train: Batch, test: Batch, targets: Targets) -> Tracking:
    """R^2 of the live filter from one frame on, by variable and stretch of the episode.

    One linear map from filtered means to the truth is fitted to the training episodes and held
    fixed.

    Args:
        model: Any state-space model.
        train: With states.
        test: With states; of any length.
        targets: Names the variables.
    """
    known, asked = (
        model.filter_beliefs(batch.observations, batch.actions).mean.cpu().numpy()
        for batch in (train, test)
    )
    mask = train.frame_mask.cpu().numpy()
    fit = regress(known[mask], _truth(train, targets)[mask])
    return _by_stretch(fit.predict(asked), test, targets, 0)


def ceiling(
    model: StateSpaceModel,
    train: Batch,
    validation: Batch,
    test: Batch,
    targets: Targets,
    seed: int = 0,
    updates: int = 1500,
    progress: bool = False,
) -> Tracking:
    """R^2 of a supervised network on two neighbouring frames, by variable and stretch.

    Of its states during training the one that validates best is kept. Frame 0 has no neighbour,
    and is left out of the first stretch.

    Args:
        model: Whose scaling of observations is used, and nothing else of it.
        train: With states.
        validation: With states.
        test: With states.
        targets: Names the variables.
        seed: Of weights and batches.
        updates: Gradient updates.
        progress: Whether to show a progress bar.
    """
    pairs, held_out, asked = (_Pairs(model, b, targets) for b in (train, validation, test))
    mean, std = pairs.truth.mean(0), pairs.truth.std(0)
    std = torch.where(std > 0, std, 1.0)
    reader = _fit_reader(pairs, held_out, mean, std, seed, updates, progress)
    read = np.zeros_like(_truth(test, targets))
    with torch.no_grad():
        for rows in torch.arange(len(asked.truth)).split(2048):
            values = torch.addcmul(mean, reader(asked.inputs(rows)), std)
            read[asked.episode[rows], asked.time[rows]] = values.numpy()
    return _by_stretch(read, test, targets, 1)


class _Pairs:
    """Frames and those before them, scaled as they are asked for.

    Attributes:
        episode: (n,), of the later frame.
        time: (n,), likewise, from 1.
        truth: (n, variables), at it.
    """

    episode: Int[Tensor, " n"]
    time: Int[Tensor, " n"]
    truth: Float[Tensor, "n variables"]

    def __init__(self, model: StateSpaceModel, batch: Batch, targets: Targets) -> None:
        self._model, self._observations = model, batch.observations
        self.episode, before = batch.mask.cpu().nonzero(as_tuple=True)
        self.time = before + 1
        truth = torch.from_numpy(_truth(batch, targets)).float()
        self.truth = truth[self.episode, self.time]

    def inputs(self, rows: Int[Tensor, " k"]) -> Float[Tensor, "k features"]:
        """The later frames of some pairs, and how they differ from those before."""
        episode, time = self.episode[rows], self.time[rows]
        before, frame = (
            self._model.scale_observations(self._observations[episode, t]).float().cpu()
            for t in (time - 1, time)
        )
        return torch.cat([frame, frame - before], 1)


class _HalvesScaled(nn.Module):
    """Two halves of a vector, each in units of one deviation of its own: both are to be read.

    Args:
        inputs: (n, features), to take the units from.
    """

    def __init__(self, inputs: Float[Tensor, "n features"]) -> None:
        super().__init__()
        halves = inputs.chunk(2, 1)
        units = [half.new_full((half.shape[1],), float(half.std())) for half in halves]
        self.register_buffer("unit", torch.cat(units).clamp_min(1e-6))

    def forward(self, inputs: Float[Tensor, "n features"]) -> Float[Tensor, "n features"]:
        """Scaled."""
        return inputs / self.get_buffer("unit")


@torch.enable_grad()
def _fit_reader(
    pairs: _Pairs,
    held_out: _Pairs,
    mean: Tensor,
    std: Tensor,
    seed: int,
    updates: int,
    progress: bool,
) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    judged = torch.randperm(len(held_out.truth), generator=generator)[:2048]
    inputs, truth = held_out.inputs(judged), (held_out.truth[judged] - mean) / std
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = nn.Sequential(_HalvesScaled(inputs), mlp(inputs.shape[1], 128, truth.shape[1]))
    optimizer = torch.optim.Adam(reader.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    best, least = reader, math.inf
    for update in track(range(updates), "ceiling", disable=not progress):
        rows = torch.randint(len(pairs.truth), (128,), generator=generator)
        error = reader(pairs.inputs(rows)) - (pairs.truth[rows] - mean) / std
        optimizer.zero_grad()
        error.square().mean().backward()
        optimizer.step()
        schedule.step()
        if (update + 1) % 100 == 0 or update + 1 == updates:
            with torch.no_grad():
                loss = (reader(inputs) - truth).square().mean().item()
            if loss < least:
                best, least = copy.deepcopy(reader), loss
    return best


def _truth(batch: Batch, targets: Targets) -> Float[np.ndarray, "episodes frames variables"]:
    assert batch.states is not None
    named = targets(batch.states.cpu().numpy())
    return np.stack([values.astype(np.float64) for values in named.values()], -1)


def _by_stretch(read: np.ndarray, batch: Batch, targets: Targets, first: int) -> Tracking:
    """R^2 of readings (B, T + 1, variables) from frame ``first`` on; no stretch without frames."""
    assert batch.states is not None
    truth, mask = _truth(batch, targets), batch.frame_mask.cpu().numpy()
    names = list(targets(batch.states[:1].cpu().numpy()))
    found: Tracking = {name: {} for name in names}
    for begin, beyond in zip(STRETCHES, (*STRETCHES[1:], None), strict=True):
        here = np.zeros_like(mask)
        here[:, max(begin, first) : beyond] = mask[:, max(begin, first) : beyond]
        if here.sum() < 2:
            continue
        for name, r2 in zip(names, r_squared(truth[here], read[here]), strict=True):
            found[name][f"{begin}-{beyond or ''}"] = float(r2)
    return found
