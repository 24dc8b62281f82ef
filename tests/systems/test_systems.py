"""What is known of the real systems: baselines, tasks, presets."""

import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from small import BOX, PIXELS, VECTOR, as_dataset, batches, random_dataset

import envs  # noqa: F401 - registers the environments
import worldmodel  # noqa: F401 - registers the dreams
from worldmodel.data import (
    Source,
    SplitConfig,
    Uniform,
    Wrapping,
    Zero,
    collect,
    default_splits,
)
from worldmodel.errors import ConfigError
from worldmodel.models.registry import MODELS, fitting
from worldmodel.spaces import ObservationSpace
from worldmodel.systems import (
    DEMOS,
    PRESETS,
    SYSTEMS,
    Preset,
    System,
    gathered,
    preset,
    preset_for,
    preset_without_reward,
    system_of,
)
from worldmodel.systems.ball import constant_velocity
from worldmodel.systems.preset import GENERIC
from worldmodel.types import Batch

BALL = "worldmodel/BouncingBall-v0"


def rolling(start, process=None, steps=12, **kwargs) -> tuple[Batch, Batch, torch.Tensor]:
    """One ball's episode from a start: three frames that are seen, all, and what is predicted."""
    dataset = collect(
        BALL,
        {"radius": 0.5, **kwargs},
        process or Zero(),
        {"test": SplitConfig(2, steps)},
        options={"state": start},
        num_envs=2,
    )
    past = dataset.test.window(0, 2)
    return past, dataset.test.padded(), constant_velocity(dataset.provenance)(past, steps - 2)


@pytest.mark.parametrize("kwargs", [{}, {"size": 20, "radius": 0.25}, {"observation": "state"}])
def test_constant_velocity_is_exact_where_nothing_happens(kwargs):
    _, episode, predicted = rolling((-0.5, -0.4, 0.8, 0.7), **kwargs)
    assert predicted.shape == episode.observations[:, 3:].shape
    truth = episode.observations[:, 3:].double()
    np.testing.assert_allclose(predicted.double(), truth, atol=1 if truth.max() > 9 else 1e-5)


def test_constant_velocity_stops_at_the_walls():
    _, episode, predicted = rolling((0.75, 0.0, 1.0, 0.0), steps=10, observation="state")
    assert predicted[..., 0].max() == 1 and (predicted[:, 4:, 0] == 1).all()
    assert (episode.states[:, -1, 0] < 0.75).all(), "the real ball comes back"


def test_constant_velocity_ignores_pushes():
    past, episode, predicted = rolling((0.0, 0.0, 0.3, -0.3), Uniform(), observation="state")
    gone = 0.1 * np.arange(1, 11)[:, None] * past.states[:, -1, None, 2:].numpy()
    expected = past.states[:, -1, None, :2].numpy() + gone
    np.testing.assert_allclose(predicted[..., :2], np.clip(expected, -1, 1), atol=1e-6)
    assert (episode.states[:, -1] - predicted[:, -1]).abs().max() > 0.05


def test_little_is_known_of_other_environments():
    unknown = system_of("Unknown-v1")
    assert isinstance(unknown, System)
    assert unknown.task_start(3, 0) is None and unknown.targets(np.zeros((2, 3))).keys() == {
        "state_0",
        "state_1",
        "state_2",
    }
    assert system_of(f"envs:{BALL}") is system_of(BALL) is DEMOS["ball"]


@pytest.mark.parametrize("env_id", [env_id for env_id, s in SYSTEMS.items() if s.presets])
def test_a_system_is_recorded_and_dreamt_for_as_long_as_is_asked(env_id):
    limit = gym.spec(env_id).max_episode_steps
    assert limit >= default_splits()["test"].steps
    dream = env_id.replace("/", "/Latent")
    assert dream not in gym.registry or gym.spec(dream).max_episode_steps == limit


# Those of a benchmark are registered by it.
GYMNASIUMS = [i for i in SYSTEMS if not any(part in i for part in ("/", "Lunar", "PC3"))]


@pytest.mark.parametrize("env_id", GYMNASIUMS)
def test_gymnasiums_own_numbers_have_names(env_id):
    env = gym.make(env_id)
    targets = system_of(env_id).targets(env.observation_space.sample()[None])
    assert len(targets) == env.observation_space.shape[0] and "state_0" not in targets
    # Where the truth is another, its components have numbers.
    assert list(system_of(env_id).targets(np.zeros((1, 1)))) == ["state_0"]


@pytest.mark.parametrize("name", DEMOS)
def test_a_systems_preset_fits_its_environment(name):
    chosen, system = PRESETS[name], DEMOS[name]
    env = gym.make(system.env_id, **chosen.env_kwargs)
    env.reset(seed=0, options=chosen.film_start)
    side = env.observation_space.shape[0]
    assert f"{side} x {side} pixels" in chosen.about
    assert env.spec.max_episode_steps >= max(size.steps for size in chosen.splits.values())
    latent = {"Pendulum": 4, "BouncingBall": 4, "TwoBouncingBalls": 10}
    known = latent[system.env_id[len("worldmodel/") : -len("-v0")]]
    assert chosen.models["dvbf"].latent_size == known
    env.close()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_every_model_that_its_data_take(name, model):
    if name in DEMOS:
        observations, actions = DEMOS[name].spaces(PRESETS[name].env_kwargs)
    else:
        observations, actions = (PIXELS if name == "pictures" else VECTOR), BOX
    config = PRESETS[name].model(model, observations)
    assert type(config) is MODELS[model].config_type
    if model in fitting(observations):
        built = MODELS[model](config, observations, actions, 0)
        assert built.latent_size == config.latent_size


@pytest.mark.parametrize("name", PRESETS)
def test_a_model_without_an_entry_has_its_own_defaults(name, monkeypatch):
    monkeypatch.setitem(MODELS, "mine", MODELS["dkf"])
    for observations in (PIXELS, VECTOR):
        assert preset(name).model("mine", observations) == MODELS["dkf"].config_type()


def test_vectors_get_a_state_of_their_size_and_a_sharper_model():
    config = preset("vectors").model("dvbf", VECTOR)
    assert config.latent_size == 3 and config.recognition.kind == "fusion"
    tight = preset("vectors").train.constrained.tight
    assert tight < preset("pictures").train.constrained.tight


@pytest.mark.parametrize("model", MODELS)
def test_a_long_vector_gets_a_state_that_can_be_trained(model):
    long = ObservationSpace.from_space(gym.spaces.Box(-np.inf, np.inf, (376,)))
    config = preset("vectors").model(model, long)
    assert config.latent_size <= 64
    weights = MODELS[model](config, long, BOX, 0).parameters()
    assert sum(weight.numel() for weight in weights) < 1e6


def test_the_window_fits_the_longest_recorded_episode():
    whole = batches(random_dataset(VECTOR, BOX, steps=20))
    assert preset("vectors").training(as_dataset(VECTOR, BOX, **whole)).window == 14
    whole["train"].mask[:] = torch.arange(20) < 9
    assert preset("vectors").training(as_dataset(VECTOR, BOX, **whole)).window == 9


def test_the_preset_is_the_systems_own_for_its_pictures_as_they_come():
    pendulum = Source("worldmodel/Pendulum-v0")
    assert preset_for(PIXELS, pendulum) == "pendulum"
    assert preset_for(PIXELS, Source(f"envs:{BALL}")) == "ball"
    assert preset_for(VECTOR, pendulum) == "vectors"
    assert preset_for(PIXELS, Source("worldmodel/Pendulum-v0", {}, Wrapping(frame_skip=2))) == (
        "pictures"
    )
    assert preset_for(PIXELS, Source("CartPole-v1")) == preset_for(PIXELS) == "pictures"


def test_an_agent_without_reward_is_known_where_a_preset_trains_one():
    assert preset_without_reward(DEMOS["pendulum"]) is PRESETS["empowerment"]
    assert preset_without_reward(DEMOS["ball"]) is PRESETS["ball-empowerment"]
    assert preset_without_reward(DEMOS["two-balls"]) is None


def test_names_of_presets_are_unique():
    assert PRESETS.keys() == GENERIC.keys() | DEMOS.keys()
    assert len(PRESETS) == len(GENERIC) + sum(len(s.presets) for s in SYSTEMS.values())
    twin = System(env_id="Twin-v0", presets={"ball": Preset("a twin")})
    with pytest.raises(ConfigError, match="Twin-v0 brings another 'ball'"):
        gathered([*SYSTEMS.values(), twin])
    with pytest.raises(ConfigError, match="another 'vectors'"):
        gathered([System(presets={"vectors": Preset("a twin")})])


def test_an_unknown_preset_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"pictures, vectors, .*two-balls, got 'cart'"):
        preset("cart")


CART = """
from dataclasses import replace

from worldmodel.systems.preset import GENERIC
from worldmodel.systems.system import System

SYSTEM = System(
    env_id="CartPole-v1",
    targets=lambda states: {"position": states[..., 0]},
    plane=("position", "velocity"),
    presets={"cart": replace(GENERIC["vectors"], about="A cart that balances a pole")},
)
"""
ASK = """
from worldmodel.cli import main
from worldmodel.cli.demo import settings
from worldmodel.systems import preset, preset_for, system_of

assert list(system_of("CartPole-v1").targets(__import__("numpy").ones((2, 4)))) == ["position"]
config = settings("cart")
print(config.model.recognition.kind, config.agent.horizon)
main(["presets"])
"""


def test_a_new_system_is_one_file(tmp_path):
    """It is dropped into a copy of the package, and nothing else is told of it."""
    root = Path(__file__).parents[2]
    for package in ("worldmodel", "agents", "envs"):
        ignored = shutil.ignore_patterns("checkpoints", "__pycache__")
        shutil.copytree(root / package, tmp_path / package, ignore=ignored)
    (tmp_path / "worldmodel" / "systems" / "cart.py").write_text(CART)
    paths = {"PYTHONPATH": str(tmp_path), "COLUMNS": "200", "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=paths, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "fusion 100" in done.stdout, "vectors and discrete actions"
    assert " cart " in done.stdout and "A cart that balances a pole" in done.stdout
