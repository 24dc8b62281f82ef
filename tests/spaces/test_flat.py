"""Flat actions arrive in the real space."""

import gymnasium as gym
import numpy as np
import pytest
from any_space import Echo
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from worldmodel.errors import ConfigError
from worldmodel.spaces import FlatActions, VectorFlatActions


def test_flat_boxes_cover_the_real_one():
    env = FlatActions(Echo(action_space=Box(np.array([-2, 0]), np.array([2, 9]), dtype=np.float64)))
    assert env.action_space == Box(-1, 1, (2,))
    env.reset(seed=0)
    for flat, real in (([-1, -1], [-2, 0]), ([1, 1], [2, 9]), ([0, 0], [0, 4.5])):
        env.step(np.array(flat, np.float32))
        taken = env.unwrapped.taken
        assert taken.tolist() == real and taken.dtype == np.float64


def test_flat_actions_of_numbers_without_bounds():
    low, high = np.array([1, -np.inf, -np.inf]), np.array([np.inf, 5, np.inf])
    space = Box(low, high, dtype=np.float64)
    flat = FlatActions(Echo(action_space=space), reach=2.0)
    assert flat.action(np.full(3, -1)).tolist() == [1, 1, -2]
    assert flat.action(np.full(3, 1)).tolist() == [5, 5, 2]
    for reach in (0, np.nan, [1.0, 2.0]):
        with pytest.raises(ConfigError, match="reach"):
            FlatActions(Echo(action_space=space), reach=reach)


def test_flat_indices():
    one = FlatActions(Echo(action_space=Discrete(3, start=5)))
    assert one.action_space == Discrete(3) and one.action(2) == 7
    many = FlatActions(Echo(action_space=MultiDiscrete([[2, 3]], start=[[1, 1]])))
    assert many.action_space == MultiDiscrete([2, 3])
    assert many.action(np.array([1, 2])).tolist() == [[2, 3]]
    box = FlatActions(Echo(action_space=Discrete(3, start=5)), box=True)
    assert box.action_space == Box(-1, 1, (3,)) and box.action(np.array([-1, -1, -0.5])) == 7


def test_flat_vectors():
    space = Dict(arm=Box(-2, 2, (1,)), gear=Discrete(2), lamps=MultiBinary(1))
    envs = gym.vector.SyncVectorEnv([lambda: Echo(action_space=space)] * 2)
    flat = VectorFlatActions(envs)
    assert flat.single_action_space == Box(-1, 1, (4,))
    assert flat.action_space == Box(-1, 1, (2, 4))
    flat.reset(seed=0)
    flat.step(np.array([[1, 1, -1, 1], [-1, -1, 1, -1]], np.float32))
    first, second = (env.taken for env in envs.envs)
    assert space.contains(first) and space.contains(second)
    assert first["arm"] == [2] and first["gear"] == 0 and first["lamps"] == [1]
    assert second["arm"] == [-2] and second["gear"] == 1 and second["lamps"] == [0]
    single = VectorFlatActions(
        gym.vector.SyncVectorEnv([lambda: Echo(action_space=Discrete(3, start=5))] * 2)
    )
    assert single.actions(np.array([0, 2])).tolist() == [5, 7]
