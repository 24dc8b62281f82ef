"""Each command as it is typed: what it writes, what it prints, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import worldmodel
from agents.pathwise import Policy
from worldmodel import data
from worldmodel.cli import COMMANDS, main
from worldmodel.cli.systems import RECIPES
from worldmodel.models.registry import MODELS

FLAGS = {
    "demo": ["pendulum", "ball", "two-balls"],
    "collect": ["--out", "--env-id", "--env-kwargs", "--process", "--episodes", "--test-steps"],
    "train": ["--dataset", "--run", "--model.latent-size", "--updates", "--objective", "--seed"],
    "evaluate": ["--run", "--dataset", "--seed"],
    "compare": ["--dataset", "--out", "--models", "--objectives", "--seeds", "--updates"],
    "agent": ["--run", "--env-id", "--method", "--out", "--pathwise.updates", "--timesteps"],
    "empowerment": ["--run", "--out", "--states", "--episodes", "--agent.noise.sensor", "--seed"],
    "imagine": ["--out", "--actions", "--policy", "--episodes", "--looked", "--dreams", "--mp4"],
    "report": ["--out", "--dataset", "--seed"],
    "play": [
        "--mode",
        "--policy",
        "--dataset",
        "--env-id",
        "--out",
        "--noise",
        "--interval",
        "--fps",
    ],
    "bench": ["--checkpoint", "--env-id", "--num-envs", "--rounds", "--threads"],
}
ENVIRONMENTS = {"pixels": "worldmodel/Pendulum-v0", "vector": "Pendulum-v1"}
SMALL_DATA = ["--episodes", "12", "--num-envs", "6", "--test-steps", "40"]
TINY_MODEL = ["--model.hidden", "8", "--model.recurrent", "4", "--model.head-hidden", "4"]
TINY_MODEL += ["--model.base-matrices", "2", "--model.mixing-hidden", "4"]
SHORT = ["--updates", "4", "--batch-size", "4", "--validate-every", "2"]
QUICK = ["--pathwise.updates", "2", "--pathwise.batch-size", "4", "--pathwise.horizon", "3"]


def strict(path: Path) -> dict:
    """JSON as the standard has it: neither NaN nor Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{path} holds {name}")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """All commands in order, on a real environment of pixels and on one from elsewhere."""
    root = tmp_path_factory.mktemp("made")
    for name, env_id in ENVIRONMENTS.items():
        recorded, run, agent = (str(root / name / part) for part in ("data.npz", "run", "agent"))
        main(["collect", "--out", recorded, "--env-id", env_id, *SMALL_DATA])
        main(["train", "--dataset", recorded, "--run", run, *TINY_MODEL, *SHORT])
        main(["evaluate", "--run", run, "--dataset", recorded])
        judged = ["--env-id", env_id, "--episodes", "3", "--steps", "25"]
        main(["agent", "--run", run, "--out", agent, *judged, *QUICK])
    (root / "corrupt.npz").write_bytes((root / "pixels" / "data.npz").read_bytes()[:2000])
    return root


def test_the_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    assert exit.value.code == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_its_flags(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main([command, "--help"])
    assert exit.value.code == 0
    words = capsys.readouterr().out.replace(",", " ").split()
    assert set(FLAGS[command]) <= set(words)


@pytest.mark.parametrize(("name", "observed"), [("pixels", (16, 16, 1)), ("vector", (3,))])
def test_a_dataset_is_recorded(made, name, observed):
    dataset = data.load(made / name / "data.npz")
    assert dataset.observation_spec.shape == observed
    assert dataset.provenance.env_id == ENVIRONMENTS[name]
    assert (len(dataset.train), dataset.train.steps, dataset.test.steps) == (12, 14, 40)
    assert dataset.frames("train") == 12 * 15


def test_a_limit_that_cuts_the_test_episodes_short_is_said(tmp_path, capsys):
    arguments = ["collect", "--out", str(tmp_path / "data.npz"), "--episodes", "2"]
    main([*arguments, "--env-id", "Pendulum-v1", "--test-steps", "200"])
    assert "no test episode" not in capsys.readouterr().out
    main([*arguments, "--env-id", "Pendulum-v1", "--test-steps", "201"])
    said = " ".join(capsys.readouterr().out.split())
    assert "no test episode lasted 201 steps, the longest 200" in said


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_training_leaves_a_model_that_loads(made, name):
    run = made / name / "run"
    world = worldmodel.load(run)
    assert world.model.config.hidden == 8 and world.support.fitted
    assert strict(run / "checkpoint" / "metrics.json")["updates"] in (2, 4)
    assert list((run / "tensorboard").iterdir())


@pytest.mark.parametrize("model", MODELS)
def test_one_flag_chooses_the_model(made, tmp_path, model):
    recorded = str(made / "vector" / "data.npz")
    main(["train", "--dataset", recorded, "--run", str(tmp_path), "--model", model, *SHORT])
    assert type(worldmodel.load(tmp_path).model) is MODELS[model]


def test_training_again_goes_on_where_it_was(made, capsys):
    recorded, run = (str(made / "pixels" / part) for part in ("data.npz", "run"))
    before = worldmodel.load(run).model.state_dict()
    main(["train", "--dataset", recorded, "--run", run, *TINY_MODEL, *SHORT])
    assert "going on at update 4 of 4" in capsys.readouterr().out
    after = worldmodel.load(run).model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_pixels_are_measured_and_drawn_in_full(made):
    run = made / "pixels" / "run"
    metrics = strict(run / "metrics.json")
    assert set(metrics["r2"]) == set(metrics["loglik"]) == {"sin", "cos", "velocity"}
    assert {"lower_bound", "reconstruction", "kl"} <= set(metrics["bound"])
    assert len(metrics["prediction_mse"]) == 40 - 14
    drawn = {"latent_space", "prediction_error", "filter_convergence", "strips", "latent_walks"}
    assert {path.stem for path in run.glob("*.png")} == drawn


def test_what_is_known_of_a_system_is_compared_with(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    recorded, run = str(tmp_path / "data.npz"), str(tmp_path / "run")
    main(["collect", "--out", recorded, "--env-id", "worldmodel/BouncingBall-v0", *SMALL_DATA])
    main(["train", "--dataset", recorded, "--run", run, *TINY_MODEL, *SHORT, "--no-tensorboard"])
    capsys.readouterr()
    main(["evaluate", "--run", run, "--dataset", recorded])
    assert "constant velocity" in capsys.readouterr().out
    baselines = strict(tmp_path / "run" / "metrics.json")["prediction_mse_baseline"]
    assert set(baselines) == {"last_frame", "mean_frame", "constant_velocity"}
    assert all(len(errors) == 40 - 14 for errors in baselines.values())


def test_vectors_without_ground_truth_are_measured_and_drawn_as_far_as_they_go(made):
    run = made / "vector" / "run"
    metrics = strict(run / "metrics.json")
    assert "r2" not in metrics and "loglik" not in metrics
    assert {"lower_bound", "reconstruction", "kl"} <= set(metrics["bound"])
    drawn = {"latent_space", "prediction_error", "filter_convergence"}
    assert {path.stem for path in run.glob("*.png")} == drawn


def test_a_flat_latent_space_is_left_undrawn(made, tmp_path):
    recorded = str(made / "vector" / "data.npz")
    line = ["--model.latent-size", "1", "--no-tensorboard"]
    main(["train", "--dataset", recorded, "--run", str(tmp_path), *TINY_MODEL, *SHORT, *line])
    main(["evaluate", "--run", str(tmp_path), "--dataset", recorded])
    assert {path.stem for path in tmp_path.glob("*.png")} == {
        "prediction_error",
        "filter_convergence",
    }


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_agent_is_judged_in_the_dream_and_in_reality(made, name):
    metrics = strict(made / name / "agent" / "metrics.json")
    assert metrics["return_dream"] < 0 and metrics["return_real"] < 0
    assert metrics["episodes"] == 3
    # Only of the pendulum that ships is it known what upright means.
    assert ("upright_share" in metrics) == (name == "pixels")
    assert Policy.load(made / name / "agent" / "policy.safetensors").low.shape == (1,)


def test_stable_baselines_can_be_the_agent(made, tmp_path):
    arguments = ["--run", str(made / "vector" / "run"), "--out", str(tmp_path), "--method", "A2C"]
    arguments += ["--env-id", "Pendulum-v1", "--timesteps", "320", "--episodes", "2"]
    main(["agent", *arguments, "--steps", "5"])
    assert strict(tmp_path / "metrics.json")["episodes"] == 2
    assert (tmp_path / "a2c.zip").is_file()


def test_bench_reports_speeds_and_ratios(made, capsys):
    arguments = ["--checkpoint", str(made / "vector" / "run"), "--env-id", "Pendulum-v1"]
    main(["bench", *arguments, "--num-envs", "4", "--rounds", "1"])
    measured = json.loads(capsys.readouterr().out)
    speeds = measured["steps_per_second"]
    assert set(speeds) == {"dream", "bare", "bare_unfrozen", "real"} and min(speeds.values()) > 0
    for other in set(speeds) - {"dream"}:
        ratio = speeds["dream"] / speeds[other]
        assert measured[f"dream_over_{other}"] == pytest.approx(ratio)


REFUSED = {
    "unknown id": ("collect --out <new> --env-id Pendulun-v1", "'Pendulun-v1'", "Pendulum-v1"),
    "unknown module": ("collect --out <new> --env-id nowhere:A-v0", "'nowhere'"),
    "no JSON": ("collect --out <new> --env-kwargs {bad", "JSON object", "'{bad'"),
    "no JSON object": ("collect --out <new> --env-kwargs [1]", "JSON object", "'[1]'"),
    "argument": ('collect --out <new> --env-kwargs {"a":1}', "Pendulum-v0", "{'a': 1}"),
    "value": ('collect --out <new> --env-kwargs {"size":0}', "size", "got 0"),
    "no episodes": ("collect --out <new> --episodes 0", "episodes", "at least 1", "0"),
    "a file for a folder": ("collect --episodes 1 --out <corrupt>/data.npz", "<corrupt>"),
    "missing dataset": ("train --dataset <new> --run <new>", "no dataset at <new>"),
    "bracketed name": ("train --dataset [agents].npz --run <new>", "[agents].npz"),
    "corrupt dataset": ("train --dataset <corrupt> --run <new>", "<corrupt>", "corrupt"),
    "long window": ("train --dataset <vector> --run <new> --window 99", "window", "14", "99"),
    "another's run": ("train --dataset <vector> --run <run>", "<run>", "other settings"),
    "other shape": ("evaluate --dataset <vector> --run <run>", "(3,)", "(16, 16, 1)"),
    "nothing to evaluate": ("evaluate --dataset <vector> --run <new>", "no checkpoint", "<new>"),
    "evaluate nothing": ("evaluate --dataset <new> --run <run>", "no dataset at <new>"),
    "no checkpoint": ("agent --run <new> --out <new>", "no checkpoint", "<new>"),
    "no such reality": ("agent --run <run> --out <new> --env-id Foo-v9", "'Foo-v9'"),
    "other reality": ("agent --run <run> --out <new> --env-id Pendulum-v1", "(3,)", "(16, 16, 1)"),
    "no steps": ("agent --run <run> --out <new> --steps 0", "steps", "at least 1", "0"),
    "nothing to bench": ("bench --checkpoint <new>", "no checkpoint", "<new>"),
    "no rounds": ("bench --checkpoint <run> --rounds 0", "rounds", "at least 1", "0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_gets_one_clear_line(case, made, tmp_path, capsys):
    line, *told = REFUSED[case]
    paths = {
        "<new>": tmp_path / "new",
        "<corrupt>": made / "corrupt.npz",
        "<vector>": made / "vector" / "data.npz",
        "<run>": made / "pixels" / "run",
    }

    def fill(text: str) -> str:
        for name, path in paths.items():
            text = text.replace(name, str(path))
        return text

    with pytest.raises(SystemExit) as exit:
        main([fill(word) for word in line.split()])
    assert exit.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert all(fill(part) in said for part in told)
    assert not (tmp_path / "new").exists()


def test_a_missing_flag_is_refused_by_name(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["train", "--run", "somewhere"])
    assert exit.value.code == 2
    assert "--dataset" in capsys.readouterr().err


def test_defaults_are_those_that_suit_the_file(made, tmp_path, capsys):
    """Of vectors, of a demo's own system, and before anything is named those of any pixels."""

    def default(flag: str, *line: str) -> str:
        with pytest.raises(SystemExit):
            main([*line, "--help"])
        words = capsys.readouterr().out.replace("│", " ").split()
        return words[words.index("(default:", words.index(flag)) + 1].rstrip(")")

    files = {name: made / name for name in ENVIRONMENTS}
    for name, recognition in (("pixels", "network"), ("vector", "fusion")):
        named = ["--dataset", str(files[name] / "data.npz")]
        assert default("--model.recognition", "train", *named) == recognition
    assert default("--model.recognition", "train") == "network"
    ball = str(tmp_path / "ball.npz")
    env_id = "worldmodel/BouncingBall-v0"
    main(["collect", "--out", ball, "--env-id", env_id, *SMALL_DATA, "--steps", "9"])
    capsys.readouterr()
    sizes = RECIPES["ball"].model
    for flag, size in (("--model.latent-size", sizes.latent_size), ("--window", 9)):
        assert default(flag, "train", "--dataset", ball) == str(size)
    for name, horizon in (("pixels", "25"), ("vector", "40")):
        assert default("--pathwise.horizon", "agent", "--run", str(files[name] / "run")) == horizon
    assert default("--pathwise.horizon", "agent") == "25"


def test_the_agent_acts_in_the_models_own_environment_unless_told(made, tmp_path, capsys):
    run = ["agent", "--run", str(made / "vector" / "run"), "--episodes", "2", *QUICK]
    main([*run, "--out", str(tmp_path / "own"), "--steps", "3"])
    assert strict(tmp_path / "own" / "metrics.json")["length_real"] == 3
    main([*run, "--out", str(tmp_path / "whole")])
    assert strict(tmp_path / "whole" / "metrics.json")["length_real"] == 200
    with pytest.raises(SystemExit):
        main([*run, "--out", str(tmp_path / "no"), "--env-kwargs", '{"g": "heavy", "h": 1}'])
    assert "'Pendulum-v1'" in capsys.readouterr().err
