"""``worldmodel train``: fit a model to a dataset."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from worldmodel import load
from worldmodel.cli.arguments import AnyModelConfig, Data, ModelName, PresetName
from worldmodel.cli.console import note, say, warn
from worldmodel.cli.defaults import Found, Hidden
from worldmodel.cli.suspicions import note_findings
from worldmodel.data import Dataset
from worldmodel.device import pick_device
from worldmodel.errors import ConfigError
from worldmodel.evaluation.shortcomings import unlearned
from worldmodel.models.learned import LearnedModel
from worldmodel.models.registry import MODELS, model_type, registered
from worldmodel.systems import system_of
from worldmodel.training.budget import updates_within
from worldmodel.training.config import TrainConfig
from worldmodel.training.settings import read_settings
from worldmodel.training.team import team
from worldmodel.training.trainer import Trainer


def train(
    dataset: Data,
    run: Path,
    preset: PresetName = "pictures",
    name: Annotated[ModelName, tyro.conf.arg(name="model")] = "dvbf",
    model: AnyModelConfig = MODELS["dvbf"].config_type(),  # noqa: B008 (frozen)
    config: tyro.conf.OmitArgPrefixes[TrainConfig] = TrainConfig(),  # noqa: B008 (frozen)
    device: str = "auto",
    minutes: float | None = None,
    warm: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None,
    threads: int = 1,
    found: Hidden[Found] = Found(),  # noqa: B008 (frozen)
) -> None:
    """Train a model; killed and started again, it goes on.

    ``torchrun --nproc-per-node 2 -m -- worldmodel train DATA --run RUN`` trains by two processes.

    Args:
        dataset: Folder from ``worldmodel collect``. It decides on the preset, and so on the
            defaults of all that follows: give it before ``--help`` to see them.
        run: Run folder; the model goes to RUN/checkpoint, the settings to RUN/settings.json.
        preset: Settings to begin with (``worldmodel presets``). Give it before ``--help`` to see
            them.
        name: Which model (docs/models.md). Give it before ``--help`` to see its settings.
        model: The model's settings.
        config: How to train.
        device: "auto" for the fastest that is there, "cpu", "cuda", "cuda:1" or "mps".
        minutes: Of wall clock, within which training is to end: the number of updates is chosen by
            what one takes here and now, in place of ``updates``. It is written down, so that a run
            that goes on has as many.
        warm: Run, checkpoint or name of a bundled one whose weights training begins with, such as
            after the data have grown: with its model's settings and scaling, a third of the updates
            and of the learning rate, and all schedules at their end.
        threads: Of torch. The models are so small that more than one rarely helps, and another
            number may change the last bits of the result.
        found: What the defaults were chosen by.
    """
    torch.set_num_threads(threads)
    recorded, place = found.checked(dataset), pick_device(device)
    with team(place) as together:
        specs = recorded.observation_spec, recorded.action_spec
        fresh = model_type(name)(model, *specs, config.seed) if warm is None else begun(warm, model)
        fresh.to(place)
        if together.rank == 0:
            note_findings(recorded)
        if minutes is not None:
            # What one process measures all of them train for.
            within = partial(_updates, run, fresh, recorded, config, minutes)
            config = replace(
                config, updates=int(together.told(lambda: {"updates": within()})["updates"])
            )
            if together.rank == 0:
                say(f"{config.updates:,} updates in {minutes:g} minutes")
        trainer = Trainer(fresh, recorded, config, run, preset, dataset, together, bool(warm))
        if trainer.update and together.rank == 0:
            say(f"going on at update {trainer.update} of {config.updates}")
        if isinstance(trainer.compiled, str) and together.rank == 0:
            note(f"not compiled: {trainer.compiled}")
        world = trainer.fit()
        if together.rank == 0:
            say(f"{run}/checkpoint: best at update {trainer.best['update']}")
            source = recorded.provenance
            controlled = system_of(source.env_id).controlled
            for told in unlearned(world.metrics["learned"], controlled, bool(source.source)):
                warn(told)


def begun(run: str, config: Any) -> LearnedModel:
    """The model of a run, to be trained further.

    Raises:
        ConfigError: It is none that is registered, or other settings are asked for.
    """
    model = registered(load(run).model)
    if model.config != config:
        raise ConfigError(f"--warm {run} has the settings {model.config}, got {config}")
    return model.requires_grad_(True)


def _updates(
    run: Path, model: LearnedModel, dataset: Dataset, config: TrainConfig, minutes: float
) -> int:
    """Those that the run began with, or as many as there is time for."""
    if not 0 < minutes < math.inf:
        raise ConfigError(f"minutes must be finite and more than 0, got {minutes:g}")
    begun = read_settings(run).get("train", {}).get("updates")
    return begun or updates_within(model, dataset, config, 60 * minutes)
