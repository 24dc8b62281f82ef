"""``worldmodel play``: a dream under the keyboard, and reality beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from agents.rollout import Acting
from worldmodel import data, load
from worldmodel.cli.arguments import Run
from worldmodel.cli.console import say
from worldmodel.cli.runs import dataset_of, own_data, policy_of, reality, require_same_system
from worldmodel.errors import ConfigError, SpecError, require_at_least, require_extra
from worldmodel.play.data_states import DataStates
from worldmodel.play.session import Session
from worldmodel.systems import system_of
from worldmodel.world.world import World

_INTERVAL = 0.1  # seconds, where no environment says how many


def play(
    run: Run = "pendulum",
    mode: Literal["dream", "compare", "filter"] = "compare",
    policy: Path | None = None,
    dataset: Path | None = None,
    force: bool = False,
    env_id: str | None = None,
    env_kwargs: str | None = None,
    out: Path = Path("runs/play"),
    noise: bool = False,
    interval: float | None = None,
    width: int = 1280,
    height: int = 720,
    fps: int = 60,
    seed: int = 0,
) -> None:
    """Steer the dream by keyboard or gamepad, with the real system beside it.

    H shows the keys.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one.
        mode: What to begin with: the dream alone, the dream against reality under the same actions,
            or the filter following reality.
        policy: The agent's file, or its folder, if it is not in the run folder or bundled.
        dataset: Folder from `worldmodel collect`, whose frames can be started from; by default the
            run's own data, else a few episodes recorded now.
        force: Whether to start from data of another system than the one trained on.
        env_id: The real environment; by default the one that the model was trained on.
        env_kwargs: Its arguments, as JSON; by default those of the one trained on.
        out: Folder for films and screenshots.
        noise: Whether the dream has the model's process noise.
        interval: Seconds per step; by default the environment's own. More is slow motion.
        width: Of the window at first, in pixels.
        height: Of the window at first, in pixels.
        fps: Frames drawn per second.
        seed: Of starts and noise.
    """
    require_at_least(1, width=width, height=height, fps=fps)
    if interval is not None and not interval > 0:
        raise ConfigError(f"interval must be more than 0 seconds, got {interval}")
    require_extra("pygame", "viewer")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    from worldmodel.play.app import App

    torch.set_num_threads(1)
    world = load(run)
    agent = agent_of(run, world, policy)
    source, real, message = world.source, None, "the arrows act"
    if source is None and env_id is None:
        mode, message = "dream", "the dream alone: no environment is known, --env-id names one"
    else:
        source = reality(world, env_id, env_kwargs)
        real = source.endless().make()
        interval = interval or 1 / source.frames_per_second(real)
    known = states_of(world, source, dataset or _recorded(run, source), force, seed)
    unit = system_of(source.env_id if source else "").action_unit
    session = Session(world, known, real, agent, mode, noise, seed, unit)
    app = App(session, Path(run).name, interval or _INTERVAL, out, (width, height), fps, message)
    if said := app.run():
        say(said)


def agent_of(run: str, world: World, path: Path | None) -> Callable[[np.ndarray], Any] | None:
    """What acts on a latent state; None if nothing was trained, and nothing was asked for."""
    try:
        return Acting(policy_of(run, world, path))
    except SpecError:
        if path is not None:
            raise
        return None


def _recorded(run: str, source: data.Source | None) -> Path | None:
    """The run's own data; of a model of a recording, that recording if it is still there."""
    path = own_data(run) if source else dataset_of(run)
    return path if path is not None and path.exists() else None


def states_of(
    world: World, source: data.Source | None, dataset: Path | None, force: bool, seed: int
) -> DataStates:
    """Data states: of a dataset, of episodes recorded for the purpose, else of the checkpoint."""
    targets = system_of(source.env_id if source else "").targets
    if dataset is not None:
        recorded = data.load(dataset)
        if not force:
            require_same_system(world, recorded)
        return DataStates.recorded(world.model, recorded.test.sample(), targets)
    if source is None:
        return DataStates.of_support(world)
    return DataStates.babbled(world, source, targets, seed)
