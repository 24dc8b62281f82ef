"""The table and the figures that compare models, and the snapshots they are drawn from."""

import numpy as np
import pytest
import torch
from small import random_dataset, tiny_model

from worldmodel.evaluation.snapshots import FRACTIONS, Snapshot, Snapshots
from worldmodel.plots.comparison import comparison, comparison_table
from worldmodel.plots.course import course
from worldmodel.systems import pendulum


def result(model, seed, r2, mse, **changes):
    return {
        "identity": {"model": model, "objective": "elbo", "seed": seed},
        "r2": {"sin": r2, "velocity": r2 / 2},
        "bound": {"lower_bound": 10.0 + seed, "kl": 2.5, "distortion": 0.02},
        "prediction_mse": [mse * (1 + k / 10) for k in range(40)],
        "prediction_variance": 0.2,
        "seconds": 12.4,
        "parameters": 12345,
    } | changes


def cells(text, row):
    head, _, *lines = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()]
    return dict(zip(head, lines[row], strict=True))


def test_the_table_gives_the_median_and_the_worst_seed():
    runs = [result("a", s, r2, e) for s, (r2, e) in enumerate([(0.9, 0.1), (0.5, 0.3), (0.7, 0.2)])]
    row = cells(comparison_table(runs), 0)
    assert row["model"] == "a" and row["seeds"] == "3"
    assert row["R² sin φ"] == "0.700 (0.500)" and row["R² velocity"] == "0.350 (0.250)"
    assert row["error, 1 step"] == "100.0% (150.0%)"
    assert row["error, 10 steps"] == "190.0% (285.0%)"
    assert row["bound, nats per frame"] == "11.0" and row["distortion"] == "10.00%"
    assert row["parameters"] == "12,345" and row["seconds"] == "12"
    assert "error, 30 steps" in row and "error, 100 steps" not in row


def test_what_diverged_and_what_has_no_bound_is_said():
    runs = [result("a", 0, 0.9, 0.1), result("a", 1, 0.9, 0.1, error="not finite")]
    runs += [result("b", s, 0.9, 0.1, error="not finite") for s in (0, 1)]
    runs += [result("c", s, 0.9, 0.1, bound={"kl": 1.0, "distortion": 0.1}) for s in (0, 1)]
    text = comparison_table(runs)
    assert cells(text, 0)["seeds"] == "1 of 2" and cells(text, 0)["R² sin φ"] == "0.900"
    assert cells(text, 1)["seeds"] == "0 of 2" and cells(text, 1)["rate"] == "diverged"
    assert cells(text, 2)["bound, nats per frame"] == "none"


def test_the_figure_is_drawn_with_and_without_a_known_state(tmp_path):
    runs = [result(m, s, 0.9, 0.1) for m in "abcdefgh" for s in (0, 1)]
    assert comparison(runs, tmp_path / "known.png").stat().st_size > 10_000
    for run in runs:
        del run["r2"]
    assert comparison(runs, tmp_path / "unknown.png").stat().st_size > 10_000
    assert "R²" not in comparison_table(runs)


@pytest.fixture
def taken(tmp_path):
    dataset = random_dataset(steps=20)
    dataset.splits["test"] = dataset.validation
    model = tiny_model()
    model.calibrate(dataset.train)
    snapshots = Snapshots(tmp_path / "snapshots", dataset, 100, pendulum.targets)
    model.train()
    for update in range(101):
        snapshots.take(model, update)
    assert model.training
    return Snapshots.read(tmp_path / "snapshots"), model, dataset


def test_snapshots_are_taken_at_their_moments_of_the_same_frames(taken):
    snapshots, model, dataset = taken
    assert [snapshot.update for snapshot in snapshots] == [round(100 * s) for s in FRACTIONS]
    batch = dataset.test.window(0, 14)
    with torch.no_grad():
        states = model.terms(batch, torch.Generator().manual_seed(0)).states
    for snapshot in snapshots:
        np.testing.assert_array_equal(snapshot.latents, states.flatten(0, 1))
        angle = batch.states[..., 0].flatten()
        np.testing.assert_allclose(snapshot.truth["sin"], angle.sin(), atol=1e-6)


@pytest.mark.parametrize("objective", ["constrained", "elbo"])
def test_the_course_is_drawn(taken, tmp_path, objective):
    snapshots, *_ = taken
    log = {"objective/multiplier": 8.0, "objective/distortion": 0.1}
    log |= {"objective/distortion_target": 0.05}
    history = [
        {"update": float(u), "validation/kl": 3.0, **(log if objective == "constrained" else {})}
        for u in (50, 100)
    ]
    path = course(snapshots, history, "a", tmp_path / "course.png")
    assert path.stat().st_size > 10_000


def test_the_course_of_many_dimensions_without_truth_is_drawn(tmp_path):
    latents = np.random.default_rng(0).normal(size=(50, 5))
    snapshots = [Snapshot(update, latents, {}) for update in (0, 9)]
    history = [{"update": 9.0, "validation/kl": 1.0}]
    assert course(snapshots, history, "a", tmp_path / "course.png").stat().st_size > 5_000
