"""The tables of the foreign systems: medians over seeds, a row per system."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from foreign_unseen import HORIZONS

# What a supervised network does not read to this R^2 the camera does not show: it is not asked.
SHOWN = 0.5
_SETTLED = 40  # the frame from which on a filter is judged


def judged(run: dict[str, Any]) -> list[str]:
    """Stretches of the test episodes that say whether the filter lasts: all from frame 40 on.

    Of episodes that do not last so long it is the last stretch that enough of them get into.
    """
    stretches = next(iter(run["tracking"].values()))
    # Ten frames of it, so that an R^2 has something to explain.
    held = [s for s in stretches if _reached(run, int(s.partition("-")[0]) + 10) >= run["enough"]]
    return [s for s in held if int(s.partition("-")[0]) >= _SETTLED] or held[-1:]


def _reached(run: dict[str, Any], frame: int) -> int:
    return run["reached"][frame] if frame < len(run["reached"]) else 0


def variables(run: dict[str, Any]) -> dict[str, dict[str, float]]:
    """R^2 of each variable by a line, by a network, at most, and the line's over the most.

    Of the stretches that are judged the worst for the line counts. Where the camera does not show a
    variable there is no ratio.
    """
    found = {}
    for name, stretches in run["tracking"].items():
        worst = min(judged(run), key=lambda stretch: stretches[stretch])
        line, most = stretches[worst], run["ceiling"][name][worst]
        row = {"line": line, "network": run["tracking_network"][name][worst], "ceiling": most}
        found[name] = row | ({"ratio": line / most} if most >= SHOWN else {})
    return found


def worst_ratio(run: dict[str, Any], velocities: bool, reader: str = "line") -> float | None:
    """Of the velocities, or of all else, as a "line" or a "network" reads them."""
    ratios = [
        row[reader] / row["ceiling"]
        for name, row in variables(run).items()
        if "ratio" in row and ("velocity" in name) == velocities
    ]
    return min(ratios) if ratios else None


def summary(run: dict[str, Any]) -> str:
    """A run in a line."""
    who = f"{run['system']}, seed {run['seed']}"
    if "error" in run:
        return f"{who}: {run['error']}"
    told = run["fraction"]["babbling"]["model"].values()
    return (
        f"{who}: R² over ceiling {_number(worst_ratio(run, False))} positions, "
        f"{_number(worst_ratio(run, True))} velocities; error {_row(told)}; "
        f"{run['taken']['train']['cpu_seconds']:.0f} CPU s"
    )


def tables(runs: Sequence[dict[str, Any]]) -> str:
    """Markdown: what the filter knows, what is predicted, what it took, and every variable."""
    systems = list(dict.fromkeys(run["system"] for run in runs))
    by_system = {name: [r for r in runs if r["system"] == name] for name in systems}
    fine = {
        name: good
        for name, all_of_them in by_system.items()
        if (good := [r for r in all_of_them if "error" not in r])
    }
    parts = [_tracking(fine), _prediction(fine), _costs(by_system), _variables(fine)]
    return "\n\n".join(parts)


def _tracking(fine: dict[str, list[dict[str, Any]]]) -> str:
    head = (
        "live filter, R² over ceiling",
        "frames",
        "positions and angles, by a line",
        "velocities",
        "positions and angles, by a small network",
        "velocities",
    )
    asked = [(velocities, reader) for reader in ("line", "network") for velocities in (False, True)]
    rows = [
        (
            name,
            ", ".join(judged(runs[0])),
            *(_median(worst_ratio(run, *one) for run in runs) for one in asked),
        )
        for name, runs in fine.items()
    ]
    return _markdown(head, rows)


def _prediction(fine: dict[str, list[dict[str, Any]]]) -> str:
    steps = " / ".join(map(str, HORIZONS))
    columns = {
        "babbling": ("babbling", "model"),
        "last frame": ("babbling", "last_frame"),
        "mean frame": ("babbling", "mean_frame"),
        "quick actions": ("quick", "model"),
        "slow actions": ("slow", "model"),
    }
    rows = [
        (
            name,
            *(
                " / ".join(
                    _median(run["fraction"][actions][kind][str(k)] for run in runs)
                    for k in HORIZONS
                )
                for actions, kind in columns.values()
            ),
        )
        for name, runs in fine.items()
    ]
    return _markdown((f"error at {steps} steps", *columns), rows)


def _costs(by_system: dict[str, list[dict[str, Any]]]) -> str:
    def taken(stage: str, what: str, scale: float = 1.0) -> Callable[[dict[str, Any]], float]:
        return lambda run: run["taken"][stage][what] / scale

    columns: dict[str, Callable[[dict[str, Any]], float]] = {
        "training frames": lambda run: run["frames"]["train"],
        "recording, CPU s": taken("collect", "cpu_seconds"),
        "training, CPU s": taken("train", "cpu_seconds"),
        "training, peak GB": taken("train", "peak_mb", 1000),
        "evaluation, peak GB": taken("evaluate", "peak_mb", 1000),
    }
    rows = []
    for name, runs in by_system.items():
        good = [run for run in runs if "error" not in run]
        cells = [_median(value(run) for run in good) for value in columns.values()]
        complained = sum(bool(run["shortcomings"]) for run in good)
        rows.append((name, *cells, f"{complained} of {len(runs)}", f"{len(runs) - len(good)}"))
    return _markdown(("costs", *columns, "warned of shortcomings", "failed"), rows)


def _variables(fine: dict[str, list[dict[str, Any]]]) -> str:
    head = ("system", "variable", "linear R²", "small network", "ceiling", "linear / ceiling")
    rows = []
    for name, runs in fine.items():
        told = [variables(run) for run in runs]
        for variable in told[0]:
            values = [
                _median(one[variable].get(kind) for one in told)
                for kind in ("line", "network", "ceiling", "ratio")
            ]
            rows.append((name, variable.replace("_", " "), *values))
    return _markdown(head, rows)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _median(values: Iterable[float | None]) -> str:
    """Of those that there are; a dash where there is none."""
    there = [value for value in values if value is not None]
    return _number(float(np.median(there)) if there else None)


def _row(values: Iterable[float | None]) -> str:
    return " / ".join(map(_number, values))


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
