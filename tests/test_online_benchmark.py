"""The table of learning online says what its runs' rounds say, complete or not."""

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def parts(monkeypatch):
    pytest.importorskip("shimmy")
    monkeypatch.syspath_prepend(BENCHMARKS)
    import online
    import online_tables

    return online, online_tables


def rounds(*returns):
    told = {"forecast": 100.0, "forecast_low": 50.0, "forecast_high": 150.0, "return": 0.0}
    return [
        {**told, "real_steps": 1000 * (i + 1), "clean_return": value}
        for i, value in enumerate(returns)
    ]


def test_steps_to_the_goal_are_real_ones(parts):
    run = parts[1].Run(0, rounds(20.0, 90.0, 70.0), 12.0, repeat=4)
    assert run.reached(80.0) == 8000 and run.reached(95.0) is None and run.steps == 12_000
    assert run.forecasts == [False, True, True]


def test_what_is_not_evaluated_is_not_judged(parts):
    rows = rounds(60.0, 70.0)
    rows[0]["clean_return"] = None
    run = parts[1].Run(0, rows, 1.0, 1)
    assert run.judged == [(2000, 70.0)] and run.forecasts == [True]


def test_all_runs_that_were_begun_are_found_and_told(parts, tmp_path):
    online, tables = parts
    begun = {
        "Pendulum-v1-actor-critic-0": rounds(-1200.0, -150.0),
        "Pendulum-v1-actor-critic-3": rounds(-900.0),
        "Pendulum-v1-planner-0": rounds(-140.0, -130.0),
    }
    for name, rows in begun.items():
        (tmp_path / name).mkdir()
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / "progress.jsonl").write_text(lines)
        (tmp_path / name / "cpu.json").write_text('{"cpu_seconds": 7.4}')
    (tmp_path / "Pendulum-v1-planner-1").mkdir()
    results = online.found(tmp_path)
    assert [len(runs) for _, runs in results.values()] == [2, 1]
    lines = tables.table(results).splitlines()
    assert lines[2].startswith("| Pendulum-v1, actor-critic (seeds 0, 3) | -160 in 2,000 |")
    assert "| 2,000 / - | -150 / -900 (at 1,000) | 0% of 3 | 7 / 7 |" in lines[2]
    assert "| 1,000 | -130 |" in lines[3]
    assert tables.draw(results, tmp_path / "online.png").stat().st_size > 5000


def test_every_round_adds_its_cpu_time_and_the_clock_stops_it(parts, tmp_path):
    online, _ = parts
    row = {**rounds(1.0)[0], "trust": 1.0}
    for _ in range(2):
        timed = online.Timed("run", until=float("inf"))
        timed.begin(tmp_path, [], False)
        timed._since -= 5  # as if five seconds had been spent
        timed.row(row)
    assert 10 <= online._cpu_seconds(tmp_path) < 12
    with pytest.raises(KeyboardInterrupt):
        online.Timed("run", until=0.0).phase("acting")


def test_the_results_have_a_place_for_it(parts):
    page = parts[1].RESULTS.read_text()
    assert page.count("<!-- online -->") == page.count("<!-- /online -->") == 1
