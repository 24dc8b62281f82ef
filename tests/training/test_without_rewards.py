"""Recordings that know no reward and no environment, the whole way."""

import numpy as np
import pytest
import torch
from small import tiny_model

from agents.actor_critic import ActorCriticConfig, train_actor_critic
from agents.goals import reach
from agents.pathwise import PathwiseConfig, train_policy
from agents.planning import Planner
from agents.scoring import Terms
from worldmodel import load
from worldmodel.data import findings, from_episodes
from worldmodel.errors import SpecError
from worldmodel.evaluation.evaluate import evaluate
from worldmodel.play.data_states import DataStates
from worldmodel.plots.imagination import imagine
from worldmodel.training.config import TrainConfig
from worldmodel.training.settings import read_settings
from worldmodel.training.trainer import Trainer


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rng = np.random.default_rng(0)
    episodes = []
    for length in rng.integers(8, 25, 40):
        actions = rng.uniform(-1, 1, (length, 1)).astype(np.float32)
        place = np.concatenate([np.zeros((1, 1)), np.cumsum(actions, 0)])
        seen = np.concatenate([place, place**2, rng.normal(size=place.shape)], 1)
        episodes.append({"observations": seen.astype(np.float32), "actions": actions})
    return from_episodes(episodes, out=tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = tiny_model(dataset.observation_spec, dataset.action_spec)
    config = TrainConfig(updates=8, batch_size=6, window=10, validate_every=4, tensorboard=False)
    trainer = Trainer(model, dataset, config, folder)
    trainer.fit(progress=False)
    assert all("validation/reward" not in logs for logs in trainer.history)
    return load(folder), folder


def test_dreams_pay_nothing(trained):
    world, _ = trained
    assert not world.model.knows_reward and world.model.reward_range == (0.0, 0.0)
    env = world.env()
    env.reset(seed=0)
    for _ in range(5):
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert reward == 0.0 and not terminated
        if truncated:
            break


def test_agents_say_what_is_missing(trained):
    world, _ = trained
    with pytest.raises(SpecError, match=r"without rewards.*--goal"):
        train_policy(world, PathwiseConfig(updates=1))
    with pytest.raises(SpecError, match="without rewards"):
        train_actor_critic(world, ActorCriticConfig(updates=1))
    with pytest.raises(SpecError, match="without rewards"):
        Planner(world, "cem")
    from agents.sb3 import train_sb3

    with pytest.raises(SpecError, match="without rewards"):
        train_sb3(world, timesteps=1)


def test_who_has_another_aim_needs_none(trained):
    world, _ = trained
    goal = reach(world, np.zeros(3, np.float32))
    train_policy(world, PathwiseConfig(updates=1, batch_size=2, horizon=2), goal=goal)
    short = ActorCriticConfig(updates=1, batch_size=2, horizon=2)
    train_actor_critic(world, short, goal=goal)
    Planner(world, "cem", goal=goal)
    Planner(world, "cem", terms=Terms(value=lambda states: states[:, 0]))


def test_all_else_works(trained, dataset):
    world, folder = trained
    assert world.source is None and read_settings(folder)["dataset"]["env_id"] == ""
    found = evaluate(world, dataset, train_steps=10)
    assert np.isfinite(found.metrics["prediction_mse"]).all()
    assert not any("reward" in told for told in findings(dataset))
    assert "reward" not in DataStates.recorded(world.model, dataset.test.sample()).variables
    assert len(imagine(world, dataset.test, looked=4).recorded) == len(dataset.test)


def test_the_bound_of_rewards_is_zero_and_pulls_nothing(trained, dataset):
    world, _ = trained
    model = world.model.train()
    batch = dataset.train.padded(np.arange(5))
    terms = model.terms(batch, torch.Generator().manual_seed(0))
    assert not terms.reward.any() and not terms.termination.any()
    model.eval()
