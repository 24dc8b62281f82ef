"""Every kind of space goes the whole way: recorded, learned, kept, dreamt, acted in, drawn.

One test an environment, so that what is learned serves all that follows.
"""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import zoo
from any_space import same_space, stacked

from agents.pathwise import PathwiseConfig, train_policy
from agents.sb3 import train_sb3
from worldmodel import LatentEnv, LatentVectorEnv
from worldmodel.data import SplitConfig, collect
from worldmodel.models.registry import MODELS
from worldmodel.plots.imagination import imagine
from worldmodel.plots.strips import imagination_strips, strips
from worldmodel.systems import preset, preset_for
from worldmodel.training.trainer import Trainer
from worldmodel.types import to_numpy
from worldmodel.world.filter import FilterObservation, VectorFilterObservation
from worldmodel.world.world import World, load

SPLITS = {"train": SplitConfig(8, 12), "validation": SplitConfig(4, 12), "test": SplitConfig(2, 12)}
BRIEF = {"updates": 3, "batch_size": 4, "validate_every": 3, "tensorboard": False}
STEPS = 6


def learned(name: str, folder, model: str = "dvbf"):
    """Three updates by the preset for what is seen; the world as it is read back, and its data."""
    dataset = collect(zoo.env_id(name), splits=SPLITS, seed=1, num_envs=4)
    chosen = preset(preset_for(dataset.observation_spec, dataset.provenance.source))
    config = chosen.model(model, dataset.observation_spec)
    trained = MODELS[model](config, dataset.observation_spec, dataset.action_spec)
    training = replace(chosen.training(dataset), **BRIEF)
    world = Trainer(trained, dataset, training, folder).fit(progress=False)
    return world, load(folder), dataset


def assert_the_same(world: World, copy: World, dataset) -> None:
    frames, actions = to_numpy(dataset.test.observations), dataset.test.actions.numpy()
    latents = world.filter(frames, actions)
    np.testing.assert_array_equal(copy.filter(frames, actions), latents)
    np.testing.assert_equal(copy.decode(latents), world.decode(latents))


def dream_alone(world: World, real: gym.Env) -> None:
    env = world.env(render_mode="rgb_array")
    assert isinstance(env, LatentEnv) and same_space(env.action_space, real.action_space)
    env.action_space.seed(0)
    state, _ = env.reset(seed=0)
    for _ in range(STEPS):
        assert state in env.observation_space
        action = env.action_space.sample()
        assert action in real.action_space
        state, reward, terminated, truncated, _ = env.step(action)
        assert np.isfinite(reward)
        if terminated or truncated:
            state, _ = env.reset()
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    env.close()


def dream_together(world: World, real: gym.Env) -> None:
    envs = world.vector_env(4, render_mode="rgb_array")
    assert isinstance(envs, LatentVectorEnv)
    assert same_space(envs.single_action_space, real.action_space)
    envs.action_space.seed(0)
    envs.reset(seed=0)
    for _ in range(STEPS):
        states, rewards, *_ = envs.step(envs.action_space.sample())
        assert states in envs.observation_space and np.isfinite(rewards).all()
    pictures = envs.render()
    assert len(pictures) == 4 and len({p.shape for p in pictures}) == 1
    envs.close()


def act_in_reality(world: World, real: gym.Env) -> None:
    """The belief that the agent acts on is that of filtering the whole recording at once."""
    brief = PathwiseConfig(updates=2, batch_size=8, horizon=4, hidden=8)
    policy, returns = train_policy(world, brief, progress=False)
    assert np.isfinite(returns).all()
    env, space = FilterObservation(real, world), world.model.observation_spec
    assert env.observation_space == world.env().observation_space
    assert same_space(env.action_space, real.action_space)
    belief, _ = env.reset(seed=3)
    seen, done, beliefs = [space.read(real.unwrapped._show(real.unwrapped.state))], [], [belief]
    for _ in range(STEPS):
        action, _ = policy.predict(belief)
        assert action in real.action_space
        belief, _, terminated, *_ = env.step(action)
        beliefs.append(belief)
        seen.append(space.read(real.unwrapped._show(real.unwrapped.state)))
        done.append(world.model.action_spec.encode(action))
        if terminated:
            break
    frames = {name: np.stack([s[name] for s in seen])[None] for name in space.names}
    whole = frames if len(frames) > 1 else frames[space.names[0]]
    box = env.observation_space
    expected = np.clip(world.filter(whole, np.stack(done)[None])[0], box.low, box.high)
    np.testing.assert_allclose(np.stack(beliefs), expected, atol=2e-4, rtol=1e-3)


def filter_together(world: World, name: str) -> None:
    env = gym.make_vec(zoo.env_id(name), num_envs=3, vectorization_mode="sync")
    filtered = VectorFilterObservation(env, world)
    filtered.action_space.seed(0)
    assert filtered.observation_space == world.vector_env(3).observation_space
    filtered.reset(seed=0)
    for _ in range(zoo.LENGTH + 3):  # beyond an episode's end
        beliefs, *_ = filtered.step(filtered.action_space.sample())
        assert beliefs in filtered.observation_space
    filtered.close()


def draw(world: World, dataset, folder) -> None:
    shown = imagine(world, dataset.test, looked=4, dreams=2)
    written = [
        imagination_strips(shown, folder / "imagine.png"),
        strips(world, dataset.test.padded(), folder / "strips.png", filtered=4, shown=(1, 6, 12)),
    ]
    assert all(path.stat().st_size > 1000 for path in written)


def start_where_it_was_seen(world: World, real: gym.Env) -> None:
    """From what a bare environment gave, in Gymnasium's layout."""
    observations, actions = [real.reset(seed=5)[0]], []
    for _ in range(2):
        actions.append(real.action_space.sample())
        observations.append(real.step(actions[-1])[0])
    options = {
        "observations": stacked(real.observation_space, observations),
        "actions": stacked(real.action_space, actions),
    }
    env = world.env()
    assert env.reset(options=options)[0] in env.observation_space


@pytest.mark.parametrize("name", zoo.NAMES)
def test_any_space_goes_the_whole_way(name, tmp_path):
    trained, world, dataset = learned(name, tmp_path)
    real = gym.make(zoo.env_id(name))
    real.action_space.seed(0)
    assert same_space(world.model.observation_spec.space(), real.observation_space)
    assert_the_same(trained, world, dataset)
    dream_alone(world, real)
    dream_together(world, real)
    start_where_it_was_seen(world, real)
    act_in_reality(world, real)
    filter_together(world, name)
    if not name.startswith("act-"):  # those look all the same
        draw(world, dataset, tmp_path)


@pytest.mark.parametrize("name", ["dkf", "e2c", "ekvae", "rssm"])
def test_other_models_see_streams_too(name, tmp_path):
    trained, world, dataset = learned("everything", tmp_path, name)
    assert_the_same(trained, world, dataset)
    real = gym.make(zoo.env_id("everything"))
    dream_alone(world, real)
    act_in_reality(world, real)


@pytest.mark.parametrize("name", ["act-shifted", "act-multi-discrete", "act-nested"])
def test_stable_baselines_acts_in_spaces_that_it_does_not_know(name, tmp_path):
    _, world, _ = learned(name, tmp_path)
    agent = train_sb3(
        world, "PPO", 64, num_envs=4, progress=False, n_steps=16, batch_size=32, n_epochs=1
    )
    env = FilterObservation(gym.make(zoo.env_id(name)), world)
    belief, _ = env.reset(seed=0)
    for _ in range(STEPS):
        action, _ = agent.predict(belief)
        assert action in env.action_space
        belief, *_ = env.step(action)
