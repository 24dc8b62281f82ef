"""All figures of an evaluation, by one call; each of them can be drawn alone as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from worldmodel.evaluation.evaluate import Evaluation
from worldmodel.plots.ball_plots import VARIABLES, checkerboard
from worldmodel.plots.curves import (
    filter_convergence,
    prediction_error,
    tracking,
    training_curves,
)
from worldmodel.plots.latent_plots import latent_space, latent_walks
from worldmodel.plots.strips import strips
from worldmodel.types import Batch
from worldmodel.world.world import World

__all__ = [
    "checkerboard",
    "filter_convergence",
    "latent_space",
    "latent_walks",
    "prediction_error",
    "strips",
    "tracking",
    "training_curves",
    "write_all",
]


def write_all(
    evaluation: Evaluation,
    world: World,
    test: Batch,
    folder: str | Path,
    unactuated: Batch | None = None,
    history: Sequence[Mapping[str, float]] = (),
) -> list[Path]:
    """Draw every figure that there is something to draw from.

    Args:
        evaluation: Of ``world``.
        world: Of any model.
        test: Episodes of the test split, of which the first three are shown as strips.
        folder: Where the PNGs go, named after their functions.
        unactuated: A recorded episode without control; None leaves ``latent_walks`` out.
        history: Of the trainer; empty leaves ``training_curves`` out.

    Returns:
        The files written.
    """
    folder = Path(folder)
    written = [
        prediction_error(evaluation.metrics, folder / "prediction_error.png"),
        filter_convergence(evaluation.metrics, folder / "filter_convergence.png"),
    ]
    if "tracking" in evaluation.metrics:
        written.append(tracking(evaluation.metrics, folder / "tracking.png"))
    drawable = world.model.latent_size >= 2
    if drawable:
        written.append(latent_space(evaluation, folder / "latent_space.png"))
        if evaluation.truth.keys() == set(VARIABLES):
            written.append(checkerboard(evaluation, folder / "checkerboard.png"))
    written.append(strips(world, test[:3], folder / "strips.png", evaluation.filtered))
    if unactuated is not None and drawable:
        walks = folder / "latent_walks.png"
        written.append(
            latent_walks(world, unactuated, evaluation.latents, walks, evaluation.filtered)
        )
    if history:
        written.append(training_curves(history, folder / "training_curves.png"))
    return written
