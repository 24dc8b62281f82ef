"""What is known of the real systems: baselines, tasks, recipes."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from worldmodel.cli.systems import RECIPES, SYSTEMS, System, constant_velocity, system_of

import envs  # noqa: F401 - registers the environments
import worldmodel  # noqa: F401 - registers the dreams
from worldmodel.data import SplitConfig, Uniform, Zero, collect, default_splits
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
    return past, dataset.test, constant_velocity(dataset.provenance)(past, steps - 2)


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
    unknown = system_of("Pendulum-v1")
    assert isinstance(unknown, System)
    assert unknown.task_start(3, 0) is None and unknown.targets(np.zeros((2, 3))).keys() == {
        "state_0",
        "state_1",
        "state_2",
    }
    assert system_of(f"envs:{BALL}") is system_of(BALL) is RECIPES["ball"].system


@pytest.mark.parametrize("env_id", SYSTEMS)
def test_a_system_is_recorded_and_dreamt_for_as_long_as_is_asked(env_id):
    limit = gym.spec(env_id).max_episode_steps
    assert limit >= default_splits()["test"].steps
    dream = env_id.replace("/", "/Latent")
    assert dream not in gym.registry or gym.spec(dream).max_episode_steps == limit


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_its_environment(name):
    recipe = RECIPES[name]
    env = gym.make(recipe.env_id, **recipe.env_kwargs)
    env.reset(seed=0, options=recipe.film_start)
    side = env.observation_space.shape[0]
    assert f"{side} x {side} pixels" in recipe.title
    assert env.spec.max_episode_steps >= max(size.steps for size in recipe.splits.values())
    latent = {"Pendulum": 3, "BouncingBall": 4, "TwoBouncingBalls": 10}
    assert recipe.model.latent_size == latent[recipe.env_id[len("worldmodel/") : -len("-v0")]]
    env.close()
