"""Does the live filter hold on to the state for whole episodes, and what could be held at all?

A filter that starts from one frame may be right on as many frames as it was trained on and lose
itself after; so R^2 is told by stretch of the episode. And what a camera cannot show is not asked
of it: the ceiling is a network that is told the truth in training and sees two neighbouring frames.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodel.evaluation.identification import Regression, Targets, r_squared, regress
from worldmodel.evaluation.reading import fit_reader
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.types import Batch

# First frames of the stretches.
STRETCHES = (0, 15, 40, 100)

# R^2 by variable and by stretch, such as "15-40"; the last one, "100-", is open.
Tracking = dict[str, dict[str, float]]


@torch.no_grad()
def fitted_line(model: StateSpaceModel, train: Batch, targets: Targets) -> Regression:
    """The linear map from filtered means to the truth that training episodes give.

    Args:
        model: Any state-space model.
        train: With states.
        targets: Names the variables.
    """
    beliefs = model.filter_beliefs(train.observations, train.actions, seen=train.seen)
    means = beliefs.mean.cpu().numpy()
    mask = train.frame_mask.cpu().numpy()
    return regress(means[mask], _truth(train, targets)[mask])


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
    return tracked_by_line(model, fitted_line(model, train, targets), test, targets)


@torch.no_grad()
def tracked_by_line(
    model: StateSpaceModel, line: Regression, test: Batch, targets: Targets
) -> Tracking:
    """As ``tracked``, by a map that was fitted before.

    Args:
        model: Any state-space model.
        line: Of ``fitted_line``.
        test: With states; of any length.
        targets: Names the variables.
    """
    beliefs = model.filter_beliefs(test.observations, test.actions, seen=test.seen)
    read = line.predict(beliefs.mean.cpu().numpy())
    return _by_stretch(read, test, targets, test.frame_mask.cpu().numpy())


@torch.no_grad()
def tracked_by_network(
    model: StateSpaceModel,
    train: Batch,
    validation: Batch,
    test: Batch,
    targets: Targets,
    seed: int = 0,
    updates: int = 1500,
) -> Tracking:
    """As ``tracked``, but read off the filtered means by a small network.

    What it reads and a linear map does not, the state holds in coordinates of its own.

    Args:
        model: Any state-space model.
        train: With states.
        validation: With states; decides which of the network's states during training is kept.
        test: With states; of any length.
        targets: Names the variables.
        seed: Of weights and batches.
        updates: Gradient updates.
    """
    known, held_out, asked = (_Beliefs(model, b, targets) for b in (train, validation, test))
    reader = fit_reader(known, held_out, _EachScaled, seed, updates)
    read = np.zeros_like(_truth(test, targets))
    mask = test.frame_mask.cpu().numpy()
    read[mask] = reader(asked)
    return _by_stretch(read, test, targets, mask)


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
    label = "ceiling" if progress else None
    reader = fit_reader(pairs, held_out, _HalvesScaled, seed, updates, label)
    read = np.zeros_like(_truth(test, targets))
    read[asked.episode, asked.time] = reader(asked)
    return _by_stretch(read, test, targets, asked.mask)


class _Pairs:
    """Frames and those before them, scaled as they are asked for.

    Attributes:
        episode: (n,), of the later frame.
        time: (n,), likewise, from 1.
        truth: (n, variables), at it.
        mask: (B, T + 1), where there is a pair.
    """

    episode: Int[Tensor, " n"]
    time: Int[Tensor, " n"]
    truth: Float[Tensor, "n variables"]

    def __init__(self, model: StateSpaceModel, batch: Batch, targets: Targets) -> None:
        self._model, self._observations = model, batch.observations
        known = batch.frame_mask.cpu()
        pairs = known[:, 1:] & known[:, :-1]
        self.mask = torch.nn.functional.pad(pairs, (1, 0)).numpy()
        self.episode, before = pairs.nonzero(as_tuple=True)
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


class _Beliefs:
    """Filtered means of all recorded frames.

    Attributes:
        truth: (n, variables), at them.
    """

    truth: Float[Tensor, "n variables"]

    def __init__(self, model: StateSpaceModel, batch: Batch, targets: Targets) -> None:
        mask = batch.frame_mask.cpu()
        means = model.filter_beliefs(batch.observations, batch.actions, seen=batch.seen).mean
        self._means = means.float().cpu()[mask]
        self.truth = torch.from_numpy(_truth(batch, targets)).float()[mask]

    def inputs(self, rows: Int[Tensor, " k"]) -> Float[Tensor, "k latent"]:
        """Some of the means."""
        return self._means[rows]


class _EachScaled(nn.Module):
    """Every component in units of its own spread: a few beliefs that are far off count as far.

    Args:
        inputs: (n, features), to take the units from.
    """

    _FAR = 8.0

    def __init__(self, inputs: Float[Tensor, "n features"]) -> None:
        super().__init__()
        low, middle, high = inputs.quantile(torch.tensor([0.16, 0.5, 0.84]), 0)
        self.register_buffer("middle", middle)
        self.register_buffer("unit", ((high - low) / 2).clamp_min(1e-6))

    def forward(self, inputs: Float[Tensor, "n features"]) -> Float[Tensor, "n features"]:
        """Scaled."""
        scaled = (inputs - self.get_buffer("middle")) / self.get_buffer("unit")
        return scaled.clamp(-self._FAR, self._FAR)


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


def named_truth(batch: Batch, targets: Targets) -> dict[str, Float[np.ndarray, "episodes frames"]]:
    """The truth by variable, in float64, of episodes that have it."""
    assert batch.states is not None
    named = targets(batch.states.cpu().numpy())
    return {name: values.astype(np.float64) for name, values in named.items()}


def _truth(batch: Batch, targets: Targets) -> Float[np.ndarray, "episodes frames variables"]:
    return np.stack(list(named_truth(batch, targets).values()), -1)


def _by_stretch(read: np.ndarray, batch: Batch, targets: Targets, mask: np.ndarray) -> Tracking:
    """R^2 of readings (B, T + 1, variables) where ``mask`` is True; no stretch without frames."""
    assert batch.states is not None
    truth = _truth(batch, targets)
    names = list(targets(batch.states[:1].cpu().numpy()))
    found: Tracking = {name: {} for name in names}
    for begin, beyond in zip(STRETCHES, (*STRETCHES[1:], None), strict=True):
        here = np.zeros_like(mask)
        here[:, begin:beyond] = mask[:, begin:beyond]
        if here.sum() < 2:
            continue
        for name, r2 in zip(names, r_squared(truth[here], read[here]), strict=True):
            found[name][f"{begin}-{beyond or ''}"] = float(r2)
    return found
