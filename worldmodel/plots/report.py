"""Parts of a report: HTML of what there is to see of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from worldmodel import html
from worldmodel.data.requests import Requests
from worldmodel.plots import page
from worldmodel.plots.curves import (
    filter_convergence,
    prediction_error,
    training_curves,
)
from worldmodel.plots.dream import dream_film
from worldmodel.plots.imagination import Imagination
from worldmodel.plots.latent_plots import project
from worldmodel.plots.learning import learning_curve, read_progress
from worldmodel.plots.requests import requests_rows
from worldmodel.plots.space import latent_space_plot
from worldmodel.plots.strips import imagination_strips
from worldmodel.plots.table import result_rows
from worldmodel.plots.trust import trust_figure, trust_rows
from worldmodel.training.state import read_history
from worldmodel.world.world import World

# What an evaluation has drawn from samples that it alone has.
_KEPT = {
    "strips.png": "What was, reconstructions, and what the model generates from the first state on",
    "latent_space.png": "Sampled latents, and the true state read off them by linear regression",
    "checkerboard.png": "Position and velocity where the latent state holds them",
    "requests.png": "Where in latent space data are, where probes go, and what to record next; the "
    "larger a circle, the more of all that is wrong begins there",
    "latent_walks.png": "A walk without control, dreamt and filtered, from the same state",
}


def summary(world: World) -> str:
    """What kind of model it is."""
    model = world.model
    size = sum(parameter.numel() for parameter in model.parameters())
    source = f", trained on {world.source.env_id}" if world.source else ""
    return page.paragraph(
        f"{type(model).__name__} with {model.latent_size} latent dimensions and {size:,} "
        f"parameters{source}. It observes {model.observation_spec.describe()}; actions are "
        f"{model.action_spec.describe()}."
    )


def measured(metrics: dict[str, Any], paper: Mapping[str, float]) -> str:
    """The table that the command line prints, the paper's numbers in it if there are any."""
    if "bound" not in metrics:
        return page.paragraph("Not measured yet; 'worldmodel evaluate' does.")
    head = ["test set", "here", *(["Karl et al. 2017"] if paper else [])]
    rows = [row[: len(head)] for part in result_rows(metrics, paper) for row in part]
    return html.table(head, rows)


def believed(metrics: dict[str, Any]) -> list[str]:
    """How far dreams can be believed: in words, as a table and as a picture."""
    report = metrics.get("trust")
    if report is None:
        return [page.paragraph("Not judged yet; 'worldmodel evaluate' does.")]
    head, *rows = trust_rows(report)
    limit, steps = report["limit"], report["all"]["believable"]
    said = [
        f"Under {', '.join(report['probes'])} actions the median bound stays within {limit:.0%} of "
        f"the variance for {steps} steps.",
        *(f"No {name} actions: {reason}." for name, reason in report.get("skipped", {}).items()),
    ]
    caption = "Bound and error by steps dreamt, and where bounds hold"
    picture = _drawn(partial(trust_figure, report), caption)
    return [page.paragraph(" ".join(said)), html.table(head, rows), picture]


def wanted(folder: Path) -> list[str]:
    """What to record next, if an evaluation has left it in a run folder."""
    file = folder / "requests.json"
    if not file.is_file() or not (requests := Requests.read(file)).requests:
        return []
    head, *rows = requests_rows(requests)
    said = (
        f"Record next, by 'worldmodel collect {requests.source.env_id} --out DATA --requests "
        f"{file}' ({requests.frames:,} frames):"
    )
    return [page.paragraph(said), html.table(head, rows)]


def space(latents: np.ndarray, variables: Mapping[str, np.ndarray]) -> str:
    """Filtered states (n, latent), coloured by all that is known of them, (n,) by name."""
    if latents.shape[1] < 2:
        return page.paragraph("A latent state of one dimension is not drawn.")
    points, names = project(latents, 3)
    caption = (
        "Filtered states under random actions. Drag to turn, scroll to come closer; the buttons "
        "choose what the colour shows."
    )
    return latent_space_plot(points, names, dict(variables)) + page.paragraph(caption)


def film(imagination: Imagination, title: str, fps: float) -> str:
    """A film of what is pictures, and a figure where anything else is observed."""
    caption = (
        f"{title}: what was, what the filter makes of it, and what the model imagines after "
        f"{imagination.looked} frames, without noise and with; std is the standard deviation of "
        f"{imagination.noisy} noisy dreams."
    )
    shown = ""
    if imagination.space.filmed:
        shown += page.film(dream_film(imagination, fps), fps, caption)
    if imagination.space.plotted:
        shown += _drawn(partial(imagination_strips, imagination), caption)
    return shown


def figures(folder: Path, metrics: dict[str, Any]) -> list[str]:
    """Those that numbers suffice for, and those that an evaluation left in the run folder."""
    parts = []
    if "prediction_mse" in metrics:
        parts += [
            _drawn(partial(prediction_error, metrics), "Error of predictions by their horizon"),
            _drawn(partial(filter_convergence, metrics), "How fast the filter finds the state"),
        ]
    if history := read_history(folder):
        parts.append(_drawn(partial(training_curves, history), "The course of training"))
    if rounds := read_progress(folder):
        draw = partial(learning_curve, {"": rounds})
        parts.insert(0, _drawn(draw, f"Learning online: {len(rounds)} rounds"))
    kept = {folder / name: caption for name, caption in _KEPT.items()}
    return parts + [page.picture(p, caption) for p, caption in kept.items() if p.is_file()]


def _drawn(draw: Callable[[Path], Any], caption: str) -> str:
    with TemporaryDirectory() as folder:
        return page.picture(draw(Path(folder) / "figure.png"), caption)
