"""The command line: the composition root, the only module that knows everybody."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro
from rich.console import Console
from rich.markup import escape

from worldmodel.cli.commands import agent, bench, collect, evaluate, train
from worldmodel.cli.compare import compare
from worldmodel.cli.demo import demo
from worldmodel.cli.empowerment import empowerment
from worldmodel.cli.imagine import imagine
from worldmodel.cli.play import play
from worldmodel.cli.report import report
from worldmodel.cli.suited import suited
from worldmodel.errors import WorldModelError

COMMANDS = {
    "demo": demo,
    "collect": collect,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "agent": agent,
    "empowerment": empowerment,
    "imagine": imagine,
    "report": report,
    "play": play,
    "bench": bench,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``worldmodel``; errors that name their cause are printed without a traceback.

    Args:
        arguments: In place of the process's.

    Raises:
        SystemExit: With status 1 after such an error, 2 if the arguments make no sense.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS | suited(words),
            prog="worldmodel",
            description="Learn a simulator from frames and actions, and train agents in it.",
            args=_name_demo(words),
        )
    except (WorldModelError, OSError) as error:
        # Escaped, since messages may hold brackets: shapes, extras such as worldmodel[agents].
        text = f"[red]error:[/red] {escape(str(error))}"
        Console(stderr=True).print(text, highlight=False, soft_wrap=True)
        sys.exit(1)


def _name_demo(words: list[str]) -> list[str]:
    """The same words, naming the default demo: tyro takes a demo's flags after its name only."""
    if words[:1] != ["demo"] or words[1:2] in (["-h"], ["--help"]):
        return words
    named = len(words) > 1 and not words[1].startswith("-")
    return words if named else ["demo", "pendulum", *words[1:]]
