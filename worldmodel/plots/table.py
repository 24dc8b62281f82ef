"""What was measured, as a table, with the paper's numbers beside ours where it reports any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from worldmodel.evaluation.recovery import BLIND, HELD, WITHIN

_VARIABLES = {"sin": "sin φ", "cos": "cos φ"}
_BOUND = {
    "bound.lower_bound": "lower bound, nats per frame",
    "bound.reconstruction": "reconstruction, nats per frame",
    "bound.kl": "KL, nats per frame",
}
_AGENT = {
    "agent.return_dream": ("agent's return in the dream", ".0f"),
    "agent.return_real": ("agent's return in reality", ".0f"),
    "agent.upright_fraction": ("upright from hanging, last 2 of 10 s", ".0%"),
    "agent.at_target_fraction": ("within 0.1 box of the target, last 2 of 10 s", ".0%"),
    "agent.in_middle_fraction": ("in the middle half of the box, last 2 of 10 s", ".0%"),
    "empowerment.spearman": ("empowerment: rank correlation with the true map", ".2f"),
}
_TERMINATION = {
    "termination.fraction": ("steps that ended an episode", ".1%"),
    "termination.recall": ("ends that the dream foresees (recall)", ".1%"),
    "termination.precision": ("the dream's ends that are some (precision)", ".1%"),
    "termination.calibration_error": ("calibration error of the chance of an end", ".2%"),
    "termination.ends": ("ends", ".0f"),
    "termination.ends_predicted": ("ends that are expected", ".1f"),
}
_HORIZONS = (1, 10, 30, 100)


def lookup(tree: dict[str, Any], name: str) -> Any:
    """Value of a dotted name in nested dictionaries."""
    for part in name.split("."):
        tree = tree[part]
    return tree


def identification_rows(metrics: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Title and format of every regression there is and of the bound, by dotted name."""
    rows = {}
    for kind, title, digits in (("r2", "R²", ".3f"), ("loglik", "log-likelihood", ".1f")):
        for name in metrics.get(kind, {}):
            text = _VARIABLES.get(name, name.replace("_", " "))
            rows[f"{kind}.{name}"] = (f"{title} {text}", digits)
    known = (name for name in _BOUND if name.partition(".")[2] in metrics["bound"])
    return rows | {name: (_BOUND[name], ".1f") for name in known}


def result_rows(
    metrics: dict[str, Any], paper: Mapping[str, float]
) -> list[list[tuple[str, str, str]]]:
    """What an evaluation or a demo reached, in groups of rows: what, here, and in the paper.

    Args:
        metrics: Of an evaluation, and what a demo adds.
        paper: Published numbers by dotted name; where there is none, the text is empty.
    """

    def row(name: str, text: str, digits: str) -> tuple[str, str, str]:
        theirs = format(paper[name], digits) if name in paper else ""
        return text, format(lookup(metrics, name), digits), theirs

    groups = [[row(name, *how) for name, how in identification_rows(metrics).items()]]
    horizons = [h for h in _HORIZONS if h <= len(metrics["prediction_mse"])]
    steps = ("1 step" if horizon == 1 else f"{horizon} steps" for horizon in horizons)
    groups.append(
        [
            (f"prediction error, {text}", _fractions(metrics, horizon), "")
            for text, horizon in zip(steps, horizons, strict=True)
        ]
    )
    if "tracking" in metrics:
        groups.append(_tracking_rows(metrics["tracking"], metrics.get("ceiling")))
    if metrics.get("recovery"):
        groups.append(_recovery_rows(metrics["recovery"]))
    last = []
    if "dimensions" in metrics:
        text = "{used} of {of}".format(**metrics["dimensions"])
        last.append(("latent dimensions that predictions need", text, ""))
    for name, how in (_TERMINATION | _AGENT).items():
        part, _, key = name.partition(".")
        if key in metrics.get(part, {}):
            last.append(row(name, *how))
    if "seconds" in metrics:
        last.append(row("real_frames_used", "real frames used", ","))
        last.append(("seconds in all", f"{sum(metrics['seconds'].values()):.0f}", ""))
    return [*groups, last]


def results_table(title: str, metrics: dict[str, Any], paper: Mapping[str, float]) -> Table:
    """What was reached, for a terminal.

    Args:
        title: Of the table.
        metrics: As for ``result_rows``.
        paper: Likewise; without any there is no column for them.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("test set")
    table.add_column("here", justify="right")
    if paper:
        table.add_column("Karl et al. 2017", justify="right")
    for group in result_rows(metrics, paper):
        for row in group:
            table.add_row(*row[: len(table.columns)])
        table.add_section()
    return table


def _tracking_rows(
    tracking: dict[str, dict[str, float]], ceiling: dict[str, dict[str, float]] | None
) -> list[tuple[str, str, str]]:
    """R^2 of the live filter by stretch of the episode, and below it what could be had."""
    stretches = next(iter(tracking.values()))
    rows = [("live filter from one frame, R² in frames", "  ".join(stretches), "")]
    for name, found in tracking.items():
        title = _VARIABLES.get(name, name.replace("_", " "))
        rows.append((f"  {title}", "  ".join(f"{r2:.3f}" for r2 in found.values()), ""))
        if ceiling is not None:
            most = "  ".join(f"{r2:.3f}" for r2 in ceiling[name].values())
            rows.append((f"  {title}, a supervised network", most, ""))
    return rows


def _recovery_rows(recovery: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """How soon the live filter is back, after both disturbances."""
    rows = [(f"frames until it is back, after {BLIND} unseen / kidnapped", "", "")]
    for name, level in recovery["level"].items():
        # What is not held cannot be lost.
        never = f"> {WITHIN}" if level >= HELD else "-"
        frames = (recovery[after][name] for after in ("blind", "kidnapped"))
        text = " / ".join(never if count is None else str(count) for count in frames)
        rows.append((f"  {_VARIABLES.get(name, name.replace('_', ' '))}", text, ""))
    return rows


def _fractions(metrics: dict[str, Any], horizon: int) -> str:
    """The model's error and that of the baselines; the mean frame's is the variance, nearly."""
    variance = metrics["prediction_variance"]
    others = ", ".join(
        f"{name.replace('_', ' ')} {error[horizon - 1] / variance:.0%}"
        for name, error in metrics["prediction_mse_baseline"].items()
        if name != "mean_frame"
    )
    return f"{metrics['prediction_mse'][horizon - 1] / variance:.1%} of variance ({others})"
