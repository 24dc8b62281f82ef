"""A real environment that a linear world knows well, and the bundled pendulum."""

from __future__ import annotations

import gymnasium as gym
import pytest
from linear_model import LinearModel, RealEnv, fit_support

import envs  # noqa: F401 (registers the real systems)
import worldmodel
from worldmodel.play.data_states import DataStates
from worldmodel.play.session import Session
from worldmodel.world.world import World


@pytest.fixture
def linear() -> World:
    return fit_support(LinearModel(), 0.7)


@pytest.fixture
def play(linear):
    """Makes a session of the linear world, with its real environment unless told otherwise."""

    def make(mode="dream", world=linear, real=True, **kwargs) -> Session:
        env = RealEnv(world) if real is True else real
        return Session(world, DataStates.of_support(world), env or None, mode=mode, **kwargs)

    return make


@pytest.fixture(scope="session")
def pendulum():
    return worldmodel.load("pendulum")


@pytest.fixture(scope="session")
def pendulum_states(pendulum) -> DataStates:
    from worldmodel.cli.play import states_of

    return states_of(pendulum, pendulum.source, None, seed=0)


@pytest.fixture
def pendulum_session(pendulum, pendulum_states):
    def make(mode="compare", **kwargs) -> Session:
        real = gym.make("worldmodel/Pendulum-v0", max_episode_steps=-1)
        return Session(pendulum, pendulum_states, real, mode=mode, **kwargs)

    return make
