import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from envs.bouncing_ball import BouncingBall, BouncingBallVector
from envs.bouncing_balls import BouncingBalls, BouncingBallsVector
from envs.pendulum import Pendulum, PendulumVector

ID = "worldmodel/Pendulum-v0"
MODES = list(AutoresetMode)
SYSTEMS = {
    ID: (Pendulum, PendulumVector),
    "worldmodel/BouncingBall-v0": (BouncingBall, BouncingBallVector),
    "worldmodel/TwoBouncingBalls-v0": (BouncingBalls, BouncingBallsVector),
}
every_system = pytest.mark.parametrize("env_id", SYSTEMS)


def assert_same(ours, theirs):
    """Equal in structure, type and every bit."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif isinstance(ours, tuple):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
    elif isinstance(ours, np.ndarray) and ours.dtype == object:
        assert_same(tuple(ours), tuple(theirs))
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


def pair(env_id, n, mode, observation="pixels", steps=7):
    """Our vector env, and Gymnasium's loop over single ones."""
    ours = SYSTEMS[env_id][1](n, steps, observation, autoreset_mode=mode)
    theirs = SyncVectorEnv(
        [lambda: gym.make(env_id, observation=observation, max_episode_steps=steps)] * n,
        autoreset_mode=mode,
    )
    return ours, theirs


def actions(t, n, space=None):
    """Half as much again as the limits, so that some are clipped."""
    size, limit = (1, 5) if space is None else (space.shape[-1], space.high.max())
    values = np.random.default_rng(t).uniform(-1.4 * limit, 1.4 * limit, (n, size))
    return values.astype(np.float32)


@every_system
@pytest.mark.parametrize("observation", ["pixels", "state"])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_equals_single_envs_across_autoresets(mode, observation, env_id):
    ours, theirs = pair(env_id, 5, mode, observation)
    assert_same(ours.reset(seed=11), theirs.reset(seed=11))
    for t in range(30):
        action = actions(t, 5, ours.action_space)
        assert_same(ours.step(action), theirs.step(action))


@every_system
@pytest.mark.parametrize("mode", MODES)
def test_equals_single_envs_when_only_some_are_reset(mode, env_id):
    ours, theirs = pair(env_id, 4, mode)
    assert_same(ours.reset(seed=[4, 9, 2, 7]), theirs.reset(seed=[4, 9, 2, 7]))
    resets = {2: [1], 3: [0, 2], 5: [3], 9: [1], 10: [0, 2]}
    for t in range(12):
        if t in resets:
            mask = np.isin(np.arange(4), resets[t])
            assert_same(
                ours.reset(options={"reset_mask": mask}),
                theirs.reset(options={"reset_mask": mask.copy()}),
            )
        action = actions(t, 4, ours.action_space)
        assert_same(ours.step(action), theirs.step(action))


@pytest.mark.parametrize(
    ("env_id", "starts"),
    [
        (ID, [{"start": "hanging"}, {"state": (0.5, -1.0)}]),
        ("worldmodel/BouncingBall-v0", [{"start": "wall"}, {"state": (0.5, -1.0, 1.0, 0.0)}]),
        ("worldmodel/TwoBouncingBalls-v0", [{"state": (2, 3, 0.1, 0.2, 7, 8, -0.3, 0)}]),
    ],
)
def test_masked_reset_takes_seeds_and_starts(env_id, starts):
    ours, theirs = pair(env_id, 3, AutoresetMode.DISABLED)
    assert_same(ours.reset(seed=0), theirs.reset(seed=0))
    mask = np.array([False, True, True])
    for extra in ({}, *starts):
        options = {"reset_mask": mask, **extra}
        assert_same(
            ours.reset(seed=[1, 2, None], options=dict(options)),
            theirs.reset(seed=[1, 2, None], options=dict(options)),
        )
    action = actions(0, 3, ours.action_space)
    assert_same(ours.step(action), theirs.step(action))
    assert_same(ours.reset(), theirs.reset())


def test_same_step_reports_where_an_episode_ended():
    env = PendulumVector(2, 2, "state", autoreset_mode="SameStep")
    env.reset(seed=0)
    mask = np.array([True, False])
    env.step(actions(0, 2))
    env.reset(options={"reset_mask": mask})
    observation, _, _, truncated, info = env.step(actions(1, 2))
    assert truncated.tolist() == [False, True]
    assert info["final_obs"][0] is None
    np.testing.assert_array_equal(info["final_obs"][1], info["final_info"]["state"][1])
    assert not np.array_equal(info["final_obs"][1], observation[1])
    np.testing.assert_array_equal(info["state"], observation)


def test_disabled_refuses_to_step_past_the_end():
    env = PendulumVector(3, 1, "state", autoreset_mode="Disabled")
    env.reset(seed=0)
    assert env.step(actions(0, 3))[3].all()
    env.reset(options={"reset_mask": np.array([True, False, False])})
    with pytest.raises(ResetNeeded, match=r"\[1, 2\]"):
        env.step(actions(0, 3))
    env.reset()
    env.step(actions(0, 3))


@every_system
def test_many_envs_equal_single_ones_bit_for_bit(env_id):
    one, many = SYSTEMS[env_id]
    env = many(700, observation="pixels")
    observations, _ = env.reset(seed=100)
    for t in range(5):
        stepped = env.step(actions(t, 700, env.action_space))
    for i in (0, 1, 2, 3, 317, 511, 512, 698, 699):
        single = one()
        np.testing.assert_array_equal(single.reset(seed=100 + i)[0], observations[i])
        for t in range(5):
            observation, paid, *_, info = single.step(actions(t, 700, env.action_space)[i])
        np.testing.assert_array_equal(observation, stepped[0][i])
        np.testing.assert_array_equal(info["state"], stepped[4]["state"][i])
        assert paid == stepped[1][i]


def test_explicit_states():
    env = PendulumVector(2, observation="state")
    np.testing.assert_array_equal(env.reset(options={"state": (1, 2)})[0], [[1, 2], [1, 2]])
    given = np.float32([[1, 2], [-3, 4]])
    np.testing.assert_array_equal(env.reset(options={"state": given})[0], given)
    hanging = env.reset(options={"start": "hanging"})[1]["state"]
    np.testing.assert_array_equal(hanging, np.float32([[np.pi, 0]] * 2))


def test_options_are_not_changed():
    env = PendulumVector(2)
    env.reset(seed=0)
    options = {"reset_mask": np.array([True, False]), "start": "hanging"}
    env.reset(options=options)
    assert options.keys() == {"reset_mask", "start"}


def test_without_a_limit_episodes_never_end():
    env = PendulumVector(2, observation="state")
    env.reset(seed=0)
    assert not any(env.step(actions(t, 2))[3].any() for t in range(300))


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_make_vec_and_json(mode):
    env = gym.make_vec(ID, num_envs=3, observation="state", autoreset_mode=mode)
    assert isinstance(env, PendulumVector)
    assert env.metadata["autoreset_mode"] is AutoresetMode(mode)
    assert env.max_episode_steps == 200
    assert env.observation_space.shape == (3, 2)
    assert env.action_space.shape == (3, 1)
    again = gym.make_vec(EnvSpec.from_json(env.spec.to_json()))
    assert again.num_envs == 3
    assert again.metadata["autoreset_mode"] is AutoresetMode(mode)
    np.testing.assert_array_equal(again.reset(seed=1)[0], env.reset(seed=1)[0])
    assert env.reset(seed=1)[0] in env.observation_space


def test_mode_is_per_instance():
    first = PendulumVector(1, autoreset_mode="SameStep")
    PendulumVector(1, autoreset_mode="Disabled")
    assert first.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_outputs_are_fresh():
    env = PendulumVector(2, observation="state")
    observation, info = env.reset(seed=0)
    kept = observation.copy(), info["state"].copy()
    observation[:] = 0
    info["state"][:] = 0
    np.testing.assert_array_equal(env.reset(seed=0)[0], kept[0])
    results = env.step(actions(0, 2))
    copies = [result.copy() for result in results[:4]]
    env.step(actions(1, 2))
    for result, copy in zip(results[:4], copies, strict=True):
        np.testing.assert_array_equal(result, copy)


def test_render():
    env = PendulumVector(2, render_mode="rgb_array")
    single = Pendulum(render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match="render"):
        env.render()
    env.reset(seed=5)
    env.step(actions(0, 2))
    single.reset(seed=6)
    single.step(actions(0, 2)[1])
    frames = env.render()
    assert isinstance(frames, tuple)
    assert len(frames) == 2
    np.testing.assert_array_equal(frames[1], single.render())
    silent = PendulumVector(1)
    silent.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert silent.render() is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset_mask": [True, False]}, "bool array"),
        ({"reset_mask": np.array([1, 0])}, "bool array"),
        ({"reset_mask": np.array([True])}, r"\(1,\)"),
        ({"reset_mask": np.array([False, False])}, "at least one"),
        ({"state": np.zeros((3, 2))}, r"\(3, 2\)"),
        ({"colour": 1}, "colour"),
    ],
)
def test_bad_reset_options(options, message):
    env = PendulumVector(2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_envs": 0}, "num_envs.*0"),
        ({"max_episode_steps": 0}, "max_episode_steps.*0"),
        ({"max_episode_steps": 1.5}, "1.5"),
        ({"autoreset_mode": "Never"}, "Never"),
        ({"render_mode": "human"}, "human"),
        ({"observation": "sound"}, "sound"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PendulumVector(**{"num_envs": 2, **kwargs})


def test_bad_seeds_and_actions():
    env = PendulumVector(2)
    with pytest.raises(ResetNeeded, match="step"):
        env.step(actions(0, 2))
    with pytest.raises(ResetNeeded, match="first reset"):
        env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ValueError, match=r"2 seeds.*3"):
        env.reset(seed=[1, 2, 3])
    env.reset(seed=0)
    for bad in (np.zeros(2), np.zeros((3, 1)), np.full((2, 1), np.nan)):
        with pytest.raises(InvalidAction):
            env.step(bad)
