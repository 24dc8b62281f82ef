"""What a model asks to have recorded next, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from rich.table import Table

from worldmodel.data.requests import Request, Requests
from worldmodel.plots.latent_plots import project
from worldmodel.plots.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    SMALL,
    dress,
    figure,
    legend,
    save,
)
from worldmodel.plots.trust import written

# How ``worldmodel collect --process`` names what probes are drawn from.
_PROCESS = {"random": "uniform"}
_HEAD = ("", "share", "error", "bound", "near", "begins at", "--process", "episodes")
_POINTS = 3000  # of each kind that are drawn, at most
_LARGEST = 900.0  # area of the circle of a request that has all that is wrong, in points^2


def requests_rows(requests: Requests) -> list[list[str]]:
    """A head, and a row for every request."""
    rows = [_row(str(i), request) for i, request in enumerate(requests.requests, 1)]
    return [list(_HEAD), *rows]


def _row(name: str, request: Request) -> list[str]:
    known, numbers = ("latent", request.latent) if request.state is None else ("", request.state)
    process = _PROCESS.get(request.probe, request.probe)
    return [
        name,
        f"{request.share:.0%}",
        f"{request.error:.0%}",
        written(request.bound, ".0%"),
        f"{request.near:,}",
        f"{known} {_written(numbers)}".strip(),
        process,
        str(len(request.episodes)),
    ]


def _written(numbers: list[float], most: int = 6) -> str:
    shown = ", ".join(f"{number:.2g}" for number in numbers[:most])
    return f"({shown}{', ...' if len(numbers) > most else ''})"


def requests_table(requests: Requests) -> Table:
    """The same for a terminal."""
    head, *rows = requests_rows(requests)
    title = (
        f"what to record next, {requests.frames:,} frames: share of all that is wrong, its error "
        "and bound, and training states near"
    )
    table = Table(title=title, title_justify="left")
    for name in head:
        table.add_column(name, justify="left" if name in ("begins at", "--process") else "right")
    for row in rows:
        table.add_row(*row)
    return table


def requests_figure(
    requests: Requests,
    known: Float[np.ndarray, "k latent"],
    probed: Mapping[str, Float[np.ndarray, "n latent"]],
    path: str | Path,
) -> Path:
    """Where in latent space data are, where probes go, and what is asked for.

    Args:
        requests: One at least.
        known: Filtered states of training data.
        probed: Of the probes, by name.
        path: PNG to write.

    Raises:
        ShapeError: The latent state has fewer than two dimensions.
    """
    clouds = [_thin(known), *(_thin(states, _POINTS // len(probed)) for states in probed.values())]
    asked = np.array([request.latent for request in requests.requests])
    points, names = project(np.concatenate([*clouds, asked]), 3)
    middles, points = points[-len(asked) :], points[: -len(asked)]
    data, probes = points[: len(clouds[0])], points[len(clouds[0]) :]
    planes = [(0, 1), (0, 2)][: points.shape[1] - 1]
    fig = figure(4.2 * len(planes), 3.8)
    for axes, plane in zip(fig.subplots(1, len(planes), squeeze=False)[0], planes, strict=True):
        axes.scatter(*data[:, plane].T, s=3, color=GREY, lw=0, label="data")
        axes.scatter(*probes[:, plane].T, s=3, color=BLUE, alpha=0.35, lw=0, label="probes")
        area = [_LARGEST * request.share for request in requests.requests]
        spots = middles[:, plane]
        style = dict(facecolors="none", edgecolors=ORANGE, lw=1.8, label="requests")
        axes.scatter(*spots.T, s=area, **style)
        for i, spot in enumerate(spots, 1):
            box = dict(boxstyle="circle,pad=0.1", fc="white", ec=PALE, alpha=0.8)
            axes.annotate(
                str(i), spot, fontsize=SMALL, color=INK, ha="center", va="center", bbox=box
            )
        dress(axes, names[plane[0]], names[plane[1]])
    legend(fig.axes[0], loc="upper right")
    return save(fig, path)


def _thin(points: np.ndarray, most: int = _POINTS) -> np.ndarray:
    return points[:: max(1, -(-len(points) // most))]
