"""Tables of several seeds, and the block of the results that they are written to."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def seeds(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import seeds

    return seeds


def run(error: float, score: float) -> dict:
    """A run whose error grows by ``error`` per step, where standing still errs by 0.5 at once."""
    return {
        "prediction_mse": [error * k for k in range(1, 101)],
        "prediction_mse_averaged": [error * k / 2 for k in range(1, 101)],
        "prediction_mse_baseline": {"last_frame": [0.5] * 100, "mean_frame": [1.0] * 100},
        "prediction_variance": 0.5,
        "r2": {"x": score},
        "versions": {"torch": "2.0"},
    }


def test_shares_follow_from_the_errors(seeds):
    metrics = seeds.with_fractions(run(0.01, 0.9))
    assert metrics["fraction"]["10"] == pytest.approx(0.2)
    assert metrics["baseline_fraction"]["mean_frame"]["30"] == pytest.approx(2.0)
    assert metrics["under"] == {"last_frame": 0.49, "mean_frame": 0.99}
    assert metrics["averaged_fraction"]["10"] == pytest.approx(0.1)
    assert metrics["steps_under_all"] == 49
    assert metrics["averaged_steps_under_all"] == 99
    assert seeds.with_fractions(run(0.001, 0.9))["steps_under_all"] == 100
    assert seeds.with_fractions(run(0.6, 0.9))["steps_under_all"] == 0


def test_the_worst_is_the_least_of_what_should_be_great(seeds):
    runs = [seeds.with_fractions(run(e, s)) for e, s in ((0.001, 0.5), (0.003, 0.9), (0.002, 0.7))]
    rows = [seeds.Row("R²", "r2.x", True, "≥ 0.6"), seeds.Row("error", "fraction.10", False)]
    lines = seeds.table(rows, runs).splitlines()
    assert lines[0] == "|  | median | worst | each seed | goal |"
    assert lines[2] == "| R² | 0.7 | 0.5 | 0.5 0.9 0.7 | ≥ 0.6 |"
    assert lines[3] == "| error | 0.04 | 0.06 | 0.02 0.06 0.04 |  |"
    long = seeds.table([seeds.Row("frames", "frames", False)], [{"frames": 15_000}])
    assert "| frames | 15000 | 15000 | 15000 |" in long
    published = seeds.table([seeds.Row("R²", "r2.x", True, "", "0.9")], runs)
    assert published.splitlines()[2].endswith("|  | 0.9 |")


def test_only_the_block_between_the_markers_is_replaced(seeds, tmp_path, monkeypatch):
    page = tmp_path / "results.md"
    page.write_text("before\n<!-- ball -->\nold\n<!-- /ball -->\nafter\n")
    monkeypatch.setattr(seeds, "RESULTS", page)
    rows = [seeds.Row("R²", "r2.x", True)]
    for _ in range(2):
        seeds.report("ball", "make it", rows, [seeds.with_fractions(run(0.01, 0.9))])
    text = page.read_text()
    assert text.startswith("before\n<!-- ball -->\n`make it`, seed 0; torch 2.0.\n")
    assert text.endswith("| R² | 0.9 | 0.9 | 0.9 |  |\n<!-- /ball -->\nafter\n")
    assert "old" not in text


@pytest.mark.parametrize("name", ["pendulum", "ball", "two-balls", "software-sensor"])
def test_the_results_have_a_place_for_every_benchmark(seeds, name):
    page = seeds.RESULTS.read_text()
    assert page.count(f"<!-- {name} -->") == page.count(f"<!-- /{name} -->") == 1
