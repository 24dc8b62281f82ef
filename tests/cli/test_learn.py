"""``worldmodel learn`` from the command line, and what other commands make of its run."""

import json

import pytest

import worldmodel
from worldmodel import data
from worldmodel.cli import main
from worldmodel.cli.runs import policy_of
from worldmodel.evaluation.evaluate import evaluate
from worldmodel.plots.learning import learning_curve, read_progress

ENV = "Pendulum-v1"
TINY = ["--seed-steps", "60", "--round-steps", "20", "--updates", "2", "--agent-updates", "2"]
TINY += ["--train.updates", "4", "--train.batch-size", "4", "--train.window", "4"]
TINY += ["--agent.updates", "2", "--agent.horizon", "3", "--evaluate-episodes", "2"]
TINY += ["--film-every", "1", "--replayed", "4", "--episode-steps", "30"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learn") / "run"
    main(["learn", ENV, "--run", str(folder), "--steps", "80", *TINY])
    return folder


def test_it_goes_on_and_says_so(run, capsys, monkeypatch):
    rows = read_progress(run)
    monkeypatch.setattr("worldmodel.progress.EVERY", 0.0)
    main(["learn", ENV, "--run", str(run), "--steps", str(rows[-1]["real_steps"] + 10), *TINY])
    out = capsys.readouterr().out
    assert f"going on after {rows[-1]['real_steps']:,} steps" in out and "trust" in out
    assert "fitting the model, 1 of 2 updates" in out, "within a round too, and without a terminal"
    assert read_progress(run)[: len(rows)] == rows
    assert len(read_progress(run)) == len(rows) + 1
    assert len(list((run / "films").glob("*.png"))) >= 1


def test_its_run_is_evaluated_and_acted_in_like_any_other(run, tmp_path):
    world, dataset = worldmodel.load(run), data.load(run / "data")
    assert len(evaluate(world, dataset).metrics["prediction_mse"]) == 30 - 14
    out = ["--out", str(tmp_path), "--episodes", "2", "--steps", "10", "--models", "1"]
    main(["agent", str(run), "--method", "actor-critic", "--actor-critic.updates", "1", *out])
    settings = json.loads((run / "settings.json").read_text())
    assert settings["dataset"]["fingerprint"] == dataset.provenance.fingerprint


def test_the_curve_is_in_the_report(run, tmp_path):
    pytest.importorskip("plotly")
    page = tmp_path / "report.html"
    main(["report", str(run), "--out", str(page)])
    assert f"Learning online: {len(read_progress(run))} rounds" in page.read_text()


@pytest.mark.parametrize("method", ["planner", "sac"])
def test_whoever_learned_is_found_again(method, tmp_path):
    words = ["--steps", "65", *TINY, "--method", method, "--sac.updates", "2"]
    words += ["--planning.horizon", "2", "--planning.candidates", "4", "--sac.more-updates", "2"]
    main(["learn", ENV, "--run", str(tmp_path / "run"), *words])
    world = worldmodel.load(tmp_path / "run")
    agent = policy_of(tmp_path / "run", world)
    assert (type(agent).__name__ == "Planner") == (method == "planner")
    action, _ = agent.predict(world.support.states[:2].numpy(), deterministic=True)
    assert action.shape == (2, 1) and abs(action).max() <= 2
    pytest.importorskip("plotly")
    page = tmp_path / "report.html"
    main(["report", str(tmp_path / "run"), "--out", str(page)])
    assert "Under the agent" in page.read_text()


def test_defaults_follow_from_what_is_observed(capsys):
    for words, latent in (([ENV], 3), (["CartPole-v1"], 4), ([ENV, "--pixels"], 8)):
        with pytest.raises(SystemExit):
            main(["learn", *words, "--help"])
        told = capsys.readouterr().out.partition("--model.latent-size")[2]
        assert told.partition("(default: ")[2].partition(")")[0] == str(latent)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["learn", "NoSuch-v1", "--run", "r", "--steps", "5"], "unknown environment"),
        (["learn", ENV, "--run", "r", "--steps", "0"], "steps must be at least 1"),
        (["learn", ENV, "--run", "r", "--steps", "9", "--held-out", "1"], "held_out must be"),
        (["learn", ENV, "--run", "r", "--steps", "9", "--intrinsic-weight", "nan"], "intrinsic_w"),
        (["learn", ENV, "--run", "r", "--steps", "9", "--train.dreaming.denoise", ".1"], "denoise"),
    ],
)
def test_what_makes_no_sense_is_refused(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        main(words)
    captured = capsys.readouterr()
    assert exit.value.code and said in captured.err + captured.out
    assert not (tmp_path / "r" / "data").exists()


def test_curves_of_several_runs_are_drawn(tmp_path):
    row = {"return": 1.0, "clean_return": None, "trust": 0.5, "observation_error": 0.1}
    rows = [{**row, "real_steps": n, "reward_error": None} for n in (10, 20)]
    for told in rows:
        told |= {"forecast": 5.0, "forecast_low": -1e9, "forecast_high": 1e9}
    path = learning_curve({"seed 0": rows, "seed 1": rows}, tmp_path / "curve.png", goal=2.0)
    assert path.stat().st_size > 5000
    alone = learning_curve({"": rows}, tmp_path / "alone.png")
    assert alone.read_bytes() != path.read_bytes()
    with pytest.raises(ValueError, match="no round"):
        learning_curve({"seed 0": []}, tmp_path / "none.png")
    (tmp_path / "progress.jsonl").write_text("{")
    with pytest.raises(ValueError, match="corrupt"):
        read_progress(tmp_path)
