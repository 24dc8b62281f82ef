"""Models of recordings, whose real system nobody can run: what they can do without it."""

import json
from pathlib import Path

import numpy as np
import pytest

from worldmodel import data
from worldmodel.cli import main

TINY = ["--model.recurrent", "4", "--model.head-hidden", "4", "--updates", "4", "--window", "8"]
TINY += ["--batch-size", "4", "--validate-every", "2", "--denoise", "0", "--no-tensorboard"]
QUICK = ["--pathwise.updates", "2", "--pathwise.batch-size", "4", "--pathwise.horizon", "3"]


def trained(root: Path, rewarded: bool) -> Path:
    rng = np.random.default_rng(0)
    episodes = []
    for _ in range(12):
        actions = rng.uniform(-1, 1, (40, 1)).astype(np.float32)
        place = np.cumsum(np.concatenate([rng.normal(size=(1, 1)), 0.1 * actions]), 0)
        observations = np.concatenate([place, np.sin(place)], 1).astype(np.float32)
        rewards = -np.abs(place[1:, 0])
        episodes.append({"observations": observations, "actions": actions})
        if rewarded:
            episodes[-1]["rewards"] = rewards
    data.from_episodes(episodes, out=root / "data")
    main(["train", str(root / "data"), "--run", str(root / "run"), *TINY])
    return root / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("recording"), True)


@pytest.fixture(scope="module")
def unpaid(tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("unpaid"), False)


@pytest.mark.parametrize("method", ["pathwise", "actor-critic", "cem", "icem", "mppi", "PPO"])
def test_who_has_nothing_to_aim_at_is_told_of_goals(unpaid, tmp_path, capsys, method):
    with pytest.raises(SystemExit) as exit:
        main(["agent", str(unpaid), "--out", str(tmp_path / "out"), "--method", method])
    assert exit.value.code == 1
    assert "--goal" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_goal_is_aim_enough(unpaid, tmp_path):
    np.save(tmp_path / "goal.npy", np.zeros(2, np.float32))
    words = ["agent", str(unpaid), "--out", str(tmp_path), "--goal", str(tmp_path / "goal.npy")]
    main([*words, "--episodes", "2", "--steps", "4", *QUICK])
    assert "goal_distance_dream" in json.loads((tmp_path / "metrics.json").read_text())


def test_an_agent_is_trained_and_judged_in_the_dream(run, tmp_path, capsys):
    main(["agent", str(run), "--out", str(tmp_path), "--episodes", "3", "--steps", "7", *QUICK])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["episodes"] == 3 and 0 < metrics["length_dream"] <= 7
    assert metrics["return_dream"] < 0 and not any("real" in name for name in metrics)
    assert (tmp_path / "policy.safetensors").is_file()
    assert "--env-id names a real environment" in " ".join(capsys.readouterr().out.split())


def test_bounds_of_its_errors_ask_for_a_recording(run, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["calibrate", str(run)])
    assert exit.value.code == 1
    assert "--dataset DATA" in " ".join(capsys.readouterr().err.split())


def test_its_recording_is_imagined_and_reported(run, tmp_path):
    pytest.importorskip("plotly", reason="needs worldmodel[report]")
    main(["imagine", str(run), "--out", str(tmp_path), "--dreams", "2"])
    assert (tmp_path / "imagine.png").is_file()
    main(["report", str(run), "--out", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench"], "--env-id"),
        (["empowerment"], "this needs one that 'worldmodel collect' recorded"),
        (["imagine", "--actions", "zero"], "recorded episodes have their own actions"),
    ],
)
def test_what_needs_the_real_system_says_what_to_pass(run, tmp_path, capsys, words, message):
    name, *flags = words
    out = [] if name == "bench" else ["--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main([name, str(run), *out, *flags])
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_an_environment_that_does_not_fit_is_refused_before_training(run, tmp_path, capsys):
    words = ["--env-id", "CartPole-v1", "--out", str(tmp_path / "out"), "--steps", "7", *QUICK]
    with pytest.raises(SystemExit):
        main(["agent", str(run), *words])
    assert "gives 4 numbers, the model expects 2" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_recording_that_is_gone_is_named(run, tmp_path, capsys):
    moved = run.parent / "elsewhere"
    (run.parent / "data").rename(moved)
    try:
        with pytest.raises(SystemExit):
            main(["imagine", str(run), "--out", str(tmp_path)])
        told = " ".join(capsys.readouterr().err.split())
        assert "is not there any more; name one like it by --dataset" in told
        main(["imagine", str(run), "--out", str(tmp_path), "--dataset", str(moved)])
    finally:
        moved.rename(run.parent / "data")
