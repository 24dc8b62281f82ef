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


@pytest.mark.parametrize("name", ["pendulum", "ball", "two-balls", "software-sensor", "foreign"])
def test_the_results_have_a_place_for_every_benchmark(seeds, name):
    page = seeds.RESULTS.read_text()
    assert page.count(f"<!-- {name} -->") == page.count(f"<!-- /{name} -->") == 1


@pytest.fixture
def foreign_tables(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import foreign_tables

    return foreign_tables


def foreign(reached: int, late: float, **more) -> dict:
    """A run of a system whose test episodes all have so many frames."""
    stretches = {"0-15": 0.99, "15-40": 0.9, "40-100": late}
    ceiling, network = dict.fromkeys(stretches, 0.95), stretches | {"40-100": 0.94}
    errors = {"model": 0.1, "last_frame": 1.5, "mean_frame": 1.0}
    told = {kind: {"1": e, "5": e, "10": e, "30": None} for kind, e in errors.items()}
    taken = {"cpu_seconds": 600.0, "peak_mb": 1500.0}
    return {
        "system": "swing",
        "seed": 0,
        "tracking": {"sin": stretches, "velocity": stretches, "leg": stretches},
        "tracking_network": dict.fromkeys(("sin", "velocity", "leg"), network),
        "ceiling": {"sin": ceiling, "velocity": ceiling, "leg": dict.fromkeys(stretches, 0.1)},
        "reached": [20] * reached,
        "enough": 10,
        "fraction": dict.fromkeys(("babbling", "quick", "slow"), told),
        "frames": {"train": 10_050},
        "taken": dict.fromkeys(("collect", "train", "evaluate"), taken),
        "shortcomings": [],
        **more,
    }


def test_a_filter_is_judged_where_it_should_have_settled(foreign_tables):
    assert foreign_tables.judged(foreign(120, 0.8)) == ["40-100"]
    assert foreign_tables.judged(foreign(44, 0.8)) == ["15-40"], "few episodes last to frame 50"
    assert foreign_tables.worst_ratio(foreign(120, 0.8), True) == pytest.approx(0.8 / 0.95)
    row = foreign_tables.variables(foreign(120, 0.8))["leg"]
    assert "ratio" not in row, "the camera does not show it"


def test_rows_of_foreign_systems_are_medians_and_failures_are_counted(foreign_tables):
    runs = [foreign(120, late, seed=i) for i, late in enumerate((0.8, 0.95, 0.9))]
    runs += [{"system": "swing", "seed": 3, "error": "train failed: diverged"}]
    runs += [{"system": "fall", "seed": 0, "error": "train failed: diverged"}]
    text = foreign_tables.tables(runs)
    assert "| swing | 40-100 | 0.947 | 0.947 | 0.989 | 0.989 |" in text
    assert "| swing | 0.1 / 0.1 / 0.1 / - | 1.5 / 1.5 / 1.5 / - |" in text
    assert "| swing | 10050 | 600 | 600 | 1.5 | 1.5 | 0 of 4 | 1 |" in text
    assert "| fall | - | - | - | - | - | 0 of 1 | 1 |" in text
    assert "| swing | leg | 0.9 | 0.94 | 0.1 | - |" in text
    assert foreign_tables.summary(runs[-1]) == "fall, seed 0: train failed: diverged"
    assert "R² over ceiling 0.842 positions" in foreign_tables.summary(runs[0])


def test_a_foreign_run_trains_the_model_that_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import foreign
    from foreign_systems import FOREIGN

    typed = {
        model: foreign.commands(FOREIGN["pendulum"], model, 0, tmp_path, None)["train"]
        for model in ("dvbf", "rssm")
    }
    assert "--model" not in typed["dvbf"]
    assert typed["rssm"][typed["rssm"].index("--model") + 1] == "rssm"


def test_the_plain_recurrent_model_learns(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import torch
    from plain_rssm import PlainRSSM

    torch.manual_seed(0)
    model = PlainRSSM(3, 2, 16, 4, 16)
    steps = torch.randn(8, 10, 3).cumsum(1) / 3
    batch = steps, torch.zeros(8, 9, 2), torch.zeros(8, 9)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(*batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
