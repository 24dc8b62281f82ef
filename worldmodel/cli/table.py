"""The closing table: the paper's numbers beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

# Karl et al. 2017, tables 1 and 2, DVBF-LL on the pendulum.
PAPER = {
    "r2.sin": 0.961,
    "r2.cos": 0.982,
    "r2.velocity": 0.916,
    "loglik.sin": 3990.8,
    "loglik.cos": 7231.1,
    "loglik.velocity": -11139.0,
    "bound.lower_bound": 798.56,
    "bound.reconstruction": 802.06,
    "bound.kl": 3.50,
}
NAMES = {
    "r2.sin": "R² sin φ",
    "r2.cos": "R² cos φ",
    "r2.velocity": "R² velocity",
    "loglik.sin": "log-likelihood sin φ",
    "loglik.cos": "log-likelihood cos φ",
    "loglik.velocity": "log-likelihood velocity",
    "bound.lower_bound": "lower bound, nats per frame",
    "bound.reconstruction": "reconstruction, nats per frame",
    "bound.kl": "KL, nats per frame",
}


def lookup(tree: dict[str, Any], name: str) -> Any:
    """Value of a dotted name in nested dictionaries."""
    for part in name.split("."):
        tree = tree[part]
    return tree


def print_results(console: Console, metrics: dict[str, Any], folder: Path) -> None:
    """Print what a demo reached.

    Args:
        console: Where to.
        metrics: Of the demo.
        folder: Where its pictures are.
    """
    table = Table(title="Pendulum from 16 x 16 pixels", title_justify="left")
    table.add_column("test set")
    table.add_column("here", justify="right")
    table.add_column("Karl et al. 2017", justify="right")
    for name, text in NAMES.items():
        digits = 3 if name.startswith("r2") else 1
        table.add_row(text, f"{lookup(metrics, name):.{digits}f}", f"{PAPER[name]:.{digits}f}")
    table.add_section()
    for horizon in (1, 10, 30, 100):
        if horizon <= len(metrics["prediction_mse"]):
            table.add_row(f"prediction error, {horizon} steps", _share(metrics, horizon), "")
    table.add_section()
    agent = metrics["agent"]
    table.add_row("agent's return in the dream", f"{agent['return_dream']:.0f}", "")
    table.add_row("agent's return in reality", f"{agent['return_real']:.0f}", "")
    table.add_row("upright from hanging, last 2 of 10 s", f"{agent['upright_share']:.0%}", "")
    table.add_row("real frames used", f"{metrics['real_frames_used']:,}", "7,500")
    table.add_row("seconds in all", f"{sum(metrics['seconds'].values()):.0f}", "")
    console.print(table)
    console.print(f"Look at {folder}/dream.gif, {folder}/agent.gif and {folder}/latent_space.png")


def _share(metrics: dict[str, Any], horizon: int) -> str:
    ours = metrics["prediction_mse"][horizon - 1] / metrics["prediction_variance"]
    last = metrics["prediction_mse_baseline"]["last_frame"][horizon - 1]
    return f"{ours:.1%} of variance (last frame {last / metrics['prediction_variance']:.0%})"
