import threading

import gymnasium as gym
import numpy as np
import pygame
import pytest
import torch

import envs  # noqa: F401 (registers the real systems)
import worldmodel
from agents.pathwise import PathwiseConfig, train_policy
from agents.sb3 import train_sb3
from worldmodel import data
from worldmodel.cli import main
from worldmodel.cli.play import agent_of, states_of
from worldmodel.data import Source, Wrapping
from worldmodel.play.app import App
from worldmodel.world.checkpoint import BUNDLED


@pytest.fixture(autouse=True)
def headless(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.fixture
def played(monkeypatch):
    """The apps that ran; each is quit by an event after 25 frames."""
    apps = []
    frame = App.frame

    def count(app: App) -> None:
        apps.append(app)
        if len(apps) == 25:
            pygame.event.post(pygame.event.Event(pygame.QUIT))
        frame(app)

    monkeypatch.setattr(App, "frame", count)
    return apps


@pytest.mark.parametrize("name", ["pendulum", "ball"])
@pytest.mark.parametrize("mode", ["dream", "compare", "filter"])
def test_bundled_models_are_played_in_every_mode(played, tmp_path, name, mode):
    main(["play", name, "--mode", mode, "--out", str(tmp_path / "new")])
    app = played[0]
    assert len(played) == 25 and app.session.mode == mode
    assert app.interval == 0.1
    assert 2 <= app.steps < 25, "25 frames are four tenths of a second, or more on a busy machine"
    assert (app.session.real_frame is None) == (mode == "dream")
    assert len(app.session.known) == 1280 and app.session.known.truths is not None
    assert not pygame.display.get_init() and not (tmp_path / "new").exists()


def test_nothing_goes_on_when_the_window_is_closed(played, tmp_path):
    before = threading.active_count()
    main(["play", "pendulum", "--out", str(tmp_path)])
    assert threading.active_count() == before


def test_a_model_of_unknown_origin_is_dreamt_alone(played, tmp_path):
    world = worldmodel.load("pendulum")
    world.source = None
    world.save(tmp_path / "run")
    main(["play", str(tmp_path / "run"), "--interval", "0.05"])
    session = played[0].session
    assert session.mode == "dream" and session.real is None and played[0].interval == 0.05
    np.testing.assert_array_equal(session.known.latents, world.support.states.numpy())
    assert "no environment is known" in played[0].message


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--interval", "0"], "interval"),
        (["--fps", "0"], "fps"),
        (["--policy", "nowhere"], "nowhere"),
        (["--env-id", "CartPole-v1"], "the environment gives"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_window_opens(arguments, cause, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["play", "pendulum", *arguments])
    assert exit.value.code == 1
    error = capsys.readouterr().err
    assert "error:" in error and cause in error
    assert not pygame.display.get_init()


def test_a_missing_viewer_names_its_extra(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["play", "pendulum"])
    assert "worldmodel[viewer]" in capsys.readouterr().err


def test_the_interval_is_the_environments_times_the_frames_skipped():
    cartpole = gym.make("CartPole-v1")
    plain, skipping = (Source("CartPole-v1", {}, Wrapping(frame_skip=k)) for k in (1, 2))
    assert plain.frames_per_second(cartpole) == pytest.approx(50)
    assert skipping.frames_per_second(cartpole) == pytest.approx(25)
    cartpole.metadata = {}
    assert plain.frames_per_second(cartpole) == 10


def test_a_dataset_gives_its_test_frames(tmp_path):
    splits = {"train": data.SplitConfig(2, 8), "test": data.SplitConfig(5, 12)}
    recorded = data.collect("worldmodel/Pendulum-v0", splits=splits, num_envs=5)
    data.save(recorded, tmp_path / "data")
    world = worldmodel.load("pendulum")
    known = states_of(world, world.source, tmp_path / "data", False, 0)
    assert len(known) == 5 * (13 - 5)
    np.testing.assert_array_equal(known.frames["observation"][0], recorded.test.observations[0, 5])
    assert list(known.variables) == ["angle", "velocity", "reward"]
    turns = (known.variables["angle"] - known.truths[:, 0]) / (2 * np.pi)
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-5)


@pytest.mark.parametrize("name", sorted(p.name for p in BUNDLED.iterdir()))
def test_bundled_models_come_with_an_agent(name):
    world = worldmodel.load(name)
    action = agent_of(name, world, None)(world.support.states[0].numpy())
    assert world.model.action_spec.space().contains(action)


def test_the_runs_own_agent_is_found(tmp_path):
    world = worldmodel.load("pendulum")
    assert agent_of(str(tmp_path), world, None) is None
    quick = PathwiseConfig(updates=1, batch_size=4, horizon=2)
    policy, _ = train_policy(world, quick, progress=False)
    policy.save(tmp_path / "policy.safetensors")
    state = world.support.states[0].numpy()
    for run, given in ((tmp_path, None), ("pendulum", tmp_path)):
        act = agent_of(str(run), world, given)
        np.testing.assert_array_equal(act(state), policy.predict(state)[0])


def test_an_agent_of_stable_baselines_acts(tmp_path):
    world = worldmodel.load("pendulum")
    agent = train_sb3(world, "A2C", timesteps=20, num_envs=2, progress=False)
    agent.save(tmp_path / "a2c.zip")
    state = world.support.states[0].numpy()
    act = agent_of("pendulum", world, tmp_path / "a2c.zip")
    np.testing.assert_allclose(act(state), agent.predict(state, deterministic=True)[0])


def test_the_window_needs_no_gradients(played, tmp_path):
    main(["play", "pendulum", "--out", str(tmp_path)])
    assert not any(p.requires_grad for p in played[0].session.model.parameters())
    assert torch.get_num_threads() == 1
