"""Fixtures over the linear world, and a checkpoint of a DVBF."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from linear_model import BOX, PIXELS, LinearModel, RealEnv, fit_support
from small import tiny_model

from worldmodel.world.world import World


@pytest.fixture
def linear():
    """Makes a linear world; ``support`` is the spread of the data it knows, None for no fit.

    Dreams that begin ``alike`` do so at zero.
    """

    def make(support: float | None = 0.7, alike: bool = False, **kwargs) -> World:
        model = LinearModel(**kwargs)
        world = World(model) if support is None else fit_support(model, support)
        if alike:
            world.support.states.zero_()
        return world

    return make


@pytest.fixture
def world(linear) -> World:
    return linear()


@pytest.fixture
def real(world):
    """Makes one real environment of four-step episodes at most."""
    return lambda: gym.wrappers.TimeLimit(RealEnv(world), 4)


@pytest.fixture
def real_vector(real):
    return lambda n, mode: SyncVectorEnv([real] * n, autoreset_mode=mode)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> str:
    """An untrained DVBF whose support covers its own first states."""
    dvbf = tiny_model(PIXELS, BOX)
    with torch.no_grad():
        states = dvbf.initial_prior(4000, torch.Generator().manual_seed(0))
    world = World(dvbf)
    world.support.fit(states[:3000], states[3000:], margin=3.0)
    return str(world.save(tmp_path_factory.mktemp("checkpoints") / "dvbf"))
