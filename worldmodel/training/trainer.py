"""The trainer: the only place that trains a model.

Everything random comes from one generator, and everything that a run depends on is written to
``training/state.pt`` at every checkpoint. A run that is killed and started again continues there
and ends with the weights, bit for bit on one CPU, that it would have had.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from sys import intern
from typing import Any

import torch
from torch import Tensor

from worldmodel.data import Dataset
from worldmodel.data.episodes import Episodes
from worldmodel.device import Numerics
from worldmodel.draws import own_rows
from worldmodel.errors import SpecError
from worldmodel.evaluation.learned import learned
from worldmodel.files import clear_leftovers, locked
from worldmodel.interruption import held_signals
from worldmodel.models.learned import LearnedModel
from worldmodel.models.terms import Terms
from worldmodel.training import schedules
from worldmodel.training.batch_loss import BatchLoss
from worldmodel.training.compiling import compile_networks
from worldmodel.training.config import TrainConfig
from worldmodel.training.dreaming import fit_trust, fit_world
from worldmodel.training.gradient import Clip
from worldmodel.training.judge import Judge
from worldmodel.training.losses.balanced import Balanced
from worldmodel.training.losses.constrained import Constrained
from worldmodel.training.losses.elbo import AnnealedELBO
from worldmodel.training.losses.objective import Objective
from worldmodel.training.losses.observation_dropout import observation_dropout
from worldmodel.training.muon import build_optimizer
from worldmodel.training.resuming import Part, Resuming
from worldmodel.training.settings import FILE as SETTINGS
from worldmodel.training.settings import write_settings
from worldmodel.training.shown import Shown, event_writer
from worldmodel.training.skipping import Skipping, culprit
from worldmodel.training.state import lasting
from worldmodel.training.team import Alone, Team
from worldmodel.training.windows import Windows, spread_windows
from worldmodel.types import Batch
from worldmodel.world.world import World

# When a first prediction of what comes out is made: seconds, or a fraction of the updates.
_SOON, _TOLD_AFTER = 55.0, 0.1
# Of training that a killed process loses at most, however seldom it is validated.
_SECONDS = 120.0


class Trainer:
    """Trains one model on one dataset in one folder.

    Windows are drawn from all training episodes, which are read from the dataset's files as they
    are drawn if they are too many to be kept in memory. Validation, and what is fitted to dreams
    after training, look at a sample (``Episodes.sample``): of up to 250,000 frames or 64 MB, which
    are all of a small split.

    It computes where the model is, whose weights stay ``float32`` in every precision.

    Args:
        model: Freshly built; its scaling is taken from the training data here. Or trained already,
            if ``warm``.
        dataset: With splits "train" and "validation".
        config: How to train.
        folder: Run folder. ``checkpoint/`` holds the best model so far, ``training/state.pt`` all
            that exact resume needs, ``settings.json`` what it is trained with, ``tensorboard/``
            the curves.
        preset: Name of what the settings began as, for ``settings.json``.
        path: File of the dataset, likewise.
        team: The processes that train together. All of them make the same trainer; they must see
            the same folder.
        warm: Whether to go on from the weights that the model has. Its scaling stays, so that they
            keep what they mean, and ranges are widened to hold the data.

    Attributes:
        compiled: True if the model's networks are, False if nobody asked; else the reason why not.

    Raises:
        ConfigError: The processes cannot share a batch equally.
        DeviceError: The model's device lacks the precision.
        SpecError: The dataset does not fit the model, its episodes are shorter than the window,
            or the folder holds a run with other settings, other data or more updates; the message
            names the setting. A run goes on with more ``updates``, or another ``patience``.
        FileFormatError: The folder's training state is truncated or corrupt.
    """

    def __init__(
        self,
        model: LearnedModel,
        dataset: Dataset,
        config: TrainConfig,
        folder: str | Path,
        preset: str | None = None,
        path: str | Path | None = None,
        team: Team | None = None,
        warm: bool = False,
    ) -> None:
        dataset.check_fits(model.observation_spec, model.action_spec)
        train, validation = dataset.train, dataset.validation
        if config.window > train.steps:
            raise SpecError(
                f"window must be at most the longest episode's {train.steps} steps, "
                f"got {config.window}"
            )
        self.model, self.config, self.folder = model, config, Path(folder)
        self._team = team or Alone()
        self._team.require_divides(schedules.batch_sizes(config))
        self._numerics = Numerics(config.precision, model.device)
        self._dataset = dataset
        self._judge = self._judge_by(validation)
        if warm:
            model.widen(train)
        else:
            self._calibrate()
        self.source = dataset.provenance.source
        self._drawn = Windows.of(train, model)
        # Longer episodes hold several windows each, among which the weights' KL is shared.
        self.windows = max(1, int(train.lengths.sum()) // config.window)
        self.generator = self._team.generator(model.device, config.seed)
        self.optimizer = build_optimizer(model, config.optimizer, config.learning_rate)
        self.objective = self._build_objective()
        self.update = 0
        self._skipping = Skipping(self._team, self._numerics)
        self._clip = Clip(config)
        self.best: dict[str, Any] = {"value": math.inf, "update": 0, "model": None}
        self.history: list[dict[str, float]] = []
        parts: dict[str, Part] = {
            "model": model,
            "optimizer": self.optimizer,
            "objective": self.objective,
            "numerics": self._numerics,
        }
        self._resuming = Resuming(self.folder, self._identify(), parts, self.generator)
        course = self._resuming.go_on(model.device, config.seed, self._most_updates)
        if course is not None:
            self._go_on(course)
        self._write_settings = partial(write_settings, folder, model, config, dataset, preset, path)
        self.compiled = config.compile and compile_networks(model, model.device)
        self._loss = BatchLoss(model, self._team, self._numerics)
        self._joint = self._team.wrap(self._loss)

    @property
    def skipped(self) -> int:
        """Batches whose loss or gradient was not finite, and of which nothing was learned."""
        return self._skipping.count

    @property
    def _writes(self) -> bool:
        """Whether this is the process that writes."""
        return self._team.rank == 0

    @property
    def _progress(self) -> float:
        return self.update / self.config.updates

    @property
    def _most_updates(self) -> float | int:
        return self.config.updates

    @property
    def _settled(self) -> bool:
        """Whether validations compare: what is asked for no longer changes."""
        whole = self._progress >= self.config.halved_until
        coarse = schedules.coarseness(self.config, self._progress)
        return whole and not coarse and self.objective.settled(self._progress)

    def _calibrate(self) -> None:
        """Take what depends on data."""
        self.model.calibrate(self._dataset.train)

    def _identify(self) -> dict[str, Any]:
        """What a run cannot change when it goes on."""
        data = self._dataset.provenance.fingerprint
        return {"train": lasting(self.config), "model": asdict(self.model.config), "data": data}

    def _judge_by(self, validation: Episodes) -> Judge:
        batch = spread_windows(validation, self.config.window).to(self.model.device)
        return Judge(self.model, batch, self.config.seed)

    def _build_objective(self) -> Objective:
        if self.config.objective == "elbo":
            return AnnealedELBO(self.config.elbo)
        if self.config.objective == "balanced":
            return Balanced(self.config.balanced)
        return Constrained(self.config.constrained)

    def fit(self, progress: bool = True, watch: Callable[[Trainer], None] | None = None) -> World:
        """Train to the end, or to where patience ends.

        Ctrl-C and SIGTERM end it after the update that is under way, with a checkpoint; a second
        one ends it at once.

        Args:
            progress: Whether to show a progress bar.
            watch: Called before the first update and after every one. It must leave the trainer as
                it is.

        Returns:
            A world of the model with the weights that validated best, in evaluation mode. What is
            fitted to dreams, the first of several processes has alone.

        Raises:
            DivergenceError: A loss or gradient is not finite; the message names the term and the
                update. The last checkpoint stays as it was.
            FolderInUse: Another process trains in the folder.
        """
        with self._alone_in_folder():
            return self._fit(progress, watch or (lambda trainer: None))

    @contextmanager
    def _alone_in_folder(self) -> Iterator[None]:
        if not self._writes:
            yield
            return
        with locked(self._resuming.path.parent):
            for path in (self._resuming.path, self.folder / SETTINGS):
                clear_leftovers(path)
            yield

    def _fit(self, progress: bool, watch: Callable[[Trainer], None]) -> World:
        c = self.config
        if self._writes:
            self._write_settings()
        self._train(progress and self._writes, watch)
        self.validate()
        # Not the model: one that was finished before stays whole until this one is.
        if self._writes:
            self._write_state()
        self.model.load_state_dict(self.best["model"])
        if not self._writes:
            return World(self.model.eval(), source=self.source)
        train, validation = self.samples()
        world = fit_world(
            self.model.eval(),
            c.dreaming,
            train,
            validation,
            c.window,
            c.seed,
            progress,
            self.source,
            self.update,
        )
        world.metrics = {"updates": self.best["update"]}
        world.metrics["learned"] = learned(world, self._judge.batch, self._judge.filtered)
        fit_trust(world, c.dreaming, validation, progress)
        world.save(self.folder / "checkpoint")
        return world

    def samples(self) -> tuple[Batch, Batch]:
        """Episodes of both splits that what follows training looks at."""
        train, validation = self._dataset.train.followed(), self._dataset.validation.sample()
        return train.to(self.model.device), validation.to(self.model.device)

    def _train(self, progress: bool, watch: Callable[[Trainer], None]) -> None:
        """Make all updates, but for those after a signal."""
        c = self.config
        writer = event_writer(self.folder, self.update) if c.tensorboard and self._writes else None
        self.model.train()
        written = begun = time.monotonic()
        first, told, before = self.update, not progress, self._skipping.count
        with held_signals() as held, Shown(c.updates, self.update, not progress) as bar:
            watch(self)
            while self.update < c.updates and not self._out_of_patience():
                if self._asked_to_stop(held.signal is not None):
                    break
                sequences, steps = schedules.batch_shape(c, self._progress)
                self.step()
                watch(self)
                bar.count(sequences * (steps + 1))
                if not told and (said := self._promise(first, time.monotonic() - begun)):
                    bar.console.print(said, soft_wrap=True)
                    told = True
                if self.update % c.validate_every == 0:
                    logs = self.validate()
                    bar.validated(logs)
                    if writer is not None:
                        for name, value in logs.items():
                            writer.add_scalar(name, value, self.update)
                if self.update % c.validate_every == 0 or time.monotonic() - written > _SECONDS:
                    self.checkpoint()
                    written = time.monotonic()
            self._skipping.tell(bar.console, before)
            if held.signal:
                self.checkpoint()
            if writer is not None:
                writer.close()

    def _asked_to_stop(self, asked: bool) -> bool:
        """Whether any process was.

        Raises:
            KeyboardInterrupt: Another one was, and not this one.
        """
        flag = torch.tensor(float(asked), device=self.model.device)
        if not self._team.summed(flag).item():
            return False
        if not asked:
            self.checkpoint()
            raise KeyboardInterrupt
        return True

    def step(self) -> Terms:
        """One gradient update; the terms of this process's rows of the batch.

        Raises:
            DivergenceError: One batch after the other gives a loss or gradient that is not finite.
        """
        self._skipping.until_finite(self._differentiate, self._explain)
        terms = self._loss.terms
        for group in self.optimizer.param_groups:
            group["lr"] = schedules.learning_rate(self.config, self.update, self._progress)
        self._numerics.step(self.optimizer)
        self.update += 1
        self.objective.observe(self._team.joined(terms), self._progress)
        return terms

    def _differentiate(self) -> tuple[Tensor, Tensor]:
        """Draw a batch; its loss, and the norm that its gradient had before it was scaled down."""
        c, progress = self.config, self._progress
        self.model.emphasise(schedules.coarseness(c, progress))
        sequences, steps = schedules.batch_shape(c, progress)
        batch = self._drawn.draw(sequences, steps, self.generator)
        hidden = schedules.hidden_fraction(c, progress)
        observed = observation_dropout(sequences, steps + 1, hidden, self.generator)
        loss = self._joint(
            self.objective,
            self.windows,
            batch,
            self.generator,
            own_rows(observed, self.generator),
            schedules.draw_prefix(c, steps + 1, self.generator),
            c.dropout_scale,
        )
        self.optimizer.zero_grad()
        self._numerics.backward(loss, self.optimizer)
        return loss, self._clip(self.model.parameters())

    def _explain(self, norm: Tensor) -> str:
        return (
            f"{culprit(self._loss.terms, norm)} is not finite at update {self.update}; the last "
            f"good checkpoint is in {self.folder}. A smaller learning_rate or max_grad_norm may "
            "help."
        )

    def validate(self) -> dict[str, float]:
        """Measure on the validation split; remember the weights that predict best."""
        if self.history and self.history[-1]["update"] == self.update:
            return self.history[-1]
        # Each name once, in memory and in the state's file, however often is validated.
        logs = {intern(name): value for name, value in self._team.told(self._measure).items()}
        error = logs["validation/prediction_mse"]
        self.history.append(logs)
        if self.best["model"] is None or not self._settled or (error < self.best["value"]):
            weights = {k: v.clone() for k, v in self.model.state_dict().items()}
            self.best = {"value": error, "update": self.update, "model": weights}
        return logs

    def _measure(self) -> dict[str, float]:
        self.model.emphasise(schedules.coarseness(self.config, self._progress))
        return {
            "update": float(self.update),
            **self._judge.measure(),
            "learning_rate": schedules.learning_rate(self.config, self.update, self._progress),
            "skipped": float(self._skipping.count),
            **{f"objective/{k}": v for k, v in self.objective.logs().items()},
        }

    def _promise(self, first: int, seconds: float) -> str:
        """What is learned so far and how long it takes, once that can be told; else nothing.

        Args:
            first: Update that this process began at.
            seconds: Since then.
        """
        done = self.update - first
        if done < _TOLD_AFTER * (self.config.updates - first) and seconds < _SOON:
            return ""
        left = seconds / done * (self.config.updates - self.update) / 60
        still = f"about {left:.0f} minutes left" if left >= 1.5 else "about a minute left, or less"
        return f"learning: {self._judge.in_words()}, {still}"

    def _out_of_patience(self) -> bool:
        c = self.config
        if not c.patience or not self._settled:
            return False
        return self.update - self.best["update"] >= c.patience * c.validate_every

    def checkpoint(self) -> None:
        """Write the training state and the best model so far, each whole or not at all."""
        if not self._writes:
            return
        self._write_state()
        if self.best["model"] is None:
            return  # nothing was validated yet
        current = self.model.state_dict()
        kept = {k: v.clone() for k, v in current.items()}
        self.model.load_state_dict(self.best["model"])
        world = World(self.model, source=self.source)
        world.save(self.folder / "checkpoint", {"updates": self.best["update"]})
        self.model.load_state_dict(kept)

    def _write_state(self) -> None:
        self._resuming.write(self._course())

    def _course(self) -> dict[str, Any]:
        """How far training has come, and what it has found."""
        return {
            "update": self.update,
            "usual_norm": self._clip.usual_norm,
            "skipped": self._skipping.count,
            "best": self.best,
            "history": self.history,
        }

    def _go_on(self, course: dict[str, Any]) -> None:
        self.update, self._clip.usual_norm = course["update"], course["usual_norm"]
        self._skipping.count = course["skipped"]
        self.best, self.history = course["best"], course["history"]
