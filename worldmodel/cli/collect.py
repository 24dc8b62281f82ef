"""``worldmodel collect``: record an environment under random actions."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from worldmodel import data
from worldmodel.cli.arguments import Env, parse_kwargs
from worldmodel.cli.console import say
from worldmodel.cli.suspicions import note_findings


def collect(
    env_id: Env,
    out: Path,
    env_kwargs: str = "{}",
    process: Literal["uniform", "held", "ornstein-uhlenbeck", "zero"] = "uniform",
    episodes: int = 500,
    held_out: int | None = None,
    steps: int = 14,
    test_steps: int = 114,
    num_envs: int = 100,
    seed: int = 0,
    wrapping: tyro.conf.OmitArgPrefixes[data.Wrapping] = data.Wrapping(),  # noqa: B008 (frozen)
) -> None:
    """Record an environment under random actions.

    Args:
        env_id: Gymnasium id of the environment, with its version; "module:id" imports a module
            first.
        out: Folder to write; a dataset that is there is replaced.
        env_kwargs: Arguments of the environment, as JSON.
        process: How actions are drawn.
        episodes: Training episodes.
        held_out: Episodes of validation and of test each; by default as many as for training.
        steps: Steps per training and validation episode, unless it ends before.
        test_steps: Steps per test episode, unless it ends before; more than ``steps``, to measure
            prediction.
        num_envs: Environments that run at once.
        seed: Of everything random.
        wrapping: What to put around the environment.
    """
    dataset = data.collect(
        env_id,
        parse_kwargs(env_kwargs),
        data.PROCESSES[process](),
        data.default_splits(episodes, steps, test_steps, held_out),
        seed=seed,
        num_envs=num_envs,
        progress=True,
        wrapping=wrapping,
        out=out,
    )
    say(f"{out}: {dataset.frames('train'):,} training frames of {env_id}")
    note_findings(dataset)
    longest = dataset.test.steps
    if longest < test_steps:
        say(
            f"no test episode lasted {test_steps} steps, the longest {longest}: "
            "predictions will be judged no further"
        )
