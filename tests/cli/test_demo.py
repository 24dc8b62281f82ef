"""The demos from babbling to films, as small as they go."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small import tiny_config

import worldmodel
from agents.empowerment import EmpoweredConfig
from agents.pathwise import PathwiseConfig
from worldmodel.cli import main
from worldmodel.cli.demo import DemoConfig, demo, settings
from worldmodel.data import SplitConfig
from worldmodel.errors import ConfigError, SpecError
from worldmodel.plots import film, style
from worldmodel.plots.table import identification_rows, lookup
from worldmodel.systems import DEMOS, PRESETS
from worldmodel.training.config import TrainConfig
from worldmodel.training.trainer import Trainer
from worldmodel.world.denoiser import DenoiserConfig

VARIABLES = {
    "pendulum": ("sin", "cos", "velocity"),
    "ball": ("x", "y", "vx", "vy"),
    "two-balls": tuple(f"{name}_{i}" for i in (1, 2) for name in ("x", "y", "vx", "vy")),
    "empowerment": ("sin", "cos", "velocity"),
    "ball-empowerment": ("x", "y", "vx", "vy"),
}
TASK = {
    "pendulum": "upright_fraction",
    "ball": "at_target_fraction",
    "empowerment": "upright_fraction",
    "ball-empowerment": "in_middle_fraction",
}
# Promised to whoever reads metrics.json, whatever the system.
PROMISED = """
bound.lower_bound bound.reconstruction bound.kl prediction_mse
prediction_mse_baseline.last_frame prediction_mse_baseline.mean_frame filter_error_by_frames
real_frames_used seconds.collect seconds.train seconds.evaluate seed versions
""".split()
FIGURES = """
latent_space latent_walks strips prediction_error filter_convergence tracking training_curves
""".split()
SPLITS = {
    "train": SplitConfig(20, 14),
    "validation": SplitConfig(10, 14),
    "test": SplitConfig(12, 114),
}
TRAIN = TrainConfig(updates=4, batch_size=4, validate_every=2, tensorboard=False)
AGENT = PathwiseConfig(updates=2, batch_size=4, horizon=3, hidden=4)
EMPOWERED = EmpoweredConfig(
    steps=2,
    states=40,
    actions=3,
    samples=1,
    rounds=2,
    updates=2,
    hidden=4,
    denoiser=DenoiserConfig(updates=2, hidden=4),
)
AGENTS = {
    "pendulum": AGENT,
    "ball": AGENT,
    "empowerment": EMPOWERED,
    "ball-empowerment": replace(EMPOWERED, estimator="sampled"),
}
BALLS = ("ball", "ball-empowerment")
REWARDLESS = ("empowerment", "ball-empowerment")


@pytest.fixture(scope="module", autouse=True)
def small():
    encode = film._encode
    with pytest.MonkeyPatch.context() as patch:
        for system in {id(s): s for s in DEMOS.values()}.values():
            for name, chosen in system.presets.items():
                patch.setitem(system.presets, name, replace(chosen, splits=SPLITS))
        # Painting and compressing would take half of the time.
        patch.setattr(style, "DPI", 40)
        patch.setattr(film, "_encode", lambda frames, fps, colours: encode(frames, fps, 16))
        yield


@pytest.fixture(scope="module", params=list(DEMOS))
def config(request, tmp_path_factory) -> DemoConfig:
    name = request.param
    return settings(
        name,
        out=tmp_path_factory.mktemp(name),
        seed=3,
        threads=1,
        model=tiny_config(latent_size=settings(name).model.latent_size),
        train=TRAIN,
        agent=AGENTS.get(name),
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


def test_metrics_have_every_promised_name(config, metrics):
    assert all(np.size(lookup(metrics, name)) > 0 for name in PROMISED)
    for kind in ("r2", "loglik", "filter_r2_by_frames"):
        assert set(metrics[kind]) == set(VARIABLES[config.preset])


def test_metrics_say_what_was_done(config, metrics):
    assert len(metrics["prediction_mse"]) == 100
    assert all(len(v) == 100 for v in metrics["prediction_mse_baseline"].values())
    assert ("constant_velocity" in metrics["prediction_mse_baseline"]) == (config.preset in BALLS)
    assert metrics["real_frames_used"] == 300
    assert metrics["seed"] == 3
    assert metrics["updates"] in (2, 4)
    assert set(metrics["versions"]) >= {"python", "torch", "gymnasium", "worldmodel"}
    assert min(metrics["seconds"].values()) > 0


def test_an_agent_is_judged_where_there_is_something_to_control(config, metrics):
    if config.preset not in TASK:
        assert "agent" not in metrics and "agent" not in metrics["seconds"]
        assert not (config.out / "policy.safetensors").exists()
        return
    assert {"return_dream", "return_real", TASK[config.preset]} <= set(metrics["agent"])
    assert metrics["agent"]["episodes"] == 100
    assert 0 <= metrics["agent"][TASK[config.preset]] <= 1
    assert (config.out / "policy.safetensors").exists()


def test_empowerment_is_mapped_where_the_agent_lives_by_it(config, metrics):
    assert ("empowerment" in metrics) == (config.preset in REWARDLESS)
    if config.preset in REWARDLESS:
        assert metrics["empowerment"]["states"] == 400
        assert -1 <= metrics["empowerment"]["spearman"] <= 1


def test_the_checkpoint_is_the_model_that_was_measured(config, metrics):
    world = worldmodel.load(config.out)
    # Of components there are as many as pictures need.
    kept = replace(config.model.codec, components=world.model.config.codec.components)
    assert world.model.config == replace(config.model, codec=kept) and world.support.fitted
    kept = json.loads((config.out / "checkpoint" / "metrics.json").read_text())
    assert kept == metrics


def test_all_figures_are_drawn(config, printed):
    own = {"checkerboard": config.preset in BALLS, "empowerment": config.preset in REWARDLESS}
    expected = {*FIGURES, *(name for name, drawn in own.items() if drawn)}
    assert {path.stem for path in config.out.glob("*.png")} == expected
    for path in config.out.glob("*.png"):
        with Image.open(path) as image:
            image.verify()


def test_films_last_as_long_as_what_they_show(config, printed):
    films = {"dream": 75, **({"agent": 101} if config.preset in TASK else {})}
    assert {path.stem for path in config.out.glob("*.gif")} == set(films)
    for name, frames in films.items():
        path = config.out / f"{name}.gif"
        assert path.stat().st_size < 1_000_000
        with Image.open(path) as image:
            shown = 0
            for index in range(image.n_frames):
                image.seek(index)
                shown += image.info["duration"]
        assert shown == 100 * frames


def test_the_closing_table_has_the_papers_numbers_beside_ours_where_there_are_any(
    config, printed, metrics
):
    paper = PRESETS[config.preset].paper
    assert ("Karl et al." in printed) == bool(paper) == ("sin" in VARIABLES[config.preset])
    for name, (text, digits) in identification_rows(metrics).items():
        (row,) = (line for line in printed.splitlines() if f" {text} " in line)
        cells = [cell.strip() for cell in row.split("│")]
        assert format(lookup(metrics, name), digits) in cells
        if paper:
            assert format(paper[name], digits) in cells
    assert ("agent.gif" in printed) == (config.preset in TASK)
    assert ("constant velocity" in printed) == (config.preset in BALLS)


def test_a_second_call_trains_no_further(config, metrics, monkeypatch):
    def refuse(trainer: Trainer) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "step", refuse)
    before = worldmodel.load(config.out).model.state_dict()
    films = {path: path.stat().st_mtime_ns for path in config.out.glob("*.gif")}
    again = demo(replace(config, films=False))
    after = worldmodel.load(config.out).model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    for name in ("r2", "bound", "prediction_mse", *(["agent"] if config.preset in TASK else [])):
        assert again[name] == metrics[name]
    assert {path: path.stat().st_mtime_ns for path in films} == films


def test_a_run_of_other_settings_is_not_overwritten(config, metrics):
    kept = ("data/dataset.json", "metrics.json", "checkpoint/model.safetensors")
    before = [(config.out / name).read_bytes() for name in kept]
    with pytest.raises(SpecError, match="other settings"):
        demo(replace(config, seed=4))
    assert [(config.out / name).read_bytes() for name in kept] == before


class Stopped(Exception):
    """Carries the configuration of a demo that was about to begin."""


def asked_for(monkeypatch, *words: str) -> DemoConfig:
    """The configuration that the command line makes of ``worldmodel demo`` and these words."""

    def stop(config: DemoConfig) -> None:
        raise Stopped(config)

    monkeypatch.setattr(sys.modules["worldmodel.cli.demo"], "babble", stop)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    with pytest.raises(Stopped) as stopped:
        main(["demo", *words])
    return stopped.value.args[0]


@pytest.mark.parametrize("system", [None, *DEMOS])
def test_the_command_line_starts_the_demo_that_is_named(system, monkeypatch):
    """Plain flags follow the name, or stand alone for the pendulum."""
    words = [] if system is None else [system]
    flags = ["--out", "here", "--seed", "7", "--threads", "1", "--train.updates", "9", "--no-films"]
    plain = asked_for(monkeypatch, *words)
    changed = asked_for(monkeypatch, *words, *flags)
    system = system or "pendulum"
    assert plain == settings(system)
    assert str(plain.out) == f"runs/{system}"
    assert (str(changed.out), changed.seed, changed.threads) == ("here", 7, 1)
    assert changed.train == replace(plain.train, updates=9) and not changed.films
    assert changed.model == plain.model and changed.agent == plain.agent


def test_the_agent_has_flags_where_there_is_one(monkeypatch, capsys):
    assert asked_for(monkeypatch, "ball", "--agent.updates", "9").agent.updates == 9
    with pytest.raises(SystemExit):
        main(["demo", "two-balls", "--agent.updates", "9"])
    assert "--agent.updates" in capsys.readouterr().err


def test_an_unknown_system_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="pendulum, empowerment, two-balls, got 'cart'"):
        settings("cart")
    with pytest.raises(ConfigError, match="'cart'"):
        DemoConfig("cart", tmp_path, tiny_config(), TRAIN, None)
    with pytest.raises(SystemExit):
        main(["demo", "cart"])
