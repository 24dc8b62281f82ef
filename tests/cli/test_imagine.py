from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

import worldmodel
from agents.pathwise import PathwiseConfig, train_policy
from worldmodel.cli import main

QUICK = PathwiseConfig(updates=1, batch_size=2, horizon=2)
SHORT = ["--episodes", "2", "--steps", "20", "--dreams", "2"]


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "new" / "out"


def frames(path) -> int:
    with Image.open(path) as film:
        return film.n_frames


def test_a_film_and_a_picture_of_a_bundled_model(out, capsys):
    main(["imagine", "pendulum", "--out", str(out), *SHORT, "--mp4"])
    assert {p.name for p in out.iterdir()} == {"imagine.gif", "imagine.png", "imagine.mp4"}
    assert frames(out / "imagine.gif") == 21
    count, seconds = imageio_ffmpeg.count_frames_and_secs(str(out / "imagine.mp4"))
    assert count == 21 and seconds == pytest.approx(2.1, abs=0.05), "ten frames a second"
    assert "imagine.mp4" in capsys.readouterr().out


def test_a_file_of_actions_says_what_happens(out, tmp_path):
    """Zeros from a file are no control, other actions are something else."""
    pictures = {}
    np.save(tmp_path / "zeros.npy", np.zeros((20, 1)))
    np.save(tmp_path / "others.npy", np.full((30, 1), 4.0))
    files = {"file": "zeros.npy", "others": "others.npy"}
    for name, actions in {"zero": "zero", **files}.items():
        actions = str(tmp_path / actions) if name in files else actions
        main(["imagine", "pendulum", "--out", str(out / name), "--actions", actions, *SHORT])
        pictures[name] = (out / name / "imagine.png").read_bytes()
    assert pictures["zero"] == pictures["file"] != pictures["others"]


def test_a_file_of_actions_says_how_long(out, tmp_path):
    np.save(tmp_path / "few.npy", np.zeros((17, 2), np.float32))
    main(["imagine", "ball", "--out", str(out), "--actions", str(tmp_path / "few.npy")])
    assert frames(out / "imagine.gif") == 18


def test_seeds_differ_and_repeat(out):
    films = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        main(["imagine", "pendulum", "--out", str(out / name), *SHORT, "--seed", str(seed)])
        films.append((out / name / "imagine.gif").read_bytes())
    assert films[0] == films[1] != films[2]


def test_the_runs_own_agent_can_act(out, tmp_path):
    """It starts at its task: hanging, where a random pendulum would begin anywhere."""
    world = worldmodel.load("pendulum")
    world.save(tmp_path / "run" / "checkpoint")
    policy, _ = train_policy(world, QUICK, progress=False)
    policy.save(tmp_path / "run" / "policy.safetensors")
    main(["imagine", str(tmp_path / "run"), "--out", str(out), "--actions", "agent", *SHORT])
    named = ["--actions", "agent", "--policy", str(tmp_path / "run")]
    main(["imagine", "pendulum", "--out", str(out / "named"), *named, *SHORT])
    one, other = (path / "imagine.png" for path in (out, out / "named"))
    assert one.read_bytes() == other.read_bytes()


def test_a_model_of_vectors_has_curves(out, tmp_path):
    recorded, run = str(tmp_path / "data"), str(tmp_path / "run")
    main(["collect", "Pendulum-v1", "--out", recorded, "--episodes", "4"])
    tiny = ["--updates", "1", "--batch-size", "2", "--no-tensorboard", "--model.codec.hidden", "8"]
    main(["train", recorded, "--run", run, *tiny])
    main(["imagine", run, "--out", str(out), *SHORT])
    assert [p.name for p in out.iterdir()] == ["imagine.png"]


def saved(folder, name, array) -> str:
    np.save(folder / name, array)
    return str(folder / name)


REFUSED = {
    "no agent": (
        lambda f: ["--actions", "agent", "--policy", str(f)],
        "no trained policy",
        "worldmodel agent",
    ),
    "no such file": (lambda f: ["--actions", "randm"], "'randm'", ".npy"),
    "shape": (
        lambda f: ["--actions", saved(f, "a.npy", np.zeros((9, 3)))],
        "(T, 1)",
        "(9, 3)",
    ),
    "range": (
        lambda f: ["--actions", saved(f, "a.npy", np.full((30, 1), 6.0))],
        "5.0",
        "6.0",
    ),
    "not finite": (lambda f: ["--actions", saved(f, "a.npy", np.full((30, 1), np.nan))], "nan"),
    "no array": (lambda f: ["--actions", str(Path(__file__))], "not a .npy file"),
    "too short": (
        lambda f: ["--actions", saved(f, "a.npy", np.zeros((9, 1)))],
        "10 frames",
        "15",
    ),
    "no dreams": (lambda f: ["--dreams", "1"], "dreams", "at least 2"),
    "no frames": (lambda f: ["--looked", "0"], "looked", "at least 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_gets_one_clear_line_and_no_file(case, out, tmp_path, capsys):
    arguments, *told = REFUSED[case]
    with pytest.raises(SystemExit) as exit:
        main(["imagine", "pendulum", "--out", str(out), *arguments(tmp_path)])
    assert exit.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and all(part in said for part in told)
    assert not out.exists()


def test_another_models_agent_is_refused(out, tmp_path, capsys):
    policy, _ = train_policy(worldmodel.load("ball"), QUICK, progress=False)
    policy.save(tmp_path / "policy.safetensors")
    arguments = ["--actions", "agent", "--policy", str(tmp_path)]
    with pytest.raises(SystemExit):
        main(["imagine", "pendulum", "--out", str(out), *arguments])
    said = capsys.readouterr().err
    assert "2 numbers on 4 latent" in said and "1 and 4" in said


def test_without_the_encoder_the_extra_is_named(out, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["imagine", "pendulum", "--out", str(out), "--mp4"])
    assert "worldmodel[mp4]" in capsys.readouterr().err
    assert not out.exists()
    assert torch.get_num_threads() == 1
