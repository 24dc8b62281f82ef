"""Each command as it is typed: what it writes, what it prints, and how it refuses."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
import tyro
from gymnasium.envs.classic_control.pendulum import PendulumEnv as Pendulum
from PIL import Image

import worldmodel
from agents.planning import Planner
from agents.policy import Policy
from agents.saved import load_agent
from worldmodel import data
from worldmodel.cli import COMMANDS, main
from worldmodel.cli.arguments import REGISTRY, Run
from worldmodel.cli.defaults import _is_switch
from worldmodel.cli.runs import require_same_system
from worldmodel.models.registry import MODELS
from worldmodel.systems import DEMOS, PRESETS
from worldmodel.training.config import TrainConfig
from worldmodel.training.state import read_history
from worldmodel.world import members

FLAGS = {
    "demo": ["pendulum", "ball", "two-balls"],
    "collect": ["ENV", "--out", "--env-kwargs", "--process", "--policy", "--workers", "--requests"],
    "import": ["SOURCE", "--out", "--format", "--map", "--save-map", "--resample", "--resize"],
    "data show": ["DATA", "--out"],
    "data export": ["DATA", "--minari", "--splits"],
    "train": [
        "DATA",
        "--run",
        "--preset",
        "--model",
        "--model.transition.leak",
        "--updates",
        "--objective",
        "--seed",
        "--warm",
    ],
    "learn": [
        "ENV",
        "--run",
        "--steps",
        "--model",
        "--model.latent-size",
        "--seed-steps",
        "--train.updates",
        "--agent.horizon",
        "--pixels",
    ],
    "evaluate": ["RUN", "--dataset", "--out", "--force", "--seed", "--allowed", "--ask", "--json"],
    "calibrate": ["RUN", "--dataset", "--out", "--episodes", "--trust.coverage", "--seed"],
    "compare": ["DATA", "--out", "--models", "--objectives", "--preset", "--seeds", "--updates"],
    "agent": [
        "RUN",
        "--preset",
        "--env-id",
        "--method",
        "--goal",
        "--out",
        "--models",
        "--pathwise.updates",
        "--actor-critic.updates",
        "--planning.horizon",
    ],
    "empowerment": ["RUN", "--out", "--states", "--episodes", "--agent.noise.sensor", "--seed"],
    "imagine": [
        "RUN",
        "--out",
        "--actions",
        "--policy",
        "--dataset",
        "--episodes",
        "--dreams",
        "--mp4",
    ],
    "report": ["RUN", "--out", "--dataset", "--force", "--seed"],
    "play": ["[RUN]", "--mode", "--policy", "--dataset", "--env-id", "--out", "--noise", "--fps"],
    "presets": ["[NAME]"],
    "bench": ["RUN", "--env-id", "--num-envs", "--rounds", "--threads"],
}
ENVIRONMENTS = {"pixels": "worldmodel/Pendulum-v0", "vector": "Pendulum-v1"}
SMALL_DATA = ["--episodes", "12", "--num-envs", "6", "--steps", "14", "--test-steps", "40"]
TINY_MODEL = ["--model.codec.hidden", "8", "--model.recurrent", "4", "--model.head-hidden", "4"]
TINY_MODEL += ["--model.transition.base-matrices", "2", "--model.transition.mixing-hidden", "4"]
SHORT = ["--updates", "4", "--batch-size", "4", "--validate-every", "2", "--denoise", "0"]
QUICK = ["--pathwise.updates", "2", "--pathwise.batch-size", "4", "--pathwise.horizon", "3"]
ALONE = ["--models", "1"]  # others are fitted for some seconds
QUICK += ALONE


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
        recorded, run, agent = (str(root / name / part) for part in ("data", "run", "agent"))
        main(["collect", env_id, "--out", recorded, *SMALL_DATA])
        main(["train", recorded, "--run", run, *TINY_MODEL, *SHORT])
        main(["evaluate", run])
        judged = ["--env-id", env_id, "--episodes", "3", "--steps", "25"]
        main(["agent", run, "--out", agent, *judged, *QUICK])
    (root / "corrupt.npz").write_bytes(b"PK" + bytes(2000))
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
        main([*command.split(), "--help"])
    assert exit.value.code == 0
    words = capsys.readouterr().out.replace(",", " ").split()
    assert set(FLAGS[command]) <= set(words)


@pytest.mark.parametrize(("name", "observed"), [("pixels", (16, 16, 1)), ("vector", (3,))])
def test_a_dataset_is_recorded(made, name, observed):
    dataset = data.load(made / name / "data")
    assert dataset.observation_spec.streams[0].shape == observed
    assert dataset.provenance.env_id == ENVIRONMENTS[name]
    assert (len(dataset.train), dataset.train.steps, dataset.test.steps) == (12, 14, 40)
    assert dataset.frames("train") == 12 * 15


@pytest.mark.parametrize(
    "env_id, said, steps, test_steps",
    [
        ("worldmodel/BouncingBall-v0", [], 14, 114),
        ("Pendulum-v1", [], 100, 200),
        ("Pendulum-v1", ["--steps", "20"], 20, 120),
        ("Pendulum-v1", ["--test-steps", "30"], 100, 30),
    ],
)
def test_episodes_are_longer_of_what_does_not_ship(tmp_path, env_id, said, steps, test_steps):
    few = ["--episodes", "1", "--held-out", "1"]
    main(["collect", env_id, "--out", str(tmp_path / "data"), *few, *said])
    recorded = data.load(tmp_path / "data")
    assert (recorded.train.steps, recorded.test.steps) == (steps, test_steps)


def test_a_limit_that_cuts_the_test_episodes_short_is_said(tmp_path, capsys):
    arguments = ["collect", "Pendulum-v1", "--out", str(tmp_path / "data"), "--episodes", "2"]
    main([*arguments, "--test-steps", "200"])
    assert "no test episode" not in capsys.readouterr().out
    main([*arguments, "--test-steps", "201"])
    said = " ".join(capsys.readouterr().out.split())
    assert "no test episode lasted 201 steps, the longest 200" in said


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_training_leaves_a_model_that_loads(made, name):
    run = made / name / "run"
    world = worldmodel.load(run)
    assert world.model.config.codec.hidden == 8 and world.support.fitted
    assert strict(run / "checkpoint" / "metrics.json")["updates"] in (2, 4)
    assert list((run / "tensorboard").iterdir())


@pytest.mark.parametrize("model", MODELS)
def test_one_flag_chooses_the_model(made, tmp_path, model):
    recorded = str(made / "vector" / "data")
    main(["train", recorded, "--run", str(tmp_path), "--model", model, *SHORT])
    assert type(worldmodel.load(tmp_path).model) is MODELS[model]


def test_training_again_goes_on_where_it_was(made, capsys):
    recorded, run = (str(made / "pixels" / part) for part in ("data", "run"))
    before = worldmodel.load(run).model.state_dict()
    main(["train", recorded, "--run", run, *TINY_MODEL, *SHORT])
    assert "going on at update 4 of 4" in capsys.readouterr().out
    after = worldmodel.load(run).model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def figures(run: Path) -> set[str]:
    """But for what is asked for, which depends on how badly a model that never learned dreams."""
    return {path.stem for path in run.glob("*.png")} - {"requests"}


def test_pixels_are_measured_and_drawn_in_full(made):
    run = made / "pixels" / "run"
    metrics = strict(run / "metrics.json")
    assert set(metrics["r2"]) == set(metrics["loglik"]) == {"sin", "cos", "velocity"}
    assert {"lower_bound", "reconstruction", "kl"} <= set(metrics["bound"])
    assert len(metrics["prediction_mse"]) == 40 - 14
    drawn = {"latent_space", "prediction_error", "filter_convergence", "strips", "latent_walks"}
    drawn |= {"tracking", "trust"}
    assert figures(run) == drawn


def test_numbers_alone_are_printed_where_another_program_reads_them(made, tmp_path, capsys):
    run, out = str(made / "vector" / "run"), ["--out", str(tmp_path)]
    capsys.readouterr()
    main(["evaluate", run, *out, "--json"])
    printed = capsys.readouterr()
    assert json.loads(printed.out) == strict(tmp_path / "metrics.json")
    assert "metrics.json and figures are written" in printed.err
    main(["agent", run, *out, "--episodes", "2", "--steps", "5", *QUICK, "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("verdict") == strict(tmp_path / "verdict.json")
    assert printed == strict(tmp_path / "metrics.json")


def test_other_models_of_the_recording_foretell_too(made, tmp_path, monkeypatch):
    monkeypatch.setattr(members, "UPDATES", 3)
    run = ["agent", str(made / "vector" / "run"), "--episodes", "2", "--steps", "4", *QUICK]
    for models in (1, 3):
        main([*run, "--out", str(tmp_path), "--models", str(models)])
        verdict = strict(tmp_path / "verdict.json")
        assert verdict["models"] == len(verdict["by_model"]) == models
        assert (verdict["interval"] == verdict["alone_interval"]) == (models == 1)


def test_what_is_known_of_a_system_is_compared_with(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    recorded, run = str(tmp_path / "data"), str(tmp_path / "run")
    main(["collect", "worldmodel/BouncingBall-v0", "--out", recorded, *SMALL_DATA])
    main(["train", recorded, "--run", run, *TINY_MODEL, *SHORT, "--no-tensorboard"])
    capsys.readouterr()
    main(["evaluate", run])
    assert "constant velocity" in capsys.readouterr().out
    baselines = strict(tmp_path / "run" / "metrics.json")["prediction_mse_baseline"]
    assert set(baselines) == {"last_frame", "mean_frame", "constant_velocity"}
    assert all(len(errors) == 40 - 14 for errors in baselines.values())


def test_vectors_without_ground_truth_are_measured_and_drawn_as_far_as_they_go(made):
    run = made / "vector" / "run"
    metrics = strict(run / "metrics.json")
    assert "r2" not in metrics and "loglik" not in metrics
    assert {"lower_bound", "reconstruction", "kl"} <= set(metrics["bound"])
    drawn = {"latent_space", "prediction_error", "filter_convergence", "strips", "trust"}
    assert figures(run) == drawn


def test_a_flat_latent_space_is_left_undrawn(made, tmp_path):
    recorded = str(made / "vector" / "data")
    line = ["--model.latent-size", "1", "--no-tensorboard"]
    main(["train", recorded, "--run", str(tmp_path), *TINY_MODEL, *SHORT, *line])
    main(["evaluate", str(tmp_path)])
    assert {path.stem for path in tmp_path.glob("*.png")} == {
        "prediction_error",
        "filter_convergence",
        "strips",
        "trust",
    }


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_agent_is_judged_in_the_dream_and_in_reality(made, name):
    metrics = strict(made / name / "agent" / "metrics.json")
    assert metrics["return_dream"] < 0 and metrics["return_real"] < 0
    assert metrics["episodes"] == 3
    # Only of the pendulum that ships is it known what upright means.
    assert ("upright_fraction" in metrics) == (name == "pixels")
    assert Policy.load(made / name / "agent" / "policy.safetensors").low.shape == (1,)


def test_stable_baselines_can_be_the_agent(made, tmp_path):
    arguments = [str(made / "vector" / "run"), "--out", str(tmp_path), "--method", "A2C"]
    arguments += ["--env-id", "Pendulum-v1", "--timesteps", "320", "--episodes", "2", *ALONE]
    main(["agent", *arguments, "--steps", "5"])
    assert strict(tmp_path / "metrics.json")["episodes"] == 2
    assert (tmp_path / "a2c.zip").is_file()


@pytest.mark.parametrize("method", ["actor-critic", "mppi"])
def test_agents_that_go_on_or_plan_are_judged_likewise(made, tmp_path, method):
    arguments = ["--out", str(tmp_path), "--method", method, "--episodes", "2", "--steps", "5"]
    arguments += ["--actor-critic.updates", "2", "--actor-critic.horizon", "3", *ALONE]
    main(["agent", str(made / "vector" / "run"), *arguments, "--planning.candidates", "8"])
    metrics = strict(tmp_path / "metrics.json")
    assert metrics["return_real"] < 0 and metrics["length_real"] == 5
    world = worldmodel.load(made / "vector" / "run")
    agent = load_agent(tmp_path / "policy.safetensors", world)
    if method == "actor-critic":
        assert isinstance(agent, Policy) and agent.stochastic
    else:
        assert isinstance(agent, Planner) and agent.config.candidates == 8


def test_a_picture_can_be_the_goal(made, tmp_path, capsys):
    """Upright, from hanging: the bundled pendulum's planner comes nearer than idling does."""
    env = worldmodel.load("pendulum").require_source().make()
    for name, angle in (("up", 0.0), ("down", 3.14)):
        shown, _ = env.reset(options={"state": (angle, 0.0)})
        Image.fromarray(shown[:, :, 0]).save(tmp_path / f"{name}.png")
    arguments = ["agent", "pendulum", "--out", str(tmp_path), "--episodes", "2", "--steps", "60"]
    arguments += ["--method", "mppi", "--planning.horizon", "30", "--planning.candidates", "512"]
    for name, returns in (("up", (-300, 0)), ("down", (-1200, -400))):
        main([*arguments, "--goal", str(tmp_path / f"{name}.png")])
        metrics = strict(tmp_path / "metrics.json")
        assert metrics["goal_distance_real"] < 0.4
        assert returns[0] < metrics["return_real"] < returns[1]


def test_bench_reports_speeds_and_ratios(made, capsys):
    main(["bench", str(made / "vector" / "run"), "--num-envs", "4", "--rounds", "1"])
    measured = json.loads(capsys.readouterr().out)
    speeds = measured["steps_per_second"]
    assert set(speeds) == {"dream", "bare", "real"} and min(speeds.values()) > 0
    for other in set(speeds) - {"dream"}:
        ratio = speeds["dream"] / speeds[other]
        assert measured[f"dream_over_{other}"] == pytest.approx(ratio)


PENDULUM = "worldmodel/Pendulum-v0"
REFUSED = {
    "unknown id": ("collect Pendulun-v1 --out <new>", "'Pendulun-v1'", "Pendulum-v1"),
    "unknown module": ("collect nowhere:A-v0 --out <new>", "'nowhere'"),
    "no JSON": (f"collect {PENDULUM} --out <new> --env-kwargs {{bad", "JSON object", "'{bad'"),
    "no JSON object": (f"collect {PENDULUM} --out <new> --env-kwargs [1]", "JSON object", "'[1]'"),
    "argument": (f'collect {PENDULUM} --out <new> --env-kwargs {{"a":1}}', PENDULUM, "{'a': 1}"),
    "value": (f'collect {PENDULUM} --out <new> --env-kwargs {{"size":0}}', "size", "got 0"),
    "no episodes": (f"collect {PENDULUM} --out <new> --episodes 0", "episodes", "at least 1", "0"),
    "a file for a folder": (
        f"collect {PENDULUM} --episodes 1 --out <corrupt>/data",
        "<corrupt>",
    ),
    "missing dataset": ("train <new> --run <new>", "no dataset at <new>"),
    "bracketed name": ("train [agents].npz --run <new>", "[agents].npz"),
    "closing brackets": ("train [/agents].npz --run <new>", "[/agents].npz"),
    "bracketed run": ("evaluate [/red]run", "[/red]run"),
    "corrupt dataset": ("train <corrupt> --run <new>", "<corrupt>", "corrupt"),
    "long window": ("train <vector> --run <new> --window 99", "window", "14", "99"),
    "another's run": ("train <vector> --run <run>", "<run>", "other settings"),
    "other system": ("evaluate <run> --dataset <vector>", PENDULUM, "Pendulum-v1", "--force"),
    "other shape": ("evaluate <run> --dataset <vector> --force", "(3,)", "(16, 16, 1)"),
    "nothing to evaluate": ("evaluate <new> --dataset <vector>", "no checkpoint", "<new>"),
    "evaluate nothing": ("evaluate <run> --dataset <new>", "no dataset at <new>"),
    "no data of its own": ("evaluate pendulum", "pendulum", "--dataset"),
    "no checkpoint": ("agent <new> --out <new>", "no checkpoint", "<new>"),
    "no such reality": ("agent <run> --out <new> --env-id Foo-v9", "'Foo-v9'"),
    "other reality": ("agent <run> --out <new> --env-id Pendulum-v1", "3 numbers", "16"),
    "no goal": ("agent pendulum --out <new> --method mppi --goal <new>", "<new>"),
    "goal of an algorithm": (
        "agent pendulum --out <new> --method A2C --goal <new>",
        "--goal",
        "not A2C",
    ),
    "no steps": ("agent <run> --out <new> --steps 0", "steps", "at least 1", "0"),
    "nothing to bench": ("bench <new>", "no checkpoint", "<new>"),
    "no rounds": ("bench <run> --rounds 0", "rounds", "at least 1", "0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_gets_one_clear_line(case, made, tmp_path, capsys):
    line, *told = REFUSED[case]
    paths = {
        "<new>": tmp_path / "new",
        "<corrupt>": made / "corrupt.npz",
        "<vector>": made / "vector" / "data",
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


def test_a_missing_argument_is_refused_by_name(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["train", "--run", "somewhere"])
    assert exit.value.code == 2
    assert "DATA" in capsys.readouterr().err


def default(capsys, flag: str, *line: str) -> str:
    """What the help of a command says a flag is unless it is given."""
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([*line, "--help"])
    words = capsys.readouterr().out.replace("│", " ").split()
    return words[words.index("(default:", words.index(flag)) + 1].rstrip(")")


def test_defaults_are_those_that_suit_the_file(made, tmp_path, capsys):
    """Of vectors, of a demo's own system, and before anything is named those of any pictures."""
    kind = "--model.recognition.kind"
    for name, recognition in (("pixels", "network"), ("vector", "fusion")):
        assert default(capsys, kind, "train", str(made / name / "data")) == recognition
    assert default(capsys, kind, "train") == "network"
    ball = str(tmp_path / "ball.npz")
    main(["collect", "worldmodel/BouncingBall-v0", "--out", ball, *SMALL_DATA, "--steps", "9"])
    size = PRESETS["ball"].models["dvbf"].latent_size
    for flag, value in (("--model.latent-size", size), ("--window", 9), ("--preset", "ball")):
        assert default(capsys, flag, "train", ball) == str(value)
    for name, horizon in (("pixels", "25"), ("vector", "40")):
        run = str(made / name / "run")
        assert default(capsys, "--pathwise.horizon", "agent", run) == horizon
    assert default(capsys, "--pathwise.horizon", "agent") == "25"


def test_the_file_is_found_wherever_it_stands(made, tmp_path, capsys):
    recorded, kind = str(made / "vector" / "data"), "--model.recognition.kind"
    for words in (
        ["--run", "here", "--no-tensorboard", recorded],
        ["--run=here", recorded],
        ["--tensorboard", recorded, "--run", "here"],
    ):
        assert default(capsys, kind, "train", *words) == "fusion"


@pytest.mark.parametrize("command", ["train", "learn", "agent", "empowerment"])
def test_no_switch_takes_the_file_for_its_value(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    switches = re.findall(r"(--[\w.-]+), (--[\w.]*no-[\w-]+)", capsys.readouterr().out)
    assert all(_is_switch(flag) for pair in switches for flag in pair)
    assert not any(map(_is_switch, ("--steps", "--train.updates", "--notes", "--run")))


def test_a_preset_that_is_named_is_taken(made, tmp_path, capsys):
    recorded = str(made / "pixels" / "data")
    ball = PRESETS["ball"]
    for words in (["--preset", "ball", recorded], [recorded, "--preset=ball"]):
        assert default(capsys, "--updates", "train", *words) == str(ball.train.updates)
        assert default(capsys, "--model.latent-size", "train", *words) == "4"
    assert default(capsys, "--updates", "train", recorded) == (
        str(PRESETS["pendulum"].train.updates)
    )


def test_a_run_remembers_its_settings(made, tmp_path):
    recorded = made / "vector" / "data"
    run = tmp_path / "run"
    words = ["--preset", "pictures", "--model", "dkf", "--batch-size", "3", "--updates", "2"]
    main(["train", str(recorded), "--run", str(run), *words])
    settings = strict(run / "settings.json")
    assert settings["preset"] == "pictures" and settings["model"]["name"] == "dkf"
    assert settings["model"]["latent_size"] == worldmodel.load(run).model.latent_size
    assert settings["train"]["batch_size"] == 3 and settings["train"]["updates"] == 2
    assert settings["train"]["constrained"]["tight"] == PRESETS["pictures"].train.constrained.tight
    assert settings["dataset"] == {
        "path": str(recorded.resolve()),
        "env_id": "Pendulum-v1",
        "fingerprint": data.load(recorded).provenance.fingerprint,
    }
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_the_agent_begins_with_what_the_run_began_with(made, tmp_path, capsys):
    recorded, run = str(made / "vector" / "data"), str(tmp_path / "run")
    main(["train", recorded, "--run", run, "--preset", "pictures", *TINY_MODEL, *SHORT])
    assert default(capsys, "--pathwise.horizon", "agent", run) == "25"
    assert default(capsys, "--pathwise.horizon", "agent", run, "--preset", "vectors") == "40"


def test_a_tilde_is_the_home_folder(made, tmp_path, monkeypatch):
    """Even where no shell expands it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    main(["collect", "Pendulum-v1", "--out=~/data", *SMALL_DATA])
    main(["train", "~/data", "--run=~/run", *TINY_MODEL, *SHORT, "--no-tensorboard"])
    main(["evaluate", "~/run"])
    assert {path.name for path in tmp_path.iterdir()} == {"data", "run"}
    assert (tmp_path / "run" / "metrics.json").is_file()


def path_arguments():
    """Of every command, by its name and the argument's."""
    for command, function in COMMANDS.items():
        for name, hint in get_type_hints(function, include_extras=True).items():
            if name != "return" and (hint is Run or Path in (hint, *get_args(hint))):
                yield pytest.param(hint, id=f"{command} {name}")


@pytest.mark.parametrize("hint", list(path_arguments()))
def test_a_tilde_is_the_home_folder_in_every_path(hint, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(tyro.cli(hint, args=["~/x"], registry=REGISTRY)) == "/somewhere/x"


def test_brackets_in_a_path_are_printed_as_they_are(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["collect", "Pendulum-v1", "--out", "[/red]/[bold].npz", *SMALL_DATA])
    assert "[/red]/[bold].npz: 180 training frames" in capsys.readouterr().out
    words = ["train", "[/red]/[bold].npz", "--run", "[/run]", *TINY_MODEL, *SHORT]
    main([*words, "--no-tensorboard"])
    main(["evaluate", "[/run]"])
    assert "[/run]/metrics.json and figures" in capsys.readouterr().out


def with_provenance(path: Path, out: Path, **changes) -> data.Dataset:
    """A dataset that says it was recorded elsewhere."""
    dataset = data.load(path)
    provenance = dataclasses.replace(dataset.provenance, **changes)
    changed = dataclasses.replace(dataset, provenance=provenance)
    data.save(changed, out)
    return changed


OTHER = {
    "id": ({"env_id": "other/Pendulum-v0"}, ("other/Pendulum-v0", PENDULUM)),
    "arguments": ({"env_kwargs": {"max_torque": 2.0}}, ("{'max_torque': 2.0}", "arguments {}")),
    "wrapping": ({"wrapping": {"frame_skip": 2}}, ("frame_skip=2", "frame_skip=1")),
}


@pytest.mark.parametrize("case", OTHER)
def test_data_of_another_system_are_refused(case, made, tmp_path, capsys):
    """Of the same shapes, and so nothing else would stop the numbers from being written."""
    changes, told = OTHER[case]
    run, other = made / "pixels" / "run", tmp_path / "other"
    with_provenance(made / "pixels" / "data", other, **changes)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for command in ("evaluate", "report", "play"):
        with pytest.raises(SystemExit) as exit:
            main([command, str(run), "--dataset", str(other)])
        assert exit.value.code == 1
        said = capsys.readouterr().err
        assert all(part in said for part in (*told, "--force"))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_the_same_system_may_be_spelt_otherwise(made):
    """By the module that registers it, and with a size that it would have had anyway."""
    dataset, pixels = data.load(made / "pixels" / "data"), data.Wrapping(pixels=True)
    world = worldmodel.load(made / "pixels" / "run")
    world.source = data.Source(PENDULUM, {}, pixels)
    wrapping = dataclasses.asdict(dataclasses.replace(pixels, resize=32))
    changes = {"env_id": f"envs:{PENDULUM}", "wrapping": wrapping}
    provenance = dataclasses.replace(dataset.provenance, **changes)
    require_same_system(world, dataclasses.replace(dataset, provenance=provenance))


def test_a_run_keeps_its_own_numbers(made, tmp_path):
    """Measured on other data, forced or of the same system, it has them in folders beside."""
    run, forced = made / "pixels" / "run", tmp_path / "forced"
    with_provenance(made / "pixels" / "data", forced, env_id="other/Pendulum-v0")
    again = tmp_path / "again"
    main(["collect", PENDULUM, "--out", str(again), *SMALL_DATA, "--seed", "1"])
    before = (run / "metrics.json").read_bytes()
    main(["evaluate", str(run), "--dataset", str(again)])
    assert (run / "metrics.json").read_bytes() == before
    (beside,) = run.glob("evaluate-again-*")
    assert strict(beside / "metrics.json") != strict(run / "metrics.json")
    main(["evaluate", str(run), "--dataset", str(forced), "--force", "--out", str(tmp_path / "o")])
    assert (tmp_path / "o" / "metrics.json").is_file()
    assert (run / "metrics.json").read_bytes() == before


def test_data_that_changed_since_training_are_remarked_on(made, tmp_path, capsys):
    recorded, run = str(tmp_path / "data"), tmp_path / "run"
    main(["collect", "Pendulum-v1", "--out", recorded, *SMALL_DATA])
    main(["train", recorded, "--run", str(run), *TINY_MODEL, *SHORT, "--no-tensorboard"])
    main(["collect", "Pendulum-v1", "--out", recorded, *SMALL_DATA, "--seed", "1"])
    capsys.readouterr()
    main(["evaluate", str(run)])
    assert "is not what it was" in capsys.readouterr().out
    assert not (run / "metrics.json").exists() and len(list(run.glob("evaluate-data-*"))) == 1


@pytest.mark.parametrize("steps", [1, 2])
def test_episodes_shorter_than_every_window_are_evaluated_or_said_to_be_too_short(
    tmp_path, steps, capsys
):
    recorded, run = str(tmp_path / "data"), str(tmp_path / "run")
    lengths = ["--steps", str(steps), "--test-steps", str(steps)]
    main(["collect", "Pendulum-v1", "--out", recorded, "--episodes", "12", *lengths])
    main(["train", recorded, "--run", run, *TINY_MODEL, "--updates", "3", "--no-tensorboard"])
    said = "no test episode has 2 steps: predictions cannot be judged"
    assert capsys.readouterr().out.count(said) == (2 if steps == 1 else 0)
    if steps == 1:
        with pytest.raises(SystemExit):
            main(["evaluate", run])
        assert "test episodes must have at least 2 steps" in capsys.readouterr().err
        return
    main(["evaluate", run])
    told = strict(tmp_path / "run" / "metrics.json")
    assert len(told["prediction_mse"]) == 1 and told["bound"]["lower_bound"] < 0


def test_the_version_is_told(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"worldmodel {worldmodel.__version__}\n"


def test_presets_are_listed_and_printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    main(["presets"])
    listed = capsys.readouterr().out
    for name, chosen in PRESETS.items():
        assert f" {name} " in listed and chosen.about in listed
    assert all(system.env_id in listed for system in DEMOS.values())
    main(["presets", "ball"])
    lines = capsys.readouterr().out.splitlines()
    assert "train.learning_rate = 0.004" in lines
    assert "models.dvbf.transition.gate = 'switching'" in lines
    assert "splits.train.episodes = 2000" in lines
    main(["presets", "vectors"])
    assert "models.dvbf = by the data" in capsys.readouterr().out


def test_an_interrupt_is_one_line(monkeypatch, capsys, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("worldmodel.data.collect", interrupted)
    with pytest.raises(SystemExit) as exit:
        main(["collect", "Pendulum-v1", "--out", str(tmp_path / "data")])
    assert exit.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143)])
def test_recording_that_is_told_to_stop_keeps_complete_episodes(
    tmp_path, capsys, monkeypatch, name, status
):
    steps, step = [], Pendulum.step

    def stopped(self, action):
        steps.append(1)
        if len(steps) == 300:
            signal.raise_signal(getattr(signal, name))
        return step(self, action)

    monkeypatch.setattr(Pendulum, "step", stopped)
    with pytest.raises(SystemExit) as exit:
        main(["collect", "Pendulum-v1", "--out", str(tmp_path / "data"), "--num-envs", "2"])
    assert exit.value.code == status and len(steps) == 300
    assert capsys.readouterr().err == {130: "interrupted\n", 143: "terminated\n"}[status]
    kept = data.load(tmp_path / "data")
    kept.verify()
    assert (
        list(kept.splits) == ["train"] and len(kept.train) == 2
    )  # of 100 steps, in both environments


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143)])
def test_training_that_is_told_to_stop_goes_on(made, tmp_path, capsys, name, status):
    recorded, run = str(made / "vector" / "data"), tmp_path / "run"
    words = ["train", recorded, "--run", str(run), *TINY_MODEL, *SHORT, "--no-tensorboard"]
    words += ["--updates", "100000"]
    with subprocess.Popen(
        [sys.executable, "-m", "worldmodel.cli", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not (run / "checkpoint" / "config.json").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(getattr(signal, name))
        told = process.communicate(timeout=60)[1]
    assert (process.returncode, told) == (
        status,
        {130: "interrupted\n", 143: "terminated\n"}[status],
    )
    reached = read_history(run)[-1]["update"]
    assert [path.name for path in run.rglob(".*")] == [".lock"]
    main([*words[:-1], str(int(reached) + 9)])
    assert "going on at update" in capsys.readouterr().out


def test_a_plain_install_trains_and_says_which_extra_an_asked_for_curve_needs(
    made, tmp_path, capsys, monkeypatch
):
    def find_spec(name):
        return None if name == "tensorboard" else importlib.util.find_spec(name)

    monkeypatch.setattr("worldmodel.training.config.find_spec", find_spec)
    recorded = str(made / "vector" / "data")
    assert TrainConfig().tensorboard is False
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["train", recorded, "--run", str(tmp_path), *TINY_MODEL, *SHORT, "--tensorboard"])
    assert "worldmodel[tensorboard]" in capsys.readouterr().err


def test_the_agent_acts_in_the_models_own_environment_unless_told(made, tmp_path, capsys):
    run = ["agent", str(made / "vector" / "run"), "--episodes", "2", *QUICK]
    main([*run, "--out", str(tmp_path / "own"), "--steps", "3"])
    assert strict(tmp_path / "own" / "metrics.json")["length_real"] == 3
    main([*run, "--out", str(tmp_path / "whole")])
    assert strict(tmp_path / "whole" / "metrics.json")["length_real"] == 200
    with pytest.raises(SystemExit):
        main([*run, "--out", str(tmp_path / "no"), "--env-kwargs", '{"g": "heavy", "h": 1}'])
    assert "'Pendulum-v1'" in capsys.readouterr().err
