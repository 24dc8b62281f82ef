"""The model that ships: it works the minute the package is installed."""

import json
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import envs  # noqa: F401 (registers the real pendulum)
import worldmodel
from worldmodel.models.checkpoint import BUNDLED

ID = "worldmodel/LatentPendulum-v0"
# Gymnasium and SB3 advise actions in [-1, 1]; a torque is in N m, and all else must be silent.
ADVICE = ".*symmetric and normalized.*"


@pytest.fixture(scope="module")
def model():
    return worldmodel.load("pendulum")


def test_it_is_small_and_says_how_good_it_is():
    folder = BUNDLED / "pendulum"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_000_000
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["r2"]["velocity"] > 0.95 and metrics["agent"]["upright_share"] > 0.8


@pytest.mark.parametrize("check", [lambda env: check_env(env.unwrapped), sb3_check_env])
def test_the_checkers_are_silent(check):
    env = gym.make(ID, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=ADVICE)
        check(env)
    env.close()


def test_its_spec_survives_json():
    env = gym.make(ID, noise=False)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    first, second = (e.reset(seed=3)[0] for e in (env, again))
    np.testing.assert_array_equal(first, second)
    assert again.spec.kwargs == env.spec.kwargs


def test_the_vector_env_is_native():
    dreams = gym.make_vec(ID, num_envs=7)
    assert isinstance(dreams.unwrapped, worldmodel.LatentVectorEnv)
    assert dreams.reset(seed=0)[0].shape == (7, 3)


def test_dream_and_filtered_reality_share_their_space(model):
    real = worldmodel.FilterObservation(gym.make("worldmodel/Pendulum-v0"), model)
    assert real.observation_space == gym.make(ID).observation_space
    assert real.observation_space.contains(real.reset(seed=0)[0])


def test_it_predicts_the_real_pendulum_better_than_standing_still(model):
    real = gym.make_vec("worldmodel/Pendulum-v0", num_envs=64)
    frames, actions = [real.reset(seed=11)[0]], []
    rng = np.random.default_rng(0)
    for _ in range(34):
        actions.append(rng.uniform(-5, 5, (64, 1)).astype(np.float32))
        frames.append(real.step(actions[-1])[0])
    seen, done = np.stack(frames, 1), np.stack(actions, 1)
    latents = model.filter(seen[:, :15], done[:, :14])
    dreamt = model.decode(model.imagine(latents[:, -1], done[:, 14:]))[:, 1:].astype(float)
    truth = seen[:, 15:].astype(float)
    error = ((dreamt - truth) ** 2).mean()
    assert error < 0.2 * ((truth - seen[:, 14:15]) ** 2).mean()
