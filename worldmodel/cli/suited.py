"""Commands whose defaults depend on a file that they are given."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from agents.empowerment import EmpoweredConfig
from agents.pathwise import PathwiseConfig, suited_config
from worldmodel import data, load
from worldmodel.cli.commands import agent, train
from worldmodel.cli.empowerment import empowerment
from worldmodel.cli.systems import RECIPES, Recipe, recipe_without_reward, system_of
from worldmodel.models.registry import MODELS
from worldmodel.training.config import TrainConfig
from worldmodel.training.recipe import recipe
from worldmodel.types import ObservationSpec
from worldmodel.world.world import World


def suited(words: Sequence[str]) -> dict[str, Callable[..., Any]]:
    """The command that ``words`` call, with the defaults that suit the file they name.

    Args:
        words: Of the command line, the subcommand first.

    Returns:
        The command by its name; empty if its defaults depend on nothing, or nothing is named.

    Raises:
        FileNotFoundError: There is no such file.
        FileFormatError: It cannot be read.
    """
    if words[:1] == ["train"] and (path := _value("--dataset", words)):
        # A name that there is not is refused by the command itself.
        name = _value("--model", words)
        name = name if name in MODELS else "dvbf"
        model, config = learning(data.load(path), name)
        return {"train": partial(train, model=model, config=config)}
    if words[:1] == ["agent"] and (path := _value("--run", words)):
        return {"agent": partial(agent, pathwise=_acting(load(path)))}
    if words[:1] == ["empowerment"] and (path := _value("--run", words)):
        return {"empowerment": partial(empowerment, agent=_empowered(load(path)))}
    return {}


def learning(dataset: data.Dataset, name: str) -> tuple[Any, TrainConfig]:
    """The demo's settings for its own system, else those that suit model and data."""
    model, training = recipe(dataset, name)
    known = demo_of(dataset.provenance.source, dataset.observation_spec)
    if known is None:
        return model, training
    if type(model) is type(known.model):
        model = known.model
    window = min(known.train.window, dataset.train.steps)
    return model, replace(known.train, window=window)


def _acting(world: World) -> PathwiseConfig:
    known = demo_of(world.source, world.model.observation_spec)
    asked = known and known.agent
    return asked if isinstance(asked, PathwiseConfig) else suited_config(world)


def _empowered(world: World) -> EmpoweredConfig:
    known = world.source and recipe_without_reward(system_of(world.source.env_id))
    asked = known and known.agent
    return asked if isinstance(asked, EmpoweredConfig) else EmpoweredConfig()


def demo_of(source: data.Source | None, spec: ObservationSpec) -> Recipe | None:
    """The demo's recipe for an environment's own pixels, if it has a demo."""
    if source is None or source.wrapping != data.Wrapping() or not spec.pixels:
        return None
    return next((r for r in RECIPES.values() if system_of(source.env_id) is r.system), None)


def _value(flag: str, words: Sequence[str]) -> str | None:
    """What follows a flag, if anything does."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument(flag, dest="value")
    try:
        return parser.parse_known_args(words)[0].value
    except argparse.ArgumentError:  # no value: tyro says so better
        return None
