"""The models that ship: they work the minute the package is installed.

Whatever lies among the bundled checkpoints is tested; one that is added need only say below what it
is a model of and how good it must be.
"""

import json
import warnings
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import envs  # noqa: F401 (registers the real systems)
import worldmodel
from worldmodel.cli.systems import RECIPES
from worldmodel.cli.table import lookup
from worldmodel.world.checkpoint import BUNDLED

# Gymnasium and SB3 advise actions in [-1, 1]; ours have units, and all else must be silent.
ADVICE = ".*symmetric and normalized.*"


@dataclass(frozen=True)
class Expected:
    """What a bundled model must be: its dream's id, and the least that its metrics must reach."""

    dream: str
    least: dict[str, float]


EXPECTED = {
    "pendulum": Expected(
        "worldmodel/LatentPendulum-v0", {"r2.velocity": 0.95, "agent.upright_share": 0.8}
    ),
    "ball": Expected(
        "worldmodel/LatentBouncingBall-v0",
        {"r2.x": 0.95, "r2.y": 0.95, "r2.vx": 0.9, "r2.vy": 0.9, "agent.at_target_share": 0.8},
    ),
}


@pytest.fixture(params=sorted(path.name for path in BUNDLED.iterdir()))
def name(request) -> str:
    return request.param


@pytest.fixture
def dream(name) -> str:
    return EXPECTED[name].dream


@pytest.fixture
def world(name):
    return worldmodel.load(name)


def test_the_pendulum_is_bundled():
    assert (BUNDLED / "pendulum").is_dir()


@pytest.mark.parametrize("system", EXPECTED)
def test_every_dream_is_registered_with_its_checkpoint(system):
    assert gym.spec(EXPECTED[system].dream).kwargs == {"checkpoint": system}


def test_it_is_small_and_says_how_good_it_is(name):
    folder = BUNDLED / name
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_000_000
    metrics = json.loads((folder / "metrics.json").read_text())
    for metric, least in EXPECTED[name].least.items():
        assert lookup(metrics, metric) > least, metric


@pytest.mark.parametrize("check", [lambda env: check_env(env.unwrapped), sb3_check_env])
def test_the_checkers_are_silent(dream, check):
    env = gym.make(dream, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=ADVICE)
        check(env)
    env.close()


def test_its_spec_survives_json(dream):
    env = gym.make(dream, noise=False)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    first, second = (e.reset(seed=3)[0] for e in (env, again))
    np.testing.assert_array_equal(first, second)
    assert again.spec.kwargs == env.spec.kwargs


def test_the_vector_env_is_native(name, dream):
    dreams = gym.make_vec(dream, num_envs=7)
    assert isinstance(dreams.unwrapped, worldmodel.LatentVectorEnv)
    assert dreams.reset(seed=0)[0].shape == (7, RECIPES[name].model.latent_size)


def test_dream_and_filtered_reality_share_their_space(name, dream, world):
    recipe = RECIPES[name]
    real = worldmodel.FilterObservation(gym.make(recipe.env_id, **recipe.env_kwargs), world)
    assert real.observation_space == gym.make(dream).observation_space
    assert real.observation_space.contains(real.reset(seed=0)[0])


def test_it_predicts_reality_better_than_standing_still(name, world):
    recipe = RECIPES[name]
    real = gym.make_vec(recipe.env_id, num_envs=64, **recipe.env_kwargs)
    box = real.single_action_space
    frames, actions = [real.reset(seed=11)[0]], []
    rng = np.random.default_rng(0)
    for _ in range(34):
        actions.append(rng.uniform(box.low, box.high, (64, *box.shape)).astype(np.float32))
        frames.append(real.step(actions[-1])[0])
    seen, done = np.stack(frames, 1), np.stack(actions, 1)
    latents = world.filter(seen[:, :15], done[:, :14])
    dreamt = world.decode(world.imagine(latents[:, -1], done[:, 14:]))[:, 1:].astype(float)
    truth = seen[:, 15:].astype(float)
    error = ((dreamt - truth) ** 2).mean()
    # Twenty steps: the ball's goals are 10 % and 40 % of the variance at 10 and 30 steps, and
    # standing still errs by twice the variance once it is forgotten.
    assert error < 0.2 * ((truth - seen[:, 14:15]) ** 2).mean()
