"""The command line: the composition root, the only module that knows everybody."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro
from rich.console import Console

from worldmodel.cli.commands import agent, bench, collect, evaluate, train
from worldmodel.cli.demo import demo
from worldmodel.errors import WorldModelError

COMMANDS = {
    "demo": demo,
    "collect": collect,
    "train": train,
    "evaluate": evaluate,
    "agent": agent,
    "bench": bench,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``worldmodel``; errors that name their cause are printed without a traceback."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="worldmodel",
            description="Learn a simulator from frames and actions, and train agents in it.",
            args=arguments,
        )
    except (WorldModelError, FileNotFoundError) as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False)
        sys.exit(1)
