import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from test_gaussian import pendulum

import envs  # noqa: F401 (registers the environments)
from agents.empowerment import GaussianEmpowerment, Noise
from agents.empowerment.measured import measured_empowerment
from worldmodel.errors import ConfigError

ID = "worldmodel/Pendulum-v0"


def make(observation):
    return lambda n: gym.make_vec(ID, num_envs=n, observation=observation)


def test_it_agrees_with_the_linearised_equation_of_motion():
    states = np.array([[0.0, 0.0], [0.5, 1.0], [-2.5, 0.0], [2.0, -1.0]])
    dynamics = replace(pendulum(), observe=lambda z: z)
    expected = GaussianEmpowerment(dynamics, 6, Noise(1.0))(torch.tensor(states).float())
    actual = measured_empowerment(make("state"), states, 6, Noise(1.0), nudge=0.01)
    np.testing.assert_allclose(actual, expected, atol=0.02, rtol=0.02)


def test_from_pixels_upright_is_best():
    states = np.array([[0.0, 0.0], [1.0, 0.0], [math.pi, 0.0]])
    done = []
    nats = measured_empowerment(make("pixels"), states, 10, Noise(1.0), progress=done.append)
    assert nats[0] > nats[1] + 0.5 > nats[2]
    assert done == [3]


def test_process_noise_cannot_be_asked_of_a_real_environment():
    with pytest.raises(ConfigError, match=r"no process noise, got 0\.5"):
        measured_empowerment(make("state"), np.zeros((1, 2)), 3, Noise(process=0.5))
