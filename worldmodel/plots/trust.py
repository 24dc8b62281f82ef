"""How far dreams can be believed, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from worldmodel.plots.style import (
    BLUE,
    GREY,
    ORANGE,
    dress,
    figure,
    legend,
    percent,
    save,
)

# Of a report's rows: title, key, and how a number is written.
ROWS = (
    ("error, mean", "error", ".1%"),
    ("  inside the support", "inside", ".1%"),
    ("  outside", "outside", ".1%"),
    ("bad dreams", "bad", ".0%"),
    ("bound holds in", "covered", ".1%"),
    ("reward's bound holds in", "reward_covered", ".1%"),
    ("median bound / median error", "sharpness", ".1f"),
    ("AUROC of bad, by the bound", "auroc", ".3f"),
    ("AUROC of bad, by the support", "auroc_distance", ".3f"),
)


def written(value: float | None, how: str) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else format(value, how)


def trust_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """What a trust report says of all probes together: a head, and rows by horizon."""
    found = report["all"]
    rows = [["steps", *map(str, found["horizons"])]]
    rows += [[title, *(written(v, how) for v in found[key])] for title, key, how in ROWS]
    return rows


def trust_table(report: Mapping[str, Any]) -> Table:
    """The same for a terminal."""
    head, *rows = trust_rows(report)
    probes = ", ".join(report["probes"])
    steps, limit = report["all"]["believable"], report["limit"]
    title = f"how far dreams can be believed under {probes} actions: "
    table = Table(title=title + f"{steps} steps within {limit:.0%}", title_justify="left")
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    return table


def trust_figure(report: Mapping[str, Any], path: str | Path) -> Path:
    """Bound and error over time, and whether bounds hold wherever they are.

    Args:
        report: Of ``trust_report``.
        path: PNG to write.
    """
    found, fig = report["all"], figure(8.4, 3.4)
    over, reliable = fig.subplots(1, 2)
    error = found["error_by_step"]
    steps = np.arange(1, len(error["median"]) + 1)
    over.plot(steps, _shown(error["median"]), BLUE, label="error, median", lw=1.8)
    over.plot(steps, _shown(error["ninth"]), BLUE, label="error, 90 %", dashes=(2, 1))
    over.plot(steps, _shown(found["bound_by_step"]), ORANGE, label="bound, median", lw=1.8)
    over.axhline(report["limit"], color=GREY, lw=1)
    dress(over, "steps dreamt", "fraction of variance")
    over.set_yscale("log")
    legend(over)
    bins = found["reliability"]
    reliable.plot(bins["bound"], bins["covered"], BLUE, marker="o", lw=1.8)
    if report["coverage"] is not None:
        reliable.axhline(report["coverage"], color=GREY, lw=1)
    reliable.set_ylim(0, 1.02)
    if bins["bound"]:  # of no numbers there is no logarithm
        reliable.set_xscale("log")
    reliable.yaxis.set_major_formatter(percent)
    dress(reliable, "bound, fraction of variance", "dreams whose error it bounds")
    return save(fig, path)


def _shown(values: list[float | None]) -> np.ndarray:
    """Of a logarithmic axis, with gaps where nothing is known."""
    return np.array([np.nan if value is None else max(value, 1e-4) for value in values])
