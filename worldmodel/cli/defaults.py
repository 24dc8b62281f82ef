"""Defaults that depend on the file or run that a command is given, so that its help shows them.

Two passes: the first finds DATA or RUN, ``--preset`` and ``--model`` among the words and chooses
the preset; in the second the command is parsed with that preset's settings for defaults.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import PrimitiveConstructorSpec, PrimitiveTypeInfo

from agents.actor_critic import ActorCriticConfig
from agents.empowerment import EmpoweredConfig
from agents.pathwise import PathwiseConfig
from worldmodel import data, load
from worldmodel.cli.arguments import REGISTRY, parse_kwargs
from worldmodel.cli.runs import preset_of
from worldmodel.data.environments import observed
from worldmodel.errors import ConfigError
from worldmodel.models.registry import MODELS
from worldmodel.online.config import online_for
from worldmodel.spaces import ActionSpace
from worldmodel.systems import PRESETS, preset, preset_for, preset_without_reward, system_of
from worldmodel.systems.preset import GENERIC
from worldmodel.world.world import World

T = TypeVar("T")
# An argument that is no flag.
Hidden = Annotated[T, tyro.conf.Suppress, tyro.conf.Fixed]
# Flags that no value follows, by their last word; they, and their --no-, nest with what they set.
_SWITCHES = (
    "h",
    "help",
    "tensorboard",
    "compile",
    "huber",
    "pixels",
    "grayscale",
    "parallel",
    "json",
)
# Flags that defaults depend on, beside what is named first and what is a switch.
_ASKED = ("preset", "model", "env-kwargs", "resize", "warm")


@dataclass(frozen=True)
class Found:
    """What the first pass chose the defaults by.

    Attributes:
        subject: DATA or RUN as it was typed.
        held: The dataset or world itself.
    """

    subject: str = ""
    held: Any = None

    def checked(self, subject: Any) -> Any:
        """The dataset or world, if it is the one that the second pass found.

        Raises:
            ConfigError: It is not: the defaults are another's.
        """
        if self.held is None or os.path.expanduser(self.subject) != str(subject):
            raise ConfigError(f"{subject} must be named first, directly behind the command")
        return self.held


@REGISTRY.primitive_rule
def _found(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Found] | None:
    """Nobody types it: it is handed through as it is, not taken apart into flags."""
    if info.type is not Found:
        return None
    return PrimitiveConstructorSpec(
        nargs=0,
        metavar="",
        instance_from_str=lambda words: Found(),
        is_instance=lambda value: isinstance(value, Found),
        str_from_instance=lambda found: [],
    )


def with_defaults(
    words: Sequence[str], commands: Mapping[str, Callable[..., Any]]
) -> dict[str, Callable[..., Any]]:
    """Commands of which the one that is called has the defaults that suit what it is given.

    Args:
        words: Of the command line, the subcommand first.
        commands: By name.

    Raises:
        SpecError: There is no such environment.
        FileNotFoundError: There is no such file or run.
        FileFormatError: It cannot be read.
    """
    name, *rest = words or [""]
    choose, subject = _CHOICES.get(name), _subject(rest)
    if choose is None or subject is None:
        return dict(commands)
    # A name that there is not is refused by the command itself.
    asked = {flag: value for flag in _ASKED if (value := _value(flag, rest))}
    asked |= {flag: "" for flag in ("pixels", "grayscale") if f"--{flag}" in rest}
    chosen = choose(os.path.expanduser(subject), asked)
    held = chosen.pop("held")
    return {**commands, name: partial(commands[name], **chosen, found=Found(subject, held))}


def _learning(path: str, asked: Mapping[str, str]) -> dict[str, Any]:
    """How a model is trained on a dataset."""
    dataset = data.load(path)
    observations, source = dataset.observation_spec, dataset.provenance.source
    name = _known(asked.get("preset"), PRESETS) or preset_for(observations, source)
    model = _known(asked.get("model"), MODELS) or "dvbf"
    chosen = preset(name)
    config = {"model": chosen.model(model, observations), "config": chosen.training(dataset)}
    if begun := asked.get("warm"):
        learned = load(begun).model
        names = [name for name, kind in MODELS.items() if kind is type(learned)]
        model = names[0] if names else model
        config = {"model": learned.config, "config": config["config"].warmed()}
    return {"held": dataset, "preset": name, "name": model, **config}


def _growing(env_id: str, asked: Mapping[str, str]) -> dict[str, Any]:
    """How a model and its agent grow in an environment."""
    size = asked.get("resize", "")
    pictures = {"pixels": "pixels" in asked, "grayscale": "grayscale" in asked}
    wrapping = data.Wrapping(resize=int(size) if size.isdigit() else None, **pictures)
    source = data.Source(env_id, parse_kwargs(asked.get("env-kwargs", "{}")), wrapping)
    env = source.make()
    observations = observed(env.observation_space)
    actions = ActionSpace.from_space(env.action_space)
    env.close()
    name = _known(asked.get("preset"), PRESETS) or preset_for(observations, source)
    model = _known(asked.get("model"), MODELS) or "dvbf"
    settings = preset(name).model(model, observations)
    config = {"model": settings, "config": online_for(observations, actions)}
    return {"held": source, "preset": name, "name": model, **config}


def _acting(run: str, asked: Mapping[str, str]) -> dict[str, Any]:
    """How an agent is trained for the task of a run's environment."""
    world = load(run)
    name = _known(asked.get("preset"), PRESETS) or preset_of(run, world)
    chosen = {"pathwise": task_agent(world, name), "actor_critic": task_learner(world, name)}
    return {"held": world, "preset": name, **chosen}


def _living(run: str, asked: Mapping[str, str]) -> dict[str, Any]:
    """How an agent is trained to live by its empowerment in a run's environment."""
    world = load(run)
    known = preset_without_reward(system_of(world.source.env_id)) if world.source else None
    agent = known.agent if known and isinstance(known.agent, EmpoweredConfig) else None
    return {"held": world, "agent": agent or EmpoweredConfig()}


def task_agent(world: World, name: str) -> PathwiseConfig:
    """A preset's agent for the task; the generic preset's if it has none."""
    spaces = world.model.observation_spec, world.model.action_spec
    agent = preset(name).acting(spaces[1])
    if isinstance(agent, PathwiseConfig):
        return agent
    agent = GENERIC[spaces[0].preset].acting(spaces[1])
    assert isinstance(agent, PathwiseConfig), "the generic presets' are"
    return agent


def task_learner(world: World, name: str) -> ActorCriticConfig:
    """A preset's actor and critic."""
    return preset(name).actor_critic(world.model.action_spec)


# By command.
_CHOICES = {"train": _learning, "learn": _growing, "agent": _acting, "empowerment": _living}


def _known(name: str | None, names: Mapping[str, Any]) -> str | None:
    return name if name in names else None


def _subject(words: Sequence[str]) -> str | None:
    """The first word that is no flag and no flag's value, if there is one."""
    value = False
    for word in words:
        if word.startswith("-"):
            value = "=" not in word and not _is_switch(word)
        elif value:
            value = False
        else:
            return word
    return None


def _is_switch(flag: str) -> bool:
    """Such as --pixels, --no-pixels, --train.no-tensorboard."""
    return flag.lstrip("-").rpartition(".")[2].removeprefix("no-") in _SWITCHES


def _value(flag: str, words: Sequence[str]) -> str | None:
    """What follows a flag, if anything does."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == f"--{flag}":
            return following
        if word.startswith(f"--{flag}="):
            return word.partition("=")[2]
    return None
