"""What came of learning online: a row a system and method, and a panel for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from online_systems import Case
from seeds import RESULTS

from worldmodel.plots.style import BLUE, GREY, SERIES, dress, figure, save

FIGURE = RESULTS.parent / "images" / "online.png"
HEAD = "system, by method|goal|real steps to it|clean return at the end|forecasts that held"
HEAD += "|CPU s|published"


@dataclass(frozen=True)
class Run:
    """A run, whether or not it is complete.

    Attributes:
        seed: Of everything.
        rounds: As in ``progress.jsonl``.
        cpu_seconds: In all, evaluations included.
        repeat: Real steps that an agent's step takes.
    """

    seed: int
    rounds: Sequence[Mapping[str, Any]]
    cpu_seconds: float
    repeat: int

    @property
    def steps(self) -> int:
        """Real steps so far."""
        return self.rounds[-1]["real_steps"] * self.repeat

    @property
    def judged(self) -> list[tuple[int, float]]:
        """Real steps and clean return of every evaluation."""
        return [
            (row["real_steps"] * self.repeat, row["clean_return"])
            for row in self.rounds
            if row["clean_return"] is not None
        ]

    def reached(self, goal: float) -> int | None:
        """Real steps of the first evaluation that reached a goal."""
        return next((steps for steps, value in self.judged if value >= goal), None)

    @property
    def forecasts(self) -> list[bool]:
        """Whether each evaluation lay within what was forecast of it."""
        return [
            row["forecast_low"] <= row["clean_return"] <= row["forecast_high"]
            for row in self.rounds
            if row["clean_return"] is not None
        ]


def row(name: str, case: Case, runs: Sequence[Run]) -> str:
    """A line of the table, every seed shown, in the order of their numbers."""
    steps = [run.reached(case.goal) for run in runs]
    held = [hit for run in runs for hit in run.forecasts]
    cells = [
        f"{name} (seed{'s' * (len(runs) > 1)} {', '.join(str(run.seed) for run in runs)})",
        f"{case.goal:g} in {case.steps:,}",
        " / ".join("-" if s is None else f"{s:,}" for s in steps),
        " / ".join(_ended(run, case) for run in runs),
        f"{np.mean(held):.0%} of {len(held)}",
        " / ".join(f"{run.cpu_seconds:.0f}" for run in runs),
        case.published,
    ]
    return f"| {' | '.join(cells)} |"


def table(results: Mapping[str, tuple[Case, Sequence[Run]]]) -> str:
    """Markdown, of what there is by now."""
    head = HEAD.split("|")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [row(name, case, runs) for name, (case, runs) in results.items()]
    return "\n".join(lines)


def draw(results: Mapping[str, tuple[Case, Sequence[Run]]], path: Path) -> Path:
    """Clean returns over real steps, every seed a line."""
    columns = min(3, len(results))
    lines = -(-len(results) // columns)
    fig = figure(2.6 * columns, 2.0 * lines)
    grid = fig.add_gridspec(lines, columns)
    for i, (name, (case, runs)) in enumerate(results.items()):
        axes = fig.add_subplot(grid[i // columns, i % columns])
        axes.axhline(case.goal, color=GREY, lw=1, ls=":")
        for k, run in enumerate(runs):
            colour = SERIES[k % len(SERIES)] if len(runs) > 1 else BLUE
            axes.plot(*np.array(run.judged, float).T, color=colour, lw=1.4, marker="o", ms=2)
        dress(axes, "real steps" if i // columns == lines - 1 else "", "", name)
    return save(fig, path)


def _ended(run: Run, case: Case) -> str:
    """The last clean return; and after how many steps, if the run is not complete."""
    last = f"{run.judged[-1][1]:.4g}"
    return last if run.steps >= case.steps else f"{last} (at {run.steps:,})"
