"""Commands whose defaults depend on a file that they are given."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from agents.pathwise import suited_config
from worldmodel import data
from worldmodel.cli.commands import agent, train
from worldmodel.models.checkpoint import load
from worldmodel.training.recipe import recipe


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
        model, config = recipe(data.load(path))
        return {"train": partial(train, model=model, config=config)}
    if words[:1] == ["agent"] and (path := _value("--run", words)):
        return {"agent": partial(agent, pathwise=suited_config(load(path)))}
    return {}


def _value(flag: str, words: Sequence[str]) -> str | None:
    """What follows a flag, if anything does."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument(flag, dest="value")
    try:
        return parser.parse_known_args(words)[0].value
    except argparse.ArgumentError:  # no value: tyro says so better
        return None
