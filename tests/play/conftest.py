"""A real environment that a linear model knows well, and the bundled pendulum."""

from __future__ import annotations

import gymnasium as gym
import pytest
from linear_model import LinearModel, RealEnv, fit_support

import envs  # noqa: F401 (registers the real systems)
import worldmodel
from worldmodel.play.data_states import DataStates
from worldmodel.play.session import Session


@pytest.fixture
def linear() -> LinearModel:
    return fit_support(LinearModel(), 0.7)


@pytest.fixture
def play(linear):
    """Makes a session of the linear model, with its real environment unless told otherwise."""

    def make(mode="dream", model=linear, real=True, **kwargs) -> Session:
        env = RealEnv(model) if real is True else real
        return Session(model, DataStates.of_support(model), env or None, mode=mode, **kwargs)

    return make


@pytest.fixture(scope="session")
def pendulum():
    return worldmodel.load("pendulum").requires_grad_(False)


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
