"""What other libraries ask of our environments, beyond Gymnasium's own classes.

TorchRL 0.14's ``GymWrapper`` reads ``autoreset_mode`` and ``reset_mask``; skrl 2.1's trainers
render by ``call``; RLlib makes single environments and lists infos; CleanRL's loops count returns.
"""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

import worldmodel

VECTORS = ["dream", "real", "filtered"]


def make_vector(kind, mode=AutoresetMode.NEXT_STEP, **kwargs):
    world = worldmodel.load("pendulum")
    if kind == "dream":
        return world.vector_env(3, max_episode_steps=4, autoreset_mode=mode, **kwargs)
    kwargs |= {"autoreset_mode": mode, "max_episode_steps": 4}
    real = gym.make_vec("worldmodel/Pendulum-v0", 3, **kwargs)
    return real if kind == "real" else worldmodel.VectorFilterObservation(real, world)


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("kind", VECTORS)
def test_the_autoreset_mode_is_an_attribute_too(kind, mode):
    env = make_vector(kind, mode)
    assert env.autoreset_mode is env.metadata["autoreset_mode"] is mode


@pytest.mark.parametrize("kind", VECTORS)
def test_ended_episodes_are_reset_by_mask(kind):
    """As TorchRL does it where nothing is reset automatically."""
    env = make_vector(kind, AutoresetMode.DISABLED)
    env.reset(seed=0)
    for step in range(8):
        observations, *_, truncations, _ = env.step(np.zeros((3, 1), np.float32))
        assert truncations.all() == (step % 4 == 3)
        if truncations.any():
            observations, _ = env.reset(options={"reset_mask": truncations.copy()})
        assert observations in env.observation_space


@pytest.mark.parametrize("kind", VECTORS)
def test_each_frame_is_rendered_by_call(kind):
    env = make_vector(kind, render_mode="rgb_array")
    env.reset(seed=0)
    frames = env.call("render")
    assert len(frames) == 3 and {frame.shape for frame in frames} == {(256, 256, 3)}
    np.testing.assert_array_equal(frames, env.render())
    assert env.call("render_mode") == ("rgb_array",) * 3
    with pytest.raises(ValueError, match=r"together: 'step'"):
        env.call("step")


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("kind", VECTORS)
def test_infos_can_be_lists_and_returns_are_counted(kind, mode):
    env = DictInfoToList(RecordEpisodeStatistics(make_vector(kind, mode)))
    env.reset(seed=0)
    paid, infos = np.zeros(3), []
    for _ in range(4):
        _, rewards, _, truncations, infos = env.step(np.zeros((3, 1), np.float32))
        paid += rewards
    assert truncations.all()
    np.testing.assert_allclose([info["episode"]["r"] for info in infos], paid, rtol=1e-5)
    assert [info["episode"]["l"] for info in infos] == [4, 4, 4]


def single(kind, **kwargs):
    if kind == "dream":
        return gym.make("worldmodel/LatentPendulum-v0", **kwargs)
    if kind == "filtered":
        return worldmodel.FilterObservation(single("worldmodel/Pendulum-v0", **kwargs), "pendulum")
    return gym.make(kind, **kwargs)


SINGLES = ["dream", "filtered"] + [
    f"worldmodel/{system}-v0" for system in ("Pendulum", "BouncingBall", "TwoBouncingBalls")
]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("kind", SINGLES)
def test_copies_go_on_alike(kind, copied):
    env = single(kind, render_mode="rgb_array")
    env.reset(seed=0)
    other = copied(env)
    for _ in range(3):
        action = env.action_space.sample()
        (left, *_), (right, *_) = env.step(action), other.step(action)
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(env.render(), other.render())


@pytest.mark.parametrize("kind", VECTORS)
def test_copies_of_vectors_go_on_alike(kind):
    env = make_vector(kind)
    env.reset(seed=0)
    other = pickle.loads(pickle.dumps(env))
    for _ in range(6):
        actions = env.action_space.sample()
        np.testing.assert_array_equal(env.step(actions)[0], other.step(actions)[0])
