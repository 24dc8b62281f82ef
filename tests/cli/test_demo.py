"""The demo from babbling to films, as small as it goes."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small import tiny_config

import worldmodel
from agents.pathwise import PathwiseConfig
from worldmodel.cli.demo import DemoConfig, demo
from worldmodel.cli.table import NAMES, PAPER, lookup
from worldmodel.errors import SpecError
from worldmodel.training.trainer import TrainConfig, Trainer

# Promised to whoever reads metrics.json.
PROMISED = """
r2.sin r2.cos r2.velocity loglik.sin loglik.cos loglik.velocity
bound.lower_bound bound.reconstruction bound.kl prediction_mse
prediction_mse_baseline.last_frame prediction_mse_baseline.mean_frame filter_error_by_frames
agent.return_dream agent.return_real agent.upright_share real_frames_used
seconds.collect seconds.train seconds.evaluate seconds.agent seed versions
""".split()


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> DemoConfig:
    return DemoConfig(
        out=tmp_path_factory.mktemp("demo"),
        seed=3,
        threads=1,
        model=tiny_config(),
        train=TrainConfig(updates=4, batch_size=4, validate_every=2, tensorboard=False),
        agent=PathwiseConfig(updates=2, batch_size=4, horizon=3, hidden=4),
        episodes=3,
    )


@pytest.fixture(scope="module")
def printed(config) -> str:
    """What the demo shows; ``config.out`` holds what it writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "120")
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            demo(config)
    return shown.getvalue()


@pytest.fixture
def metrics(config, printed) -> dict:
    def refuse(name: str) -> None:
        raise AssertionError(f"metrics.json holds {name}")

    return json.loads((config.out / "metrics.json").read_text(), parse_constant=refuse)


@pytest.mark.parametrize("name", PROMISED)
def test_metrics_have_every_promised_name(metrics, name):
    assert np.size(lookup(metrics, name)) > 0


def test_metrics_say_what_was_done(metrics):
    assert len(metrics["prediction_mse"]) == 100
    assert all(len(v) == 100 for v in metrics["prediction_mse_baseline"].values())
    assert metrics["real_frames_used"] == 7500
    assert metrics["seed"] == 3
    assert metrics["updates"] in (2, 4)
    assert metrics["agent"]["episodes"] == 3
    assert 0 <= metrics["agent"]["upright_share"] <= 1
    assert set(metrics["versions"]) >= {"python", "torch", "gymnasium", "worldmodel"}
    assert min(metrics["seconds"].values()) > 0


def test_the_checkpoint_is_the_model_that_was_measured(config, metrics):
    model = worldmodel.load(config.out)
    assert model.config == config.model and model.support.fitted
    kept = json.loads((config.out / "checkpoint" / "metrics.json").read_text())
    assert kept == metrics


def test_all_figures_are_drawn(config, printed):
    drawn = {path.stem for path in config.out.glob("*.png")}
    assert drawn == {
        "latent_space",
        "latent_walks",
        "strips",
        "prediction_error",
        "filter_convergence",
        "training_curves",
    }
    for path in config.out.glob("*.png"):
        with Image.open(path) as image:
            image.verify()


@pytest.mark.parametrize(("film", "frames"), [("dream", 75), ("agent", 101)])
def test_films_last_as_long_as_what_they_show(config, printed, film, frames):
    path = config.out / f"{film}.gif"
    assert path.stat().st_size < 1_000_000
    with Image.open(path) as image:
        shown = 0
        for index in range(image.n_frames):
            image.seek(index)
            shown += image.info["duration"]
    assert shown == 100 * frames


def test_the_closing_table_has_the_papers_numbers_beside_ours(printed, metrics):
    for name, text in NAMES.items():
        digits = 3 if name.startswith("r2") else 1
        (row,) = (line for line in printed.splitlines() if text in line)
        cells = [cell.strip() for cell in row.split("│")]
        assert f"{lookup(metrics, name):.{digits}f}" in cells
        assert f"{PAPER[name]:.{digits}f}" in cells


def test_a_second_call_trains_no_further(config, metrics, monkeypatch):
    def refuse(trainer: Trainer) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "step", refuse)
    before = worldmodel.load(config.out).state_dict()
    films = {path: path.stat().st_mtime_ns for path in config.out.glob("*.gif")}
    again = demo(replace(config, films=False))
    after = worldmodel.load(config.out).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    for name in ("r2", "bound", "prediction_mse", "agent"):
        assert again[name] == metrics[name]
    assert {path: path.stat().st_mtime_ns for path in films} == films


def test_a_run_of_other_settings_is_not_overwritten(config, metrics):
    kept = ("data.npz", "metrics.json", "checkpoint/model.safetensors")
    before = [(config.out / name).read_bytes() for name in kept]
    with pytest.raises(SpecError, match="other settings"):
        demo(replace(config, seed=4))
    assert [(config.out / name).read_bytes() for name in kept] == before
