"""How many updates there is time for: measured on a copy, before training begins."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from worldmodel.data import Dataset
from worldmodel.errors import ConfigError
from worldmodel.models.learned import LearnedModel
from worldmodel.training.config import TrainConfig
from worldmodel.training.dreaming import FITTED, PER_UPDATE, fit_world
from worldmodel.training.trainer import Trainer
from worldmodel.training.transitions import practise_transition
from worldmodel.training.windows import GOLDEN
from worldmodel.world.denoiser import Denoiser, DenoiserConfig

# Updates that are timed, spread over all of training, whose sequences may lengthen, and before them
# some that are not; fewer if they would take more than a fraction of the time.
_TIMED, _BEFORE, _LEAST, _TIMING = 12, 2, 2, 0.02
# Of the time, what is not planned with: a machine is not always as fast.
_SPARE = 0.1
_FEW = 100  # updates of transition and denoiser that are timed, and states of the latter


def updates_within(
    model: LearnedModel, dataset: Dataset, config: TrainConfig, seconds: float
) -> int:
    """As many updates as training ends with within the time, all that follows it included.

    Args:
        model: Freshly built; left as it is.
        dataset: What is trained on.
        config: How, but for ``updates``.
        seconds: Of wall clock, from now on.

    Raises:
        ConfigError: They are not enough for one update.
        SpecError: As of ``Trainer``.
    """
    begun = time.monotonic()
    with TemporaryDirectory() as folder:
        plan = replace(config, tensorboard=False)
        trainer = Trainer(copy.deepcopy(model), dataset, plan, Path(folder))
        update = _update(trainer, _TIMING * seconds)
        validation = _seconds(trainer.validate) + _seconds(trainer.checkpoint)
        least, practice = _practising(trainer)
        after = _seconds(lambda: _fitted(trainer)) + _denoising(trainer) + least
    measuring = time.monotonic() - begun
    left = (1 - _SPARE) * (seconds - measuring) - after - validation
    each, most = update + validation / config.validate_every, config.dreaming.transition_updates
    # After few updates the transition practises less.
    updates = int(max((left - most * practice) / each, left / (each + PER_UPDATE * practice)))
    if updates < 1:
        fewest = (measuring + (update + validation + after) / (1 - _SPARE)) / 60
        raise ConfigError(
            f"{seconds / 60:g} minutes are too few; {math.ceil(10 * fewest) / 10:g} are enough for "
            f"one update. Measured here and now, which took {measuring:.2g} s: an update takes "
            f"{update:.2g} s, a validation {validation:.2g} s, and what follows training "
            f"{after:.2g} s. A smaller --batch-size makes updates faster, --denoise 0 the end"
        )
    return updates


def _update(trainer: Trainer, most: float) -> float:
    """Mean seconds of one over the course of training, found within about so many."""
    warming = 0.0
    for _ in range(_BEFORE):
        if warming < most:
            warming += _seconds(trainer.step)
    taken: list[float] = []
    while len(taken) < _TIMED and (len(taken) < _LEAST or sum(taken) < most):
        trainer.update = int(trainer.config.updates * (len(taken) * GOLDEN % 1))
        taken.append(_seconds(trainer.step))
    return sum(taken) / len(taken)


def _fitted(trainer: Trainer) -> None:
    """What is fitted to dreams, but for a denoiser, whose updates are too many."""
    c = trainer.config
    train, validation = trainer.samples()
    dreaming = replace(c.dreaming, denoise=0.0)
    fit_world(trainer.model.eval(), dreaming, train, validation, c.window, c.seed, False)


def _practising(trainer: Trainer) -> tuple[float, float]:
    """Seconds that it takes to fit the transition after training, and more for every update."""
    c = trainer.config
    if not c.dreaming.transition_updates:
        return 0.0, 0.0
    train, validation = trainer.samples()
    given = trainer.model.eval(), train, validation
    least = _seconds(lambda: practise_transition(*given, 2, c.seed))
    more = _seconds(lambda: practise_transition(*given, 2 + _FEW, c.seed))
    return least, max(more - least, 0.0) / _FEW


def _denoising(trainer: Trainer) -> float:
    """Seconds that fitting a denoiser will take, if there is to be one."""
    c, size = trainer.config.dreaming, trainer.model.latent_size
    if not c.denoise:
        return 0.0
    settings = {**FITTED, "updates": _FEW}
    denoiser = Denoiser(size, DenoiserConfig(c.denoise, distilled=c.distilled, **settings))
    states = torch.randn(_FEW, size, generator=torch.Generator().manual_seed(0))
    return _seconds(lambda: denoiser.fit(states, False)) * FITTED["updates"] / _FEW


def _seconds(what: Callable[[], object]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun
