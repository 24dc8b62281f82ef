"""``worldmodel presets``: named settings, what each is for, and when it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from inspect import getdoc
from typing import Annotated, Any

import tyro
from rich.table import Table

from worldmodel.cli.console import console, say
from worldmodel.systems import DEMOS, PRESETS, preset


def presets(
    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None,
) -> None:
    """List presets, or print all settings of one.

    Args:
        name: Of a preset; without one all are listed.
    """
    if name is None:
        console().print(_listed())
        return
    chosen = preset(name)
    say(f"{name}: {chosen.about}. Chosen {_when(name)}.")
    for path, value in settings(chosen):
        say(f"{path} = {value}")


def settings(part: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """All settings within a part, by their dotted names."""
    if is_dataclass(part) and not isinstance(part, type):
        part = {field.name: getattr(part, field.name) for field in fields(part)}
    if isinstance(part, Mapping) and part:
        for name, value in part.items():
            yield from settings(value, f"{path}.{name}" if path else str(name))
    elif path != "about":
        yield path, _said(part)


def _said(value: Any) -> str:
    if isinstance(value, Callable):
        return "by the data: " + (getdoc(value) or value.__name__).partition("\n")[0]
    return repr(value)


def _listed() -> Table:
    table = Table(title="Presets", title_justify="left")
    for column in ("name", "for", "chosen"):
        table.add_column(column, overflow="fold")
    for name, chosen in PRESETS.items():
        table.add_row(name, chosen.about, _when(name))
    return table


def _when(name: str) -> str:
    """When a preset is the default."""
    if name not in DEMOS:
        return f"for {name} of any other environment"
    system = DEMOS[name]
    if name == next(iter(system.presets)):
        return f"for {system.env_id}, observed as pictures"
    return "by its name"
