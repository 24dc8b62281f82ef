"""From a run to what it asks for, to data that hold it, to a run that goes on with them."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import worldmodel
from worldmodel import data
from worldmodel.cli import main
from worldmodel.data.requests import Requests
from worldmodel.plots import report
from worldmodel.world.checkpoint import BUNDLED

# The module, whose place in the package its function took.
command = sys.modules["worldmodel.cli.evaluate"]
ENV = "worldmodel/Pendulum-v0"
FEW = ["--episodes", "4", "--held-out", "4", "--steps", "12", "--test-steps", "20"]


def said(words, capsys, status=0) -> str:
    if status:
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        assert caught.value.code == status
    else:
        main([str(word) for word in words])
    told = capsys.readouterr()
    return " ".join((told.err if status else told.out).split())


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The bundled pendulum as a run, with what it asks for."""
    run = tmp_path_factory.mktemp("asked") / "run"
    shutil.copytree(BUNDLED / "pendulum", run / "checkpoint")
    main(["collect", ENV, "--out", str(run / "data"), *FEW])
    asked(run, 0.01)
    return run


def asked(run, allowed):
    world, recorded = worldmodel.load(run), data.load(run / "data")
    probed = command.probe(world, recorded, 0)
    command.request(world, world.source, probed, recorded, 4 * 13, allowed, run)


def test_what_to_record_next_is_written_drawn_and_reported(evaluated):
    requests = Requests.read(evaluated / "requests.json")
    assert requests.resettable and 0 < requests.frames <= 4 * 13
    assert requests.source.env_id == ENV and requests.limit == 0.01
    with Image.open(evaluated / "requests.png") as picture:
        assert picture.width > 1000
    page = " ".join(report.wanted(evaluated))
    assert "collect worldmodel/Pendulum-v0 --out DATA --requests" in page
    assert page.count("<tr>") == 1 + len(requests.requests)
    assert report.wanted(evaluated / "none") == []


def test_collect_adds_what_is_asked_for(evaluated, tmp_path, capsys):
    shutil.copytree(evaluated / "data", tmp_path / "data")
    path = evaluated / "requests.json"
    told = said(["collect", ENV, "--out", tmp_path / "data", "--requests", path], capsys)
    requests, after = Requests.read(path), data.load(tmp_path / "data")
    assert f"{requests.frames} of them as asked for" in told
    assert after.frames("train") == 4 * 13 + requests.frames
    episodes = [episode for request in requests.requests for episode in request.episodes]
    for episode, wanted in zip(list(after.train)[4:], episodes, strict=True):
        found, asked = episode.states[0], np.array(wanted.options["state"])
        np.testing.assert_allclose(np.cos(found[0]), np.cos(asked[0]), atol=1e-5)
        np.testing.assert_allclose(found[1], asked[1], rtol=1e-5)


def test_what_is_asked_for_is_of_one_environment_and_said_once(evaluated, tmp_path, capsys):
    words = ["collect", ENV, "--out", tmp_path / "data", "--requests", evaluated / "requests.json"]
    assert "no dataset at" in said(words, capsys, 1)
    other = ["collect", "CartPole-v1", *words[2:]]
    assert "asks for episodes of worldmodel/Pendulum-v0, not of CartPole-v1" in said(
        other, capsys, 1
    )
    for flag in (["--episodes", "3"], ["--process", "held"], ["--grayscale"], ["--seed", "1"]):
        assert "--requests says what is recorded but for ENV and --out" in said(
            [*words, *flag], capsys, 1
        )
    assert not (tmp_path / "data").exists()


def test_nothing_is_asked_for_where_nothing_fails(evaluated, tmp_path, capsys):
    told = said(["evaluate", evaluated, "--ask", "-1"], capsys, 1)
    assert "ask must be finite and >= 0, got -1" in told
    for name in ("checkpoint", "data"):
        shutil.copytree(evaluated / name, tmp_path / name)
    (tmp_path / "requests.png").write_bytes(b"of before")
    asked(tmp_path, 1e9)
    assert "nothing is asked for" in " ".join(capsys.readouterr().out.split())
    assert Requests.read(tmp_path / "requests.json").requests == ()
    assert report.wanted(tmp_path) == [] and not (tmp_path / "requests.png").exists()


def test_training_goes_on_from_the_weights_of_a_run(evaluated, tmp_path, capsys):
    run, quick = tmp_path / "run", ["--updates", "1", "--learning-rate", "1e-12"]
    words = ["train", evaluated / "data", "--run", run, "--warm", evaluated]
    dreams = ["--denoise", "0", "--trust-updates", "0"]
    said([*words, *quick, *dreams, "--threads", "1"], capsys)
    before, after = (worldmodel.load(r).model.state_dict() for r in (evaluated, run))
    for name, weights in before.items():
        torch.testing.assert_close(after[name], weights, atol=1e-9, rtol=1e-6, msg=name)
    settings = json.loads((run / "settings.json").read_text())
    assert settings["train"]["constrained"]["tighten_to"] == settings["train"]["coarse"] == 0


def test_settings_of_another_model_cannot_be_gone_on_with(evaluated, tmp_path, capsys):
    words = ["train", evaluated / "data", "--run", tmp_path / "run", "--warm", evaluated]
    told = said([*words, "--model.latent-size", "7"], capsys, 1)
    assert "--warm" in told and "latent_size=7" in told
    words[-1] = tmp_path / "none"
    assert "none" in said(words, capsys, 1)
    assert not (tmp_path / "run").exists()
