import importlib
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from linear_model import LinearModel, fit_support
from small import discrete, vector
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from agents.sb3 import LatentVecEnv, suits, train_sb3
from worldmodel.errors import MissingExtraError, ShapeError, SpecError
from worldmodel.spaces import ActionSpace
from worldmodel.world.world import World

TINY = {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}}


@pytest.fixture
def env(world):
    return LatentVecEnv(world, num_envs=3, max_episode_steps=4)


def zeros(env):
    return np.zeros((env.num_envs, 1), np.float32)


def test_it_is_a_vec_env_of_the_models_spaces(env, world):
    assert isinstance(env, VecEnv) and env.num_envs == 3
    assert env.action_space == world.model.action_spec.space()
    observations = env.reset()
    assert observations.shape == (3, 2) and observations.dtype == np.float32
    assert all(env.observation_space.contains(o) for o in observations)
    assert [set(info) for info in env.reset_infos] == [{"outside_support"}] * 3


def test_a_step_has_the_types_that_sb3_expects(env):
    env.reset()
    observations, rewards, dones, infos = env.step(zeros(env))
    assert observations.shape == (3, 2) and rewards.shape == dones.shape == (3,)
    assert rewards.dtype == np.float32 and dones.dtype == np.bool_
    assert infos == [{}] * 3 and len({id(info) for info in infos}) == 3


def test_a_time_limit_truncates_and_begins_anew(env):
    observations = env.reset()
    for step in range(1, 9):
        before = observations
        observations, _, dones, infos = env.step(zeros(env))
        assert dones.tolist() == [step % 4 == 0] * 3
        for i, info in enumerate(infos):
            assert bool(info) == (step % 4 == 0)
            if info:
                assert info["TimeLimit.truncated"] is True
                assert info["terminal_observation"].shape == (2,)
                # Where it ended is one step on from before; what is returned is a new start.
                assert np.abs(info["terminal_observation"] - before[i]).max() < 1
                assert not np.array_equal(info["terminal_observation"], observations[i])


def test_a_termination_is_no_truncation(world):
    world.model.can_terminate = True
    env = LatentVecEnv(world, 3, max_episode_steps=1)
    env.reset()
    world.model.termination = lambda next_state: torch.tensor([50.0, -50.0, -50.0])
    _, _, dones, infos = env.step(zeros(env))
    assert dones.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [False, True, True]


def test_leaving_the_support_ends_an_episode_and_is_said(world):
    env = LatentVecEnv(world, 2, max_episode_steps=50, noise=False)
    env.set_options([{"state": np.array([50.0, 0.0])}, {"state": np.zeros(2)}])
    env.reset()
    assert [info["outside_support"] for info in env.reset_infos] == [True, False]
    _, rewards, dones, infos = env.step(zeros(env))
    assert dones.tolist() == [True, False] and rewards[0] == -4
    assert infos[0]["outside_support"] is True and infos[0]["TimeLimit.truncated"] is True
    assert infos[1] == {}


@pytest.mark.parametrize("least", [0.0, 0.5])
def test_leaving_is_final_where_no_reward_is_negative(world, least, monkeypatch):
    monkeypatch.setattr(type(world.model), "reward_range", (least, 1.0))
    env = LatentVecEnv(world, 2, max_episode_steps=1, noise=False)
    env.set_options([{"state": np.array([50.0, 0.0])}, {"state": np.zeros(2)}])
    env.reset()
    _, _, dones, infos = env.step(zeros(env))
    assert dones.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [False, True]


def test_options_hold_for_one_reset(world):
    env = LatentVecEnv(world, 2, noise=False)
    env.set_options({"state": np.array([0.1, 0.2])})
    np.testing.assert_allclose(env.reset(), [[0.1, 0.2]] * 2, rtol=1e-6)
    assert np.abs(env.reset() - [[0.1, 0.2]] * 2).max() > 1e-3


def test_options_may_be_for_some_dreams_only(world):
    env, free = LatentVecEnv(world, 3, noise=False), LatentVecEnv(world, 3, noise=False)
    env.seed(0), free.seed(0)
    env.set_options([{}, {"state": np.array([50.0, 0.0])}, {}])
    seen, others = env.reset(), free.reset()
    np.testing.assert_array_equal(seen[[0, 2]], others[[0, 2]])
    np.testing.assert_array_equal(seen[1], [env.observation_space.high[0], 0.0])
    assert [info["outside_support"] for info in env.reset_infos] == [False, True, False]
    env.set_options([{}, {"state": np.zeros(2)}, {"observations": np.zeros(2)}])
    with pytest.raises(SpecError, match="the same options or none"):
        env.reset()


def test_films_run_as_fast_as_the_dream_says(env):
    assert env.metadata == env.env.metadata and env.metadata["render_fps"] == 10


def test_options_of_different_shapes_are_refused(env):
    for state in ([0.0], [[0.0], [0.0, 1.0]]):
        env.set_options([{"state": [0.0, 0.0]}] * 2 + [{"state": state}])
        with pytest.raises(ShapeError, match="same shapes"):
            env.reset()


def test_seeds_repeat_and_differ(env):
    def run(seed):
        env.seed(seed)
        first = env.reset()
        return np.stack([first, *(env.step(zeros(env))[0] for _ in range(6))])

    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


def test_a_seed_holds_for_one_reset(env):
    env.seed(1)
    assert not np.array_equal(env.reset(), env.reset())


def test_attributes_are_read_and_set_for_all(env):
    assert env.get_attr("num_envs") == [3] * 3
    assert env.get_attr("render_mode", indices=[0, 2]) == ["rgb_array"] * 2
    assert env.get_attr("model", indices=1)[0] is env.env.model
    for name in ("render_mode", "note"):
        env.set_attr(name, "other")
        assert env.get_attr(name) == ["other"] * 3
    assert env.has_attr("note") and not env.has_attr("nothing")
    with pytest.raises(SpecError, match="cannot set it for 1 only"):
        env.set_attr("note", "mine", indices=1)


def test_methods_and_wrappers(env):
    env.reset()
    frames = env.env_method("render", indices=[0, 1])
    assert len(frames) == 2 and len(frames[0]) == 3
    assert env.env_is_wrapped(gym.wrappers.TimeLimit) == [False] * 3
    assert env.env_is_wrapped(gym.wrappers.TimeLimit, indices=[1]) == [False]


def test_sb3s_own_wrappers_work_around_it(env):
    wrapped = VecNormalize(VecMonitor(env))
    wrapped.reset()
    for _ in range(4):
        _, _, dones, infos = wrapped.step(zeros(env))
    assert dones.all() and [info["episode"]["l"] for info in infos] == [4] * 3


def test_every_stream_is_shown(env):
    for dreams in (env, LatentVecEnv(fit_support(LinearModel(vector(4)), 0.7), 3)):
        dreams.reset()
        assert len(dreams.get_images()) == 3
        picture = dreams.render("rgb_array")
        assert picture.ndim == 3 and np.ptp(picture) > 0


@pytest.mark.parametrize("progress", [False, True])
def test_ppo_learns_and_predicts(world, progress, capsys, monkeypatch):
    monkeypatch.setattr("worldmodel.progress.EVERY", 0.0)
    learner = train_sb3(
        world, "PPO", timesteps=512, num_envs=8, max_episode_steps=9, progress=progress, **TINY
    )
    assert learner.num_timesteps == 512
    actions, _ = learner.predict(np.zeros((5, 2), np.float32), deterministic=True)
    assert actions.shape == (5, 1) and (np.abs(actions) <= 1).all()
    said = capsys.readouterr().out
    assert ("agent" in said) == ("gradient updates" in said) == progress


def test_ppo_is_not_silent_while_it_learns_from_a_rollout(world, capsys, monkeypatch):
    """Hundreds of updates between two steps of the dream, of which SB3 tells nobody."""
    monkeypatch.setattr("worldmodel.progress.EVERY", 0.0)
    settings = TINY | {"n_epochs": 3, "n_steps": 16, "batch_size": 8}
    train_sb3(world, "PPO", timesteps=64, num_envs=4, **settings)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("agent 64 of 64 24 gradient updates")]
    train_sb3(world, "PPO", timesteps=64, num_envs=4, progress=False, **settings)
    assert capsys.readouterr().out == ""


def test_the_same_seed_trains_the_same_agent(world):
    def weights(seed):
        learner = train_sb3(
            world, "PPO", 64, num_envs=4, seed=seed, progress=False, **TINY | {"n_steps": 8}
        )
        return torch.cat([p.detach().flatten() for p in learner.policy.parameters()])

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))


def test_discrete_actions_train_too():
    world = fit_support(LinearModel(action_spec=discrete(3)), 0.7)
    learner = train_sb3(world, "PPO", 128, num_envs=8, progress=False, **TINY)
    choices, _ = learner.predict(np.zeros((5, 2), np.float32))
    assert choices.shape == (5,) and set(choices) <= {0, 1, 2}


OFF_POLICY = {"learning_starts": 8, "batch_size": 4}
SETTINGS = {"PPO": {"n_steps": 8, "batch_size": 16}, "A2C": {"n_steps": 8}}
ODD_SPACES = {
    "wider than float32": gym.spaces.Box(np.float32(-3e38), np.float32(3e38), (2,)),
    "one value": gym.spaces.Box(np.float32([0, -1]), np.float32([0, 1])),
    "double": gym.spaces.Box(-2.0, 3.0, (2,), np.float64),
    "narrow index": gym.spaces.Discrete(3, dtype=np.int32),
    "shifted index": gym.spaces.Discrete(3, start=-1),
}


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "SAC", "TD3", "DQN"])
@pytest.mark.parametrize("space", ODD_SPACES.values(), ids=ODD_SPACES)
def test_actions_arrive_in_the_real_space(space, algorithm):
    index = isinstance(space, gym.spaces.Discrete)
    if algorithm in (("SAC", "TD3") if index else ("DQN",)):
        pytest.skip("has another kind of actions")
    spec = ActionSpace.from_space(space)
    model = LinearModel(action_spec=spec)
    model.B.div_(max(spec.high))
    settings = SETTINGS.get(algorithm, OFF_POLICY) | {"policy_kwargs": {"net_arch": [8]}}
    learner = train_sb3(
        fit_support(model, 0.7), algorithm, 64, num_envs=2, progress=False, **settings
    )
    seen = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    for deterministic in (True, False):
        many, _ = learner.predict(seen, deterministic=deterministic)
        assert len(many) == 9 and all(action in space for action in many)
        assert learner.predict(seen[0], deterministic=deterministic)[0] in space


def test_a_plain_space_is_taken_as_it_is(world, env):
    assert suits(world.model.action_spec) and env.action_space == gym.spaces.Box(-1, 1, (1,))
    assert suits(discrete(3))


def test_an_unknown_algorithm_is_refused(world):
    with pytest.raises(SpecError, match=r"'PPO'.*got 'ppo'"):
        train_sb3(world, "ppo", progress=False)


@pytest.mark.parametrize("name", ["timesteps", "num_envs", "max_episode_steps"])
@pytest.mark.parametrize("count", [0, -5])
def test_numbers_of_nothing_are_refused(world, name, count):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {count}"):
        train_sb3(world, "PPO", **{name: count})


@pytest.mark.parametrize(("asked", "taken"), [(1, 4), (50, 50), (51, 52)])
def test_ppo_takes_no_more_steps_than_are_asked_for(world, asked, taken):
    """Up to a step of every dream; a single step of each would be too few for it."""
    learner = train_sb3(world, "PPO", asked, 2, 9, progress=False, batch_size=2)
    assert learner.num_timesteps == taken


def test_the_device_may_be_named(world):
    learner = train_sb3(world, "PPO", 32, 2, 9, progress=False, device="cpu", **TINY)
    assert learner.device.type == "cpu"


def test_an_unfitted_support_is_refused():
    with pytest.raises(SpecError, match="support is not fitted"):
        train_sb3(World(LinearModel()), "PPO", progress=False)


def test_a_missing_sb3_names_its_extra(monkeypatch):
    find = importlib.util.find_spec

    def hidden(name, *rest):
        return None if name == "stable_baselines3" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    monkeypatch.delitem(sys.modules, "agents.sb3")
    with pytest.raises(MissingExtraError, match=r"'stable_baselines3'.*worldmodel\[agents\]"):
        importlib.import_module("agents.sb3")
