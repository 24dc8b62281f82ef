"""The trainer: the only place that trains a model.

Everything random comes from one generator, and everything that a run depends on is written to
``training/state.pt`` at every checkpoint. A run that is killed and started again continues there
and ends with the weights, bit for bit on one CPU, that it would have had.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from worldmodel.data import Dataset
from worldmodel.errors import DivergenceError, FileFormatError, SpecError, require_extra
from worldmodel.evaluation.prediction import open_loop_error
from worldmodel.files import leftovers, locked, write_whole
from worldmodel.interruption import held_signals
from worldmodel.models.learned import LearnedModel
from worldmodel.models.terms import Terms
from worldmodel.progress import Progress
from worldmodel.training.config import TrainConfig
from worldmodel.training.dreaming import fit_world
from worldmodel.training.losses.balanced import Balanced
from worldmodel.training.losses.constrained import Constrained
from worldmodel.training.losses.elbo import AnnealedELBO
from worldmodel.training.losses.objective import Objective
from worldmodel.training.losses.observation_dropout import observation_dropout
from worldmodel.training.settings import FILE as SETTINGS
from worldmodel.training.settings import write_settings
from worldmodel.training.windows import Windows, spread_windows
from worldmodel.world.world import World

STATE_FILE = Path("training") / "state.pt"
# Settings that a refusal names one by one.
_TOLD = 4
# Of training that a killed process loses at most, however seldom it is validated.
_SECONDS = 120.0
# What a training state must hold.
_STATE = "identity model optimizer objective generator update usual_norm best history".split()
# Steps of a sequence where they lengthen: the fewest that tell a velocity, and what changes it.
_SHORTEST = 3
# Of the moving average of the gradient's norm.
_DECAY = 0.99


class Trainer:
    """Trains one model on one dataset in one folder.

    Windows are drawn from all training episodes, which are read from the dataset's files as they
    are drawn if they are too many to be kept in memory. Validation, and what is fitted to dreams
    after training, look at a sample (``Episodes.sample``): of up to 250,000 frames or 64 MB, which
    are all of a small split.

    Args:
        model: Freshly built; its scaling is taken from the training data here.
        dataset: With splits "train" and "validation".
        config: How to train.
        folder: Run folder. ``checkpoint/`` holds the best model so far, ``training/state.pt`` all
            that exact resume needs, ``settings.json`` what it is trained with, ``tensorboard/``
            the curves.
        preset: Name of what the settings began as, for ``settings.json``.
        path: File of the dataset, likewise.

    Raises:
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
    ) -> None:
        dataset.check_fits(model.observation_spec, model.action_spec)
        train, validation = dataset.train, dataset.validation
        if config.window > train.steps:
            raise SpecError(
                f"window must be at most the longest episode's {train.steps} steps, "
                f"got {config.window}"
            )
        self.model, self.config, self.folder = model, config, Path(folder)
        self._dataset = dataset
        self._judged = spread_windows(validation, config.window).to(model.device)
        model.calibrate(train)
        self.source = dataset.provenance.source
        self._drawn = Windows.of(train, model)
        # Longer episodes hold several windows each, among which the weights' KL is shared.
        self.windows = max(1, int(train.lengths.sum()) // config.window)
        self.generator = torch.Generator(model.device).manual_seed(config.seed)
        self.optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
        self.objective = self._build_objective()
        self.update = 0
        self.usual_norm = 0.0  # of the gradient; 0 before the first
        self.best: dict[str, Any] = {"value": math.inf, "update": 0, "model": None}
        self.history: list[dict[str, float]] = []
        self._identity = self._identify()
        if self._state_path.exists():
            self._resume()
        self._write_settings = partial(write_settings, folder, model, config, dataset, preset, path)

    @property
    def _state_path(self) -> Path:
        return self.folder / STATE_FILE

    @property
    def _progress(self) -> float:
        return self.update / self.config.updates

    @property
    def _most_updates(self) -> float | int:
        return self.config.updates

    @property
    def _coarseness(self) -> float:
        c = self.config
        return c.coarse * max(0.0, 1 - self._progress / c.coarse_until)

    @property
    def _settled(self) -> bool:
        """Whether validations compare: what is asked for no longer changes."""
        whole = self._progress >= self.config.lengthen_until
        return whole and not self._coarseness and self.objective.settled(self._progress)

    def _drawn_size(self) -> tuple[int, int]:
        """Sequences of the next batch, and their steps."""
        c = self.config
        if self._progress >= c.lengthen_until:
            return c.batch_size, c.window
        shortest = min(_SHORTEST, c.window)
        late = self._progress >= c.lengthen_until / 2
        steps = round(math.sqrt(shortest * c.window)) if late else shortest
        return round(c.batch_size * (c.window + 1) / (steps + 1)), steps

    def _identify(self) -> dict[str, Any]:
        """What a run cannot change when it goes on."""
        data = self._dataset.provenance.fingerprint
        return {"train": _lasting(self.config), "model": asdict(self.model.config), "data": data}

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
            A world of the model with the weights that validated best, in evaluation mode.

        Raises:
            DivergenceError: A loss or gradient is not finite; the message names the term and the
                update. The last checkpoint stays as it was.
            FolderInUse: Another process trains in the folder.
        """
        with locked(self._state_path.parent):
            for path in (self._state_path, self.folder / SETTINGS):
                for left in leftovers(path):
                    left.unlink()  # by a process that was killed, or it would hold the lock
            return self._fit(progress, watch or (lambda trainer: None))

    def _fit(self, progress: bool, watch: Callable[[Trainer], None]) -> World:
        c = self.config
        self._write_settings()
        self._train(progress, watch)
        self.validate()
        # Not the model: one that was finished before stays whole until this one is.
        self._write_state()
        self.model.load_state_dict(self.best["model"])
        splits = self._dataset.train, self._dataset.validation
        train, validation = (split.sample().to(self.model.device) for split in splits)
        world = fit_world(
            self.model.eval(),
            c.dreaming,
            train,
            validation,
            c.window,
            c.seed,
            progress,
            self.source,
        )
        world.save(self.folder / "checkpoint", {"updates": self.best["update"]})
        return world

    def _train(self, progress: bool, watch: Callable[[Trainer], None]) -> None:
        """Make all updates, but for those after a signal."""
        c, writer = self.config, self._writer()
        columns = (
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.model.train()
        written = time.monotonic()
        with held_signals() as held, Progress(*columns, disable=not progress) as bar:
            task = bar.add_task("train", total=self.config.updates, completed=self.update, note="")
            watch(self)
            while self.update < c.updates and not self._out_of_patience() and not held.signal:
                self.step()
                watch(self)
                bar.advance(task)
                if self.update % c.validate_every == 0:
                    logs = self.validate()
                    bar.update(task, note=_note(logs))
                    if writer is not None:
                        for name, value in logs.items():
                            writer.add_scalar(name, value, self.update)
                if self.update % c.validate_every == 0 or time.monotonic() - written > _SECONDS:
                    self.checkpoint()
                    written = time.monotonic()
            if held.signal:
                self.checkpoint()
            if writer is not None:
                writer.close()

    def step(self) -> Terms:
        """One gradient update."""
        c = self.config
        self.model.emphasise(self._coarseness)
        sequences, steps = self._drawn_size()
        batch = self._drawn.draw(sequences, steps, self.generator)
        size = (sequences, steps + 1)
        hidden = c.dropout_fraction if self._progress < c.dropout_until else 0.0
        observed = observation_dropout(*size, hidden, self.generator)
        terms = self.model.terms(
            batch, self.generator, observed, self._draw_prefix(steps + 1), c.dropout_scale
        )
        loss = self.objective.loss(terms, self.windows)
        self.optimizer.zero_grad()
        loss.backward()
        norm = self._clip()
        if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
            raise DivergenceError(self._explain(terms, norm))
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.step()
        self.update += 1
        self.objective.observe(terms, self._progress)
        return terms

    def _clip(self) -> Tensor:
        """Scale the gradient as the configuration says; the norm that it had."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        length = norm.item()
        allowed = self._trust(length) * min(length, self.config.max_grad_norm)
        if length > allowed:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), allowed, norm)
        return norm

    def _trust(self, norm: float) -> float:
        """What fraction of a gradient counts: less than 1 if it is far longer than usual."""
        if not self.config.max_grad_ratio or not math.isfinite(norm):
            return 1.0
        usual = self.usual_norm or norm
        longest = self.config.max_grad_ratio * usual
        self.usual_norm = _DECAY * usual + (1 - _DECAY) * min(norm, longest)
        return min(1.0, longest / norm) if norm else 1.0

    def _draw_prefix(self, frames: int) -> int:
        c = self.config
        draw = torch.rand((), generator=self.generator, device=self.generator.device).item()
        if draw < c.single_frame_fraction:
            return 1
        if draw >= 1 - c.all_frames_fraction:
            return frames
        between = 1 - c.single_frame_fraction - c.all_frames_fraction
        fraction = (draw - c.single_frame_fraction) / between
        return 1 + int(fraction * frames)

    def _learning_rate(self) -> float:
        c = self.config
        decay = 0.5 * (1 + math.cos(math.pi * self._progress))
        rise = min(1.0, (self.update + 1) / max(c.warmup_steps, 1))
        return c.learning_rate * rise * (c.lr_final_fraction + (1 - c.lr_final_fraction) * decay)

    def _explain(self, terms: Terms, norm: Tensor) -> str:
        names = [*(f.name for f in fields(terms)), "unevenness"]
        tensors = ((name, getattr(terms, name)) for name in names)
        bad = [n for n, v in tensors if isinstance(v, Tensor) and not torch.isfinite(v).all()]
        where = f"term {bad[0]!r}" if bad else f"the gradient (norm {norm.item()})"
        return (
            f"{where} is not finite at update {self.update}; the last good checkpoint is in "
            f"{self.folder}. A smaller learning_rate or max_grad_norm may help."
        )

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Measure on the validation split; remember the weights that predict best.

        The criterion is the error of predicting the second half of each episode after filtering
        the first: the bound does not tell models that predict from models that do not.
        """
        if self.history and self.history[-1]["update"] == self.update:
            return self.history[-1]
        generator = torch.Generator(self.model.device).manual_seed(self.config.seed)
        batch = self._judged
        self.model.emphasise(self._coarseness)
        terms = self.model.eval().terms(batch, generator)
        half = max(1, batch.steps // 2)
        error = open_loop_error(World(self.model), batch, filtered=half).mean().item()
        error = math.inf if math.isnan(error) else error  # NaN would never be improved on
        self.model.train()
        logs = {
            "update": float(self.update),
            "validation/prediction_mse": error,
            "validation/reconstruction": terms.reconstruction.sum(1).mean().item(),
            "validation/kl": terms.rate.sum(1).mean().item(),
            "learning_rate": self._learning_rate(),
            **{f"objective/{k}": v for k, v in self.objective.logs().items()},
        }
        if self.model.knows_reward:
            logs["validation/reward"] = terms.reward.mean().item()
        if self.model.is_bound:
            bound = (terms.reconstruction - terms.rate).sum(1).mean().item()
            logs["validation/lower_bound"] = bound
        self.history.append(logs)
        if self.best["model"] is None or not self._settled or (error < self.best["value"]):
            weights = {k: v.clone() for k, v in self.model.state_dict().items()}
            self.best = {"value": error, "update": self.update, "model": weights}
        return logs

    def _out_of_patience(self) -> bool:
        c = self.config
        if not c.patience or not self._settled:
            return False
        return self.update - self.best["update"] >= c.patience * c.validate_every

    def checkpoint(self) -> None:
        """Write the training state and the best model so far, each whole or not at all."""
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
        memory = io.BytesIO()  # torch would make an error of its own of a full disk
        torch.save(self._state(), memory)
        write_whole(self._state_path, memory.getbuffer())

    def _state(self) -> dict[str, Any]:
        return {
            "identity": json.dumps(self._identity),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "generator": self.generator.get_state(),
            "update": self.update,
            "usual_norm": self.usual_norm,
            "best": self.best,
            "history": self.history,
        }

    def _resume(self) -> None:
        state = _read_state(self._state_path, self.model.device)
        identity = json.loads(state["identity"])
        ours = json.loads(json.dumps(self._identity))
        if told := list(_differences(identity, ours)):
            more = [f"and {len(told) - _TOLD} more"] if len(told) > _TOLD else []
            raise SpecError(
                f"{self.folder} holds a run with other settings: "
                f"{', '.join(told[:_TOLD] + more)}; choose another folder or delete it"
            )
        if state["update"] > self._most_updates:
            raise SpecError(
                f"{self.folder} holds a run of {state['update']} updates already, which is more "
                f"than the {self.config.updates} that are asked for"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        self.generator.set_state(state["generator"].cpu())
        self.update, self.usual_norm = state["update"], state["usual_norm"]
        self.best, self.history = state["best"], state["history"]

    def _writer(self) -> Any:
        if not self.config.tensorboard:
            return None
        require_extra("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(self.folder / "tensorboard", purge_step=self.update)


def _lasting(config: TrainConfig) -> dict[str, Any]:
    """What a run cannot change when it goes on."""
    settings = asdict(config)
    # No result depends on the last of them, and another machine may not have it.
    return {k: v for k, v in settings.items() if k not in ("updates", "patience", "tensorboard")}


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """Settings that a run had otherwise; older ones may have been written with more of them."""
    if isinstance(now, dict) and isinstance(before, dict):
        for name, value in now.items():
            yield from _differences(before.get(name), value, f"{path}.{name}" if path else name)
    elif before != now:
        yield f"{path} was {before!r}, not {now!r}"


def read_history(folder: str | Path) -> list[dict[str, float]]:
    """Validations of a run so far, as in ``Trainer.history``; none if it was not trained there.

    Raises:
        FileFormatError: The folder's training state is truncated or corrupt.
    """
    path = Path(folder) / STATE_FILE
    return _read_state(path, torch.device("cpu"))["history"] if path.is_file() else []


def _read_state(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        json.loads(state["identity"])
        # A run may be older than this part is.
        state = {"usual_norm": 0.0} | state
        return {part: state[part] for part in _STATE}
    except Exception as error:
        raise FileFormatError(f"{path} is truncated or corrupt: {error!r}") from error


def _note(logs: dict[str, float]) -> str:
    return (
        f"prediction mse {logs['validation/prediction_mse']:.2g}  "
        f"reconstruction {logs['validation/reconstruction']:.0f}  kl {logs['validation/kl']:.1f}"
    )
