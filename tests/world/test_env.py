import json
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction
from gymnasium.utils.env_checker import check_env
from small import VECTOR, discrete, generator, small_model, vector
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from worldmodel.errors import (
    DivergenceError,
    MissingExtraError,
    ResetNeeded,
    ShapeError,
    SpecError,
)
from worldmodel.spaces import ActionSpace
from worldmodel.world.env import LatentEnv
from worldmodel.world.registration import register
from worldmodel.world.start import states_from_options
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World, load


@pytest.fixture
def env(world):
    return LatentEnv(world)


@pytest.fixture
def headless(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def test_check_env_of_a_made_env(checkpoint, headless):
    check_env(gym.make("worldmodel/Latent-v0", checkpoint=checkpoint).unwrapped)


def test_check_env_of_vectors_and_discrete_actions(linear):
    env = LatentEnv(linear(observation_spec=vector(6), action_spec=discrete(3)))
    with warnings.catch_warnings():
        # An environment that was not made by id has no spec to try other render modes with.
        warnings.filterwarnings("ignore", ".*Not able to test alternative render modes")
        check_env(env)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_dreams_actions_are_those_of_reality_to_the_last_bit(tmp_path, dtype):
    """0.1 in single precision lies above 0.1 in double: such a bound would be outside."""
    real = gym.spaces.Box(np.array([-0.1, -0.3], dtype), np.array([0.1, 0.7], dtype), dtype=dtype)
    model = small_model("dvbf", VECTOR, ActionSpace.from_space(real))
    world = World(model)
    states = torch.randn(2000, model.latent_size, generator=generator())
    world.support.fit(states, states[:200], margin=1.25)
    for held in (world, load(world.save(tmp_path / "world"))):
        one, many = held.env(), held.vector_env(2)
        assert one.action_space == many.single_action_space == real
        assert many.action_space == gym.vector.utils.batch_space(real, 2)
        one.reset(seed=0), many.reset(seed=0)
        for action in (real.low, real.high):
            assert one.action_space.contains(action)
            np.testing.assert_array_equal(held.model.action_spec.encode(action), np.float32(action))
            one.step(action), many.step(np.stack([action] * 2))


def test_stable_baselines_accepts_it(checkpoint):
    sb3_check_env(gym.make("worldmodel/Latent-v0", checkpoint=checkpoint).unwrapped)


def test_spec_survives_json(checkpoint):
    env = gym.make("worldmodel/Latent-v0", checkpoint=checkpoint, noise=False, max_episode_steps=7)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert json.loads(env.spec.to_json())["kwargs"] == {"checkpoint": checkpoint, "noise": False}
    first, second = env.reset(seed=3)[0], again.reset(seed=3)[0]
    np.testing.assert_array_equal(first, second)
    ends = [again.step(np.zeros(1, np.float32))[3] for _ in range(7)]
    assert ends[-1]


def test_every_id_is_registered_with_both_entry_points():
    register()
    for name in ("worldmodel/Latent-v0", "worldmodel/LatentPendulum-v0"):
        spec = gym.spec(name)
        assert spec.max_episode_steps == 200
        assert spec.vector_entry_point is not None
    assert gym.spec("worldmodel/LatentPendulum-v0").kwargs == {"checkpoint": "pendulum"}


def episode(env, seed):
    observations = [env.reset(seed=seed)[0]]
    for action in np.linspace(-1, 1, 10, dtype=np.float32):
        observation, reward, terminated, truncated, _ = env.step(action[None])
        observations.append(np.append(observation, reward))
        if terminated or truncated:
            break
    return np.concatenate(observations)


def test_seeds_repeat_and_differ(world):
    one, two = LatentEnv(world), LatentEnv(world)
    np.testing.assert_array_equal(episode(one, 5), episode(two, 5))
    np.testing.assert_array_equal(episode(one, 5), episode(two, 5))
    assert not np.array_equal(episode(one, 5), episode(two, 6))


def test_nothing_touches_the_global_generator(env):
    before = torch.get_rng_state()
    episode(env, 0)
    assert torch.equal(before, torch.get_rng_state())


def test_without_noise_the_dream_is_the_models_own(world):
    env = LatentEnv(world, noise=False)
    start = np.float32([0.2, -0.3])
    observation, info = env.reset(options={"state": start})
    np.testing.assert_array_equal(observation, start)
    assert info == {"outside_support": False, "error_bound": np.inf, "reward_bound": np.inf}
    actions = np.float32([[0.5], [-1.0], [0.1]])
    states = world.imagine(start[None], actions[None])[0]
    for t, action in enumerate(actions):
        observation = env.step(action)[0]
        np.testing.assert_allclose(observation, states[t + 1], atol=1e-6)
        np.testing.assert_array_equal(env.state, observation)


def test_noise_is_the_process_noise(world):
    noisy, quiet = LatentEnv(world), LatentEnv(world, noise=False)
    draws = []
    for seed in range(200):
        for env in (noisy, quiet):
            env.reset(seed=seed, options={"state": np.zeros(2)})
        action = np.zeros(1, np.float32)
        draws.append(noisy.step(action)[0] - quiet.step(action)[0])
    assert np.std(draws) == pytest.approx(0.1, rel=0.15)


def test_outside_the_support_truncates_and_says_so(world):
    env = LatentEnv(world, noise=False)
    _, info = env.reset(options={"state": np.float32([-30, 0])})
    assert info["outside_support"]
    observation, reward, terminated, truncated, info = env.step(np.zeros(1, np.float32))
    assert (reward, terminated, truncated, info["outside_support"]) == (-4.0, False, True, True)
    assert observation in env.observation_space
    assert env.state not in env.observation_space
    with pytest.raises(ResetNeeded, match="over"):
        env.step(np.zeros(1, np.float32))


def test_truncation_outside_can_be_turned_off(world):
    env = LatentEnv(world, truncate_outside=False)
    env.reset(options={"state": np.float32([-30, 0])})
    for _ in range(3):
        observation, reward, _, truncated, info = env.step(np.zeros(1, np.float32))
        assert observation in env.observation_space
        assert info["outside_support"] and not truncated and reward == -4.0


def test_the_model_may_end_an_episode(world):
    env = LatentEnv(world, noise=False)
    env.reset(options={"state": np.float32([1.6, 0])})
    assert env.step(np.zeros(1, np.float32))[2] is True


def test_a_dream_starts_at_the_last_of_given_frames(world, real):
    env, system = LatentEnv(world), real()
    frames, actions = [system.reset(seed=0)[0]], np.float32([[0.4], [-0.2]])
    frames += [system.step(action)[0] for action in actions]
    observation, _ = env.reset(options={"observations": np.stack(frames), "actions": actions})
    expected = world.filter(np.stack(frames)[None], actions[None], prefix=3)[0, -1]
    np.testing.assert_allclose(observation, expected, atol=1e-6)
    np.testing.assert_allclose(observation, system.unwrapped.state, atol=0.05)
    one, _ = env.reset(options={"observations": np.stack(frames[:1])})
    np.testing.assert_allclose(one, world.filter(frames[0][None, None], actions[None, :0])[0, 0])


STATES = [
    ("abc", "state must be .*numbers.*'abc'"),
    (["1", "2"], "state must be .*numbers"),
    ([[1], [1, 2]], "state must be .*numbers"),
    ({"a": 1}, "state must be .*numbers"),
    (object(), "state must be .*numbers"),
    (None, "state must be .*numbers"),
    (np.ones(2) * 1j, "state must be .*numbers"),
    (np.array(["2020-01-01"] * 2, "datetime64[D]"), "state must be .*numbers"),
    ([0, 1e39], r"state must be finite.*1e\+39"),
    ([1e300, 0], r"state must be finite.*1e\+300"),
    ([np.nan, 0], "state must be finite.*nan"),
    ([[[0, 0]]], r"state must be \(2,\)"),
]
FRAMES = ["abc", None, [[1, 2], [3]], 3, {"a": np.zeros((1, 4, 4, 1), np.uint8)}, object()]
THREE = np.full((3, 4, 4, 1), 127, np.uint8)
ACTIONS = [
    "abc",
    [[1], [1, 2]],
    {"a": 1},
    np.zeros((5, 1), np.float32),
    np.full((2, 1), np.nan),
    np.full((5, 1), np.inf),
    np.zeros((2, 1)) * 1j,
    np.zeros((2, 2)),
    object(),
]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"stat": 1}, SpecError, "unknown reset options.*stat"),
        ({"actions": np.zeros((1, 1))}, SpecError, "needs 'observations'"),
        ({"state": np.zeros(2), "actions": np.zeros((0, 1))}, SpecError, "either"),
        ({"state": np.zeros(3)}, ShapeError, r"\(3,\)"),
        ({"state": [np.nan, 0]}, ShapeError, "finite"),
        (
            {"observations": np.zeros((2, 4, 4, 1), np.uint8)},
            ShapeError,
            "2 observations need 1 actions",
        ),
        ({"observations": np.zeros((4, 4, 1), np.uint8)}, ShapeError, "observations must have"),
        ({"observations": np.zeros((0, 4, 4, 1), np.uint8)}, ShapeError, "K >= 1"),
        ({"observations": np.zeros((1, 4, 4, 1), np.float32)}, ShapeError, "uint8"),
        ({"observations": np.zeros((1, 5, 5, 1), np.uint8)}, ShapeError, "5, 5"),
        *(({"state": state}, ShapeError, match) for state, match in STATES),
        *(({"observations": frames}, ShapeError, "observation") for frames in FRAMES),
        *(
            ({"observations": frames, "actions": actions}, ShapeError, "'actions' for")
            for frames in (THREE, THREE[:1])
            for actions in ACTIONS
        ),
    ],
)
def test_unusable_options_are_refused(env, world, options, error, match):
    before = env.reset(seed=0)[0]
    for dream in (env, LatentVectorEnv(world, 1)):
        with pytest.raises(error, match=match):
            dream.reset(options=options)
    np.testing.assert_array_equal(env.state, before)


@pytest.mark.parametrize("options", [[1], "state", 3], ids=repr)
def test_options_that_are_none_are_refused(world, options):
    with pytest.raises(SpecError, match="reset options"):
        states_from_options(world.model, options, 1)


def test_no_actions_go_with_a_single_frame(env, linear):
    for none in (None, [], np.zeros((0, 1), np.float32)):
        env.reset(options={"observations": THREE[:1], "actions": none})
    many = LatentEnv(linear(action_spec=discrete(3)))
    for none in (None, [], np.zeros(0, np.int64)):
        many.reset(options={"observations": THREE[:1], "actions": none})


def test_frames_that_no_belief_fits_are_refused(linear):
    env = LatentEnv(linear(observation_spec=vector(4)))
    with pytest.raises(DivergenceError, match="'observations'"):
        env.reset(options={"observations": np.full((1, 4), 3e38, np.float32)})


def test_whole_numbers_and_switches_are_states(env):
    for state in ([1, 0], (True, False), np.float16([1, 0]), torch.tensor([1.0, 0.0])):
        assert env.reset(options={"state": state})[0].tolist() == [1, 0]


def test_discrete_dreams_start_from_frames_too(linear):
    env = LatentEnv(linear(action_spec=discrete(3)))
    frames = np.full((3, 4, 4, 1), 127, np.uint8)
    observation, _ = env.reset(options={"observations": frames, "actions": np.array([0, 2])})
    assert observation in env.observation_space
    env.reset(options={"observations": frames[:1]})


@pytest.mark.parametrize(
    "action",
    [
        np.zeros(2, np.float32),
        np.zeros((1, 1), np.float32),
        np.float32([np.nan]),
        np.float32([np.inf]),
        np.array(["left"]),
        np.array([1j]),
        np.array([True]),
        None,
    ],
)
def test_unusable_actions_are_refused_and_change_nothing(env, action):
    env.reset(seed=0)
    before = env.state
    with pytest.raises(InvalidAction):
        env.step(action)
    np.testing.assert_array_equal(before, env.state)


@pytest.mark.parametrize("action", [3, -1, 1.0, np.array([1]), "up"])
def test_unusable_discrete_actions_are_refused(linear, action):
    env = LatentEnv(linear(action_spec=discrete(3)))
    env.reset(seed=0, options={"state": np.zeros(2)})
    env.step(2)
    with pytest.raises(InvalidAction):
        env.step(action)


def test_an_action_outside_its_box_is_clipped(env):
    results = []
    for action in (np.float32([1.0]), np.float32([9.0]), np.array([9])):
        env.reset(seed=0)
        results.append(env.step(action)[0])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_stepping_or_looking_before_reset_is_refused(world):
    env = LatentEnv(world, render_mode="rgb_array")
    for use in (lambda: env.step(np.zeros(1, np.float32)), env.render, lambda: env.state):
        with pytest.raises(ResetNeeded):
            use()


def test_a_diverged_model_raises(env, world):
    env.reset(seed=0)
    with torch.no_grad():
        world.model.F.fill_(torch.nan)
    with pytest.raises(DivergenceError, match="nan"):
        env.step(np.zeros(1, np.float32))


def test_returned_observations_are_the_callers(env):
    first, _ = env.reset(seed=0)
    kept = first.copy()
    second, *_ = env.step(np.zeros(1, np.float32))
    np.testing.assert_array_equal(first, kept)
    state = env.state
    second[:] = 99
    state[:] = 99
    assert (np.abs(env.state) < 10).all()


def test_rgb_array_is_the_decoded_frame_enlarged(world):
    env = LatentEnv(world, render_mode="rgb_array")
    observation, _ = env.reset(options={"state": np.float32([0.8, -0.8])})
    frame = env.render()
    assert frame.shape == (256, 256, 3) and frame.dtype == np.uint8
    np.testing.assert_array_equal(frame[::64, ::64, :1], world.decode(observation))
    assert frame[0, 0, 0] > frame[255, 255, 0] + 50


def test_human_mode_shows_a_window(world, headless):
    env = LatentEnv(world, render_mode="human")
    env.reset(options={"state": np.float32([0.8, -0.8])})
    pygame = sys.modules["pygame"]
    surface = pygame.display.get_surface()
    assert surface.get_size() == (256, 256)
    assert surface.get_at((0, 0))[0] > surface.get_at((0, 255))[0] + 50
    assert env.render() is None
    env.close()
    env.close()
    assert not pygame.display.get_init()


def test_a_missing_viewer_names_its_extra(world, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"worldmodel\[viewer\]"):
        LatentEnv(world, render_mode="human")


def test_unknown_render_modes_are_refused(world):
    with pytest.raises(SpecError, match="'ansi'"):
        LatentEnv(world, render_mode="ansi")


def test_vectors_are_drawn_as_bars(linear):
    world = linear(observation_spec=vector(6))
    env = LatentEnv(world, render_mode="rgb_array")
    pictures = []
    for state in ([0.8, -0.8], [-0.8, 0.8]):
        env.reset(options={"state": np.float32(state)})
        pictures.append(env.render())
    left, right = pictures
    assert left.dtype == np.uint8 and left.shape == right.shape and left.shape[2] == 3
    assert 200 < max(left.shape) < 400 and (left != right).any()


def test_an_unfitted_model_and_a_missing_checkpoint_are_refused(linear):
    with pytest.raises(SpecError, match="fit it first"):
        LatentEnv(linear(support=None))
    with pytest.raises(FileNotFoundError, match="no-such-model"):
        gym.make("worldmodel/Latent-v0", checkpoint="no-such-model")
