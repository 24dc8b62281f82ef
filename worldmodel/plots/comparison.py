"""Several models side by side: a table and a figure of the same runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from worldmodel.plots.style import (
    GREY,
    INK,
    PALE,
    SERIES,
    SMALL,
    dress,
    figure,
    label,
    log_scale,
    percent,
    save,
)

_LABEL = 40  # characters
HORIZONS = (1, 5, 10, 30, 100)
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
_PLAIN = {"sin": "sin φ", "cos": "cos φ"}

# One run's metrics: those of ``evaluate``, and its identity, seconds and parameters.
Result = Mapping[str, Any]


def grouped(results: Sequence[Result]) -> dict[tuple[str, str], list[Result]]:
    """The runs that finished, by model and objective, in their order; all groups, some empty."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        identity = result["identity"]
        runs = groups.setdefault((identity["model"], identity["objective"]), [])
        if "error" not in result:
            runs.append(result)
    return groups


def comparison_table(results: Sequence[Result]) -> str:
    """Markdown: the median of the seeds, and the worst of them in brackets where it matters."""
    groups = grouped(results)
    columns = _columns(results)
    head = ["model", "objective", "seeds", *columns]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    asked = len({result["identity"]["seed"] for result in results})
    for (model, objective), runs in groups.items():
        seeds = str(len(runs)) if len(runs) == asked else f"{len(runs)} of {asked}"
        cells = [column(runs) if runs else "diverged" for column in columns.values()]
        lines.append(f"| {' | '.join([model, objective, seeds, *cells])} |")
    return "\n".join(lines) + "\n"


def _columns(results: Sequence[Result]) -> dict[str, Callable[[Sequence[Result]], str]]:
    """What each column says of a group, by its title."""
    finished = [result for result in results if "error" not in result]
    columns: dict[str, Callable[[Sequence[Result]], str]] = {}
    for name in finished[0].get("r2", {}) if finished else ():
        columns[f"R² {_PLAIN.get(name, name)}"] = _cell(
            lambda r, n=name: r["r2"][n], "{:.3f}".format, min
        )
    columns["bound, nats per frame"] = _bound
    columns["rate"] = _cell(lambda r: r["bound"]["kl"], "{:.1f}".format)
    columns["distortion"] = _cell(
        lambda r: r["bound"]["distortion"] / r["prediction_variance"], "{:.2%}".format
    )
    longest = min((len(result["prediction_mse"]) for result in finished), default=0)
    for k in (k for k in HORIZONS if k <= longest):
        columns[f"error, {k} step{'s' * (k > 1)}"] = _cell(
            lambda r, k=k: r["prediction_mse"][k - 1] / r["prediction_variance"], _share, max
        )
    columns["seconds"] = _cell(lambda r: r["seconds"], "{:.0f}".format)
    columns["parameters"] = _cell(lambda r: r["parameters"], "{:,.0f}".format)
    return columns


def _cell(
    value: Callable[[Result], float],
    form: Callable[[float], str],
    worst: Callable[[Sequence[float]], float] | None = None,
) -> Callable[[Sequence[Result]], str]:
    def write(runs: Sequence[Result]) -> str:
        values = [value(run) for run in runs]
        text = form(float(np.median(values)))
        return text if worst is None or len(runs) == 1 else f"{text} ({form(worst(values))})"

    return write


def _share(value: float) -> str:
    """In percent; ten times what the mean frame scores is as far off as any more."""
    return f"{value:.1%}" if value <= 10 else "> 1000%"


def _bound(runs: Sequence[Result]) -> str:
    bounds = [run["bound"].get("lower_bound") for run in runs]
    known = [bound for bound in bounds if bound is not None]
    return f"{np.median(known):.1f}" if known else "none"


def comparison(results: Sequence[Result], path: str | Path) -> Path:
    """What every model knows of the state, and how well it predicts.

    Left R^2 of every variable, one dot per seed and a bar at the median; right the median error by
    horizon, on logarithmic axes.

    Args:
        results: One mapping per run, as ``worldmodel compare`` writes them.
        path: PNG to write.
    """
    groups = {key: runs for key, runs in grouped(results).items() if runs}
    fig = figure(10.4, 1.5 + 0.42 * max(len(groups), 6))
    left, right = fig.subplots(1, 2, width_ratios=(1.15, 1))
    models = list(dict.fromkeys(model for model, _ in groups))
    objectives = list(dict.fromkeys(objective for _, objective in groups))
    _identified(left, groups)
    _predicted(right, groups, models, objectives)
    return save(fig, path)


def _identified(axes: Axes, groups: Mapping[tuple[str, str], Sequence[Result]]) -> None:
    variables = list(next(iter(groups.values()))[0].get("r2", {})) if groups else []
    places = np.linspace(-0.22, 0.22, len(variables)) if len(variables) > 1 else [0.0]
    for row, runs in enumerate(groups.values()):
        if row % 2:
            axes.axhspan(row - 0.5, row + 0.5, color=PALE, alpha=0.35, lw=0)
        for name, offset, colour in zip(variables, places, _cycle(SERIES), strict=False):
            values = [max(run["r2"][name], -0.05) for run in runs]
            axes.plot(values, [row + offset] * len(runs), "o", color=colour, ms=3.4, alpha=0.65)
            axes.plot(np.median(values), row + offset, "|", color=colour, ms=9, mew=2)
    axes.set_yticks(
        range(len(groups)), [f"{_short(model)}\n{objective}" for model, objective in groups]
    )
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlim(-0.06, 1.02)
    dress(axes, "$R^2$ of the true state on the latent state", "", "Does it hold the state?")
    axes.tick_params(axis="y", length=0, labelsize=SMALL - 1)
    handles = [
        Line2D([], [], color=colour, marker="o", ls="", ms=4, label=label(name, False))
        for name, colour in zip(variables, _cycle(SERIES), strict=False)
    ]
    if handles:
        axes.legend(
            handles=handles,
            fontsize=SMALL,
            frameon=False,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.09),
            ncols=len(handles),
        )


def _predicted(
    axes: Axes,
    groups: Mapping[tuple[str, str], Sequence[Result]],
    models: Sequence[str],
    objectives: Sequence[str],
) -> None:
    colours = dict(zip(models, _cycle((*SERIES, INK, GREY)), strict=False))
    dashes = dict(zip(reversed(objectives), _cycle(_DASHES), strict=False))
    for (model, objective), runs in groups.items():
        fractions = [np.divide(run["prediction_mse"], run["prediction_variance"]) for run in runs]
        median = np.median(fractions, 0)
        steps = np.arange(1, len(median) + 1)
        axes.plot(steps, median, color=colours[model], ls=dashes[objective], lw=1.5)
    axes.axhline(1, color=GREY, lw=0.8)
    axes.set_xscale("log")
    log_scale(axes, percent)
    axes.set_xticks(HORIZONS, [str(k) for k in HORIZONS])
    axes.minorticks_off()
    title = "Does it predict? (median of the seeds)"
    dress(axes, "open-loop steps", "squared error / variance of the frames", title)
    handles = [Line2D([], [], color=c, lw=2, label=_short(model)) for model, c in colours.items()]
    handles += [Line2D([], [], color=INK, ls=d, lw=1.4, label=o) for o, d in dashes.items()]
    axes.legend(
        handles=handles,
        fontsize=SMALL - 1,
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
    )


def _short(model: str) -> str:
    """What fits beside a panel; the table has it in full."""
    return model if len(model) <= _LABEL else model[: _LABEL - 1] + "…"


def _cycle(values: Sequence[Any]) -> list[Any]:
    return list(values) * 8
