"""Every registered model goes the whole way: trained, kept, dreamt in, filtered with, acted in."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from small import BOX, PIXELS, SEVERAL, VECTOR, generator, random_dataset, small_model

from agents.pathwise import PathwiseConfig, train_policy
from worldmodel.models.registry import MODELS, fitting
from worldmodel.systems import preset, preset_for
from worldmodel.training.config import TrainConfig
from worldmodel.training.trainer import Trainer
from worldmodel.world.dynamics import latent_box
from worldmodel.world.filter import FilterObservation
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import load

SHORT = TrainConfig(updates=4, batch_size=6, window=5, validate_every=2, tensorboard=False)


class Real(gym.Env):
    """Any environment of the right spaces."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (VECTOR.size,), np.float32)
    action_space = BOX.space()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=3).astype(np.float32), {}

    def step(self, action):
        return self.np_random.normal(size=3).astype(np.float32), 0.0, False, False, {}


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def trained(name, tmp_path):
    dataset = random_dataset(steps=6)
    return Trainer(small_model(name), dataset, SHORT, tmp_path).fit(progress=False), dataset


@pytest.mark.parametrize("objective", ["constrained", "elbo", "balanced"])
def test_every_objective_trains_every_weight(name, objective, tmp_path):
    model, dataset = small_model(name), random_dataset(steps=6)
    before = {k: v.clone() for k, v in model.named_parameters()}
    config = dataclasses.replace(SHORT, objective=objective)
    trainer = Trainer(model, dataset, config, tmp_path)
    for _ in range(4):
        trainer.step()
    still = [k for k, v in model.named_parameters() if torch.equal(v, before[k])]
    assert not still


def test_a_run_that_is_cut_short_ends_as_if_it_had_not_been(name, tmp_path):
    dataset = random_dataset(steps=6)
    whole = Trainer(small_model(name), dataset, SHORT, tmp_path / "whole")
    whole.fit(progress=False)
    cut = Trainer(small_model(name), dataset, SHORT, tmp_path / "cut")
    cut.step(), cut.step(), cut.validate(), cut.checkpoint()
    resumed = Trainer(small_model(name, seed=1), dataset, SHORT, tmp_path / "cut")
    assert resumed.update == 2
    resumed.fit(progress=False)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


def test_a_checkpoint_gives_the_same_world(trained, tmp_path):
    world, dataset = trained
    again = load(world.save(tmp_path / "kept"))
    assert type(again.model) is type(world.model) and again.model.config == world.model.config
    frames, actions = dataset.train.observations.numpy(), dataset.train.actions.numpy()
    np.testing.assert_array_equal(again.filter(frames, actions), world.filter(frames, actions))


def test_dream_and_filtered_reality_share_a_space(trained, tmp_path):
    world, _ = trained
    dream, real = (
        LatentVectorEnv(tmp_path / "checkpoint", num_envs=3),
        FilterObservation(Real(), world),
    )
    assert dream.single_observation_space == real.observation_space == latent_box(world)
    dream.reset(seed=0)
    real.reset(seed=0)
    for _ in range(3):
        states, rewards, *_ = dream.step(dream.action_space.sample())
        state, *_ = real.step(real.action_space.sample())
    assert np.isfinite(states).all() and np.isfinite(rewards).all()
    assert real.observation_space.contains(state)


def test_an_agent_learns_through_it(trained):
    world, _ = trained
    policy, returns = train_policy(world, PathwiseConfig(updates=2, batch_size=4, horizon=3))
    assert np.isfinite(returns).all()
    action, _ = policy.predict(np.zeros(world.model.latent_size, np.float32))
    assert world.model.action_spec.space().contains(action)


@pytest.mark.parametrize(
    "space", [VECTOR, PIXELS, SEVERAL], ids=lambda space: "-".join(s.kind for s in space.streams)
)
def test_the_preset_for_data_has_settings_for_it(name, space):
    if name not in fitting(space):
        pytest.skip("it takes no such data")
    chosen, data = preset(preset_for(space)), random_dataset(space)
    model = MODELS[name](chosen.model(name, space), space, BOX)
    batch = data.train.padded()
    model.calibrate(batch)
    assert torch.isfinite(model.terms(batch, generator()).rate).all()
    assert chosen.training(data).window == 6
