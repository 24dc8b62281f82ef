"""Learning online, from state: how many real steps an agent needs, system by system, seed by seed.

    python benchmarks/online.py --seeds 0 1 2 3 4

A step that an agent takes counts, times how often the environment repeats it, those of random
actions and of validation episodes included; evaluations, which nothing is learned from, do not.
Killed at any moment, or after ``--minutes``, it goes on where it was; the table and the figure
show what there is by then, of all systems, methods and seeds that were ever begun.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import tyro
from online_systems import CASES, Case
from online_tables import FIGURE, Run, draw, table
from rich.console import Console
from seeds import write_block

from worldmodel.files import read_json, write_json
from worldmodel.online.config import MethodName
from worldmodel.online.learn import learn
from worldmodel.online.watching import Watcher
from worldmodel.plots.learning import read_progress

_CPU = "cpu.json"


class Timed(Watcher):
    """Adds up the CPU seconds of a run, and says when the time is over.

    Args:
        name: Of the run, for what is printed.
        until: On the clock of ``time.monotonic``.
    """

    def __init__(self, name: str, until: float) -> None:
        self._name, self._until = name, until

    def begin(self, run: Path, rows: Sequence[dict[str, Any]], tensorboard: bool) -> None:
        """See the base class."""
        super().begin(run, rows, tensorboard)
        self._file, self._since = run / _CPU, time.process_time()
        self._before = _cpu_seconds(run)

    def row(self, row: dict[str, Any]) -> None:
        """See the base class.

        Raises:
            KeyboardInterrupt: The time is over; the round is written.
        """
        super().row(row)
        spent = self._before + time.process_time() - self._since
        write_json(self._file, {"cpu_seconds": spent})
        told = ("real_steps", "return", "clean_return", "forecast", "trust")
        said = ", ".join(f"{key} {row[key]:.4g}" for key in told if row[key] is not None)
        Console().print(f"{self._name}: {said}; {spent:.0f} CPU s")

    def phase(self, doing: str) -> None:
        """See the base class: rounds are whole, or are played again."""
        if time.monotonic() > self._until:
            raise KeyboardInterrupt


def _cpu_seconds(run: Path) -> float:
    file = run / _CPU
    return read_json(file)["cpu_seconds"] if file.is_file() else 0.0


def found(folder: Path) -> dict[str, tuple[Case, list[Run]]]:
    """All runs in a folder that have a round, by system and method."""
    results: dict[str, tuple[Case, list[Run]]] = {}
    for name, case in CASES.items():
        for method in ("actor-critic", "planner", "sac"):
            pattern = re.compile(rf"{re.escape(name)}-{method}-(\d+)")
            matches = filter(None, (pattern.fullmatch(path.name) for path in folder.glob("*")))
            runs = [
                Run(int(m[1]), rows, _cpu_seconds(folder / m[0]), case.repeat)
                for m in sorted(matches, key=lambda m: int(m[1]))
                if (rows := read_progress(folder / m[0]))
            ]
            if runs:
                results[f"{name}, {method}"] = case, runs
    return results


def main(
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    systems: tuple[str, ...] = tuple(CASES),
    methods: tuple[MethodName, ...] = ("actor-critic",),
    out: Path = Path("runs/online"),
    minutes: float = float("inf"),
    write: bool = True,
    threads: int = 1,
) -> None:
    """Run systems under seeds, or go on with them.

    Args:
        seeds: Of everything.
        systems: Of ``CASES``.
        methods: Who acts.
        out: Folder for the runs.
        minutes: After which no more is begun, and what has been waits for the next time.
        write: Whether to put table and figure in the documents.
        threads: Of torch.
    """
    torch.set_num_threads(threads)
    until = time.monotonic() + 60 * minutes
    try:
        for seed in seeds:
            for name in systems:
                for method in methods:
                    case, run = CASES[name], f"{name}-{method}-{seed}"
                    settings = case.settings(seed, method)
                    steps = -(-case.steps // case.repeat)
                    learn(case.source, out / run, steps, settings, watcher=Timed(run, until))
    except KeyboardInterrupt:
        Console().print("interrupted; the same command goes on")
    if results := found(out):
        text = table(results)
        Console().print(text)
        if write:
            write_block("online", text)
            draw(results, FIGURE)


if __name__ == "__main__":
    tyro.cli(main)
