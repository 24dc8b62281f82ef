"""The verdict on an agent as a table, for a terminal and for a report."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from worldmodel import html
from worldmodel.plots import page

_HEAD = ("", "in the dream", "in reality")
_OUTSIDE = ("outside_dream", "outside_real")


def verdict_rows(verdict: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What was counted: of what, in the dream, and in reality.

    Args:
        verdict: As ``agents.verdict.judge`` gives it.
    """
    returns, lengths, low_high = verdict["returns"], verdict["lengths"], verdict["interval"]
    spread, first_last = verdict["deviations"], verdict["length_interval"]
    models = verdict.get("models", 1)  # older ones asked the dream alone
    by = f", {models} models" if models > 1 else ""

    def paid(name: str) -> str:
        return f"{returns[name]:.4g} ± {spread[name]:.2g}"

    rows = [
        ("return of the agent", paid("dream"), paid("real")),
        ("return of random actions", paid("random_dream"), paid("random")),
        (f"nine of ten dreamt returns{by}", "{:.4g} to {:.4g}".format(*low_high), ""),
        ("steps of an episode", f"{lengths['dream']:.4g}", f"{lengths['real']:.4g}"),
        (f"nine of ten dreamt lengths{by}", "{:.4g} to {:.4g}".format(*first_last), ""),
        ("steps outside of the data", *(f"{verdict[k]:.0%}" for k in _OUTSIDE)),
    ]
    if verdict["reference"] is not None:
        rows.insert(2, ("solved from", "", f"{verdict['reference']:g}"))
    if verdict["ends_foreseen"] is not None:
        rows.append(("chance given to real ends", "", f"{verdict['ends_foreseen']:.0%}"))
    if verdict["reward_error"] is not None:
        rows.append(("error of the reward, of its deviation", "", f"{verdict['reward_error']:.0%}"))
    rows.append(("error of the filter, of the variance", "", f"{verdict['filter_error']:.1%}"))
    return rows


def verdict_table(title: str, verdict: dict[str, Any]) -> Table:
    """The same for a terminal."""
    table = Table(title=f"{title}, {verdict['episodes']} episodes", title_justify="left")
    for i, head in enumerate(_HEAD):
        table.add_column(head, justify="right" if i else "left")
    for row in verdict_rows(verdict):
        table.add_row(*row)
    return table


def verdict_section(verdict: dict[str, Any]) -> str:
    """The same for a report, with what is said."""
    said = "".join(page.paragraph(sentence) for sentence in verdict["said"])
    return html.table(_HEAD, verdict_rows(verdict)) + said
