import json
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import envs  # noqa: F401 - registers the ids
from envs.bouncing_ball import INTERVAL, MAX_SPEED, BouncingBall, BouncingBallVector, roll

ID = "worldmodel/BouncingBall-v0"
PIXEL = 3 / 16  # half-widths


def random_axis(n, speed, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, n), generator.uniform(-speed, speed, n)


# Physics


def test_roll_equals_many_small_steps_with_reflection():
    start, speed = random_axis(300, 30.0)
    x, v = start.copy(), speed.copy()
    for _ in range(10_000):
        x = x + v * 1e-4
        outside = np.abs(x) > 1
        x = np.where(outside, 2 * np.sign(x) - x, x)
        v = np.where(outside, -v, v)
    position, velocity = roll(start, speed, 1.0)
    np.testing.assert_allclose(position, x, atol=1e-9)
    # A ball within rounding of a wall may have bounced in one and not yet in the other.
    clear = np.abs(position) < 1 - 1e-6
    assert clear.sum() > 290
    np.testing.assert_array_equal(velocity[clear], v[clear])


def test_rolling_twice_equals_rolling_once():
    start, speed = random_axis(2000, 50.0)
    once = roll(start, speed, 0.3)
    twice = roll(*roll(start, speed, 0.1), 0.2)
    np.testing.assert_allclose(twice, once, atol=1e-12)


@pytest.mark.parametrize("speed", [1e-300, 1e-17, 1.0, 1e3, 1e9, 1e15])
def test_a_ball_never_leaves_the_box_and_keeps_its_energy(speed):
    position, velocity = random_axis(5000, speed)
    position[:4] = 1, -1, 1, -1
    velocity[:4] = speed, -speed, -speed, speed
    before = np.abs(velocity)
    for _ in range(50):
        position, velocity = roll(position, velocity, 0.1)
        assert np.abs(position).max() <= 1
        np.testing.assert_array_equal(np.abs(velocity), before)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ((0.0, 0.5), (0.5, 0.5)),
        ((0.5, 0.5), (1.0, 0.5)),  # has just arrived
        ((1.0, 0.5), (0.5, -0.5)),
        ((-1.0, -0.5), (-0.5, 0.5)),
        ((-1.0, 0.0), (-1.0, 0.0)),
        ((0.25, -1.5), (-0.75, 1.5)),
        ((0.0, 2.5), (-0.5, -2.5)),
        ((0.0, 5.0), (1.0, 5.0)),  # both walls once, and back
        ((0.0, 4.0), (0.0, 4.0)),  # both walls once
    ],
)
def test_roll_by_hand(start, end):
    position, velocity = roll(np.array([start[0]]), np.array([start[1]]), 1.0)
    assert position[0] == pytest.approx(end[0])
    assert velocity[0] == end[1]


def test_push_is_added_before_the_ball_rolls():
    env = BouncingBall(observation="state", max_speed=2.5)
    env.reset(options={"state": (0.1, -0.2, 1.0, 2.0)})
    state = env.step(np.float32([0.5, -0.25]))[0]
    np.testing.assert_allclose(state, [0.225, -0.025, 1.25, 1.75], rtol=1e-6)


@pytest.mark.parametrize("most", [MAX_SPEED, 2.5])
def test_velocity_is_clipped_at_the_bound_of_the_state(most):
    env = BouncingBall(observation="state", max_speed=most)
    env.reset(options={"state": (0.0, 0.0, most, -most)})
    state = env.step(np.float32([0.5, -0.5]))[0]
    np.testing.assert_allclose(state, [most / 10, -most / 10, most, -most], rtol=1e-6)
    assert state in env.observation_space


def test_energy_is_conserved_without_control():
    env = BouncingBallVector(500, observation="state")
    before = np.abs(env.reset(seed=0)[0][:, 2:])
    bounced = np.zeros(500, bool)
    for _ in range(100):
        state = env.step(np.zeros((500, 2)))[0]
        np.testing.assert_array_equal(np.abs(state[:, 2:]), before)
        assert np.abs(state[:, :2]).max() <= 1
        bounced |= (state[:, 2:] < 0).any(-1)
    assert bounced.all()


def test_mean_speed_is_what_the_docstring_says():
    env = BouncingBallVector(500, observation="state")
    env.action_space.seed(0)
    env.reset(seed=0)
    states = np.stack([env.step(env.action_space.sample())[0] for _ in range(99)], 1)
    speed = np.linalg.norm(states[..., 2:], axis=-1) * INTERVAL / PIXEL
    assert speed[:, :14].mean() == pytest.approx(0.53, abs=0.03)
    assert speed.mean() == pytest.approx(0.53, abs=0.03)


# Pictures


def grey(state, **kwargs):
    env = BouncingBall(**kwargs)
    return env.reset(options={"state": (*state, 0.0, 0.0)})[0][..., 0].astype(float)


def test_picture_is_a_sampled_gaussian():
    x, y, radius = 0.37, -0.61, 0.4
    axis = (np.arange(20) + 0.5) * 3 / 20 - 1.5
    right, up = np.meshgrid(axis, -axis)
    expected = 255 * np.exp(-((right - x) ** 2 + (up - y) ** 2) / (2 * radius**2))
    np.testing.assert_allclose(grey((x, y), size=20, radius=radius), expected, atol=0.51)


def test_centroid_of_the_picture_is_the_position():
    axis = (np.arange(16) + 0.5) * PIXEL - 1.5
    for x, y in np.random.default_rng(0).uniform(-0.7, 0.7, (50, 2)):
        picture = grey((x, y), radius=0.25)
        total = picture.sum()
        assert picture.sum(0) @ axis / total == pytest.approx(x, abs=0.02 * PIXEL)
        assert picture.sum(1) @ -axis / total == pytest.approx(y, abs=0.02 * PIXEL)


@pytest.mark.parametrize("size", [16, 17])
def test_mirrored_positions_give_mirrored_pictures(size):
    for x, y in np.random.default_rng(1).uniform(-1, 1, (20, 2)):
        picture = grey((x, y), size=size)
        np.testing.assert_array_equal(grey((-x, y), size=size), picture[:, ::-1])
        np.testing.assert_array_equal(grey((x, -y), size=size), picture[::-1])
        np.testing.assert_array_equal(grey((-y, -x), size=size), picture.T)


def test_a_small_ball_at_the_wall_is_seen_whole():
    corner = grey((1.0, 1.0), radius=0.25)
    assert corner.sum() > 0.93 * grey((0.0, 0.0), radius=0.25).sum()
    assert max(corner[0].max(), corner[:, -1].max()) < 0.3 * corner.max()


def test_rgb_array_shows_ball_target_and_push():
    env = BouncingBall(render_mode="rgb_array", target=(-0.5, 0.5))
    env.reset(options={"state": (0.5, -0.5, 0.0, 0.0)})
    still = env.render().astype(int)
    assert still.shape == (256, 256, 3)
    pixel = 256 / 3
    row, column = int((1.5 + 0.5) * pixel), int((1.5 + 0.5) * pixel)
    assert still[row, column].min() > 240
    green = (still[..., 1] > 150) & (still[..., 0] < 100)
    rows, columns = np.nonzero(green)
    assert rows.mean() == pytest.approx((1.5 - 0.5) * pixel, abs=1)
    assert columns.mean() == pytest.approx((1.5 - 0.5) * pixel, abs=1)
    env.step(np.float32([0.5, 0.0]))
    moved = env.render().astype(int)
    orange = (moved[..., 0] > 200) & (moved[..., 2] < 100)
    assert orange.sum() > 100
    assert np.nonzero(orange)[1].min() > column
    assert not ((still[..., 0] > 200) & (still[..., 2] < 100)).any()


def test_human_window(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame

    env = gym.make(ID, render_mode="human")
    env.reset(seed=0)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    twin = BouncingBall(render_mode="rgb_array")
    twin.reset(seed=0)
    np.testing.assert_array_equal(shown, twin.render())
    env.close()


# Interface


@pytest.mark.parametrize("observation", ["pixels", "state"])
def test_gymnasium_check_env_is_silent(observation, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gym.make(ID, observation=observation, render_mode="rgb_array", target=(0.5, 0.5))
    check_env(env.unwrapped)


@pytest.mark.parametrize("observation", ["pixels", "state"])
def test_stable_baselines_check_env(observation):
    with warnings.catch_warnings():
        # The paper's pictures are 16x16; the checker warns that its default CNN wants 36.
        warnings.filterwarnings("ignore", "The minimal resolution for an image is 36x36.*")
        # A push is in its unit; the checker recommends [-1, 1].
        warnings.filterwarnings("ignore", ".*symmetric and normalized.*")
        check_env_sb3(gym.make(ID, observation=observation))


def test_spec_survives_json():
    env = gym.make(ID, target=(0.5, -1), radius=0.5)
    spec = EnvSpec.from_json(env.spec.to_json())
    assert json.loads(env.spec.to_json())["kwargs"] == {"target": [0.5, -1], "radius": 0.5}
    again = gym.make(spec)
    assert again.unwrapped.system == env.unwrapped.system
    np.testing.assert_array_equal(again.reset(seed=3)[0], env.reset(seed=3)[0])


def test_spaces():
    env = BouncingBall(size=20, max_push=0.25)
    assert env.observation_space == gym.spaces.Box(0, 255, (20, 20, 1), np.uint8)
    assert env.action_space == gym.spaces.Box(-0.25, 0.25, (2,), np.float32)
    high = np.float32([1, 1, MAX_SPEED, MAX_SPEED])
    assert BouncingBall(observation="state").observation_space == gym.spaces.Box(-high, high)


def test_reward_is_minus_the_distance_on_arrival():
    env = BouncingBall(target=(0.5, 0.0))
    env.reset(options={"state": (0.0, 0.4, 1.0, 0.0)})
    _, paid, terminated, truncated, _ = env.step(np.zeros(2))
    assert paid == pytest.approx(-np.hypot(0.4, 0.4))
    assert (terminated, truncated) == (False, False)
    env.reset(options={"state": (0.5, 0.0, 0.0, 0.0)})
    assert env.step(np.zeros(2))[1] == 0


def test_truncates_after_200_steps():
    env = gym.make(ID, observation="state")
    env.reset(seed=0)
    ends = [env.step(np.zeros(2))[2:4] for _ in range(200)]
    assert ends == [(False, False)] * 199 + [(False, True)]


@pytest.mark.parametrize("most", [MAX_SPEED, 3.0])
def test_babbling_starts(most):
    states = BouncingBallVector(4000, observation="state", max_speed=most).reset(seed=0)[0]
    limits = np.array([1, 1, most, most])
    assert np.all(np.abs(states) <= limits)
    np.testing.assert_allclose(states.std(0), limits / np.sqrt(3), rtol=0.04)
    np.testing.assert_allclose(states.mean(0) / limits, 0, atol=0.04)


def test_wall_starts_are_at_rest_and_spread_over_the_walls():
    env = BouncingBallVector(4000, observation="state")
    states = env.reset(seed=0, options={"start": "wall"})[0]
    at_wall = np.abs(states[:, :2]) == 1
    np.testing.assert_array_equal(at_wall.sum(1), 1)
    np.testing.assert_array_equal(states[:, 2:], 0)
    for axis in (0, 1):
        for side in (-1, 1):
            assert np.mean(states[:, axis] == side) == pytest.approx(0.25, abs=0.03)
    along = states[:, :2][~at_wall]
    assert np.abs(along.mean()) < 0.04
    assert along.std() == pytest.approx(1 / np.sqrt(3), rel=0.04)


# Bad input


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(1), r"shape \(2,\), got \(1,\)"),
        (np.float32([np.nan, 0]), "finite, got"),
        (["left", "up"], "real numbers"),
    ],
)
def test_bad_actions(action, message):
    env = BouncingBall()
    env.reset(seed=0)
    with pytest.raises(InvalidAction, match=message):
        env.step(action)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "hanging"}, r"'babbling', 'wall'.*hanging"),
        ({"state": (0.0, 0.0)}, r"\(4,\).*\(2,\)"),
        ({"state": (1.1, 0, 0, 0)}, r"\|x\|.*1\.1"),
        ({"state": (0, 0, 0, -6)}, r"\|vy\| <= 1.25.*-6"),
        ({"state": (0, 0, np.inf, 0)}, "finite"),
        ({"state": "middle"}, "4 numbers.*middle"),
    ],
)
def test_bad_reset_options(options, message):
    with pytest.raises(ValueError, match=message):
        BouncingBall().reset(options=options)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"max_push": 0}, "max_push.*0"),
        ({"max_push": 11.0}, "max_push.*11"),
        ({"max_push": np.nan}, "max_push.*nan"),
        ({"max_speed": 0.0}, "max_speed.*0.0"),
        ({"max_push": 1.0, "max_speed": 0.4}, "0.8.*1.0"),
        ({"radius": 0.05}, "radius.*0.05"),
        ({"radius": "wide"}, "radius.*wide"),
        ({"target": (0.0, 1.5)}, "target.*1.5"),
        ({"target": (0.0, np.nan)}, "target.*nan"),
        ({"target": 0.5}, "target.*0.5"),
        ({"target": ("a", "b")}, "target.*a"),
        ({"size": 4}, "size.*4"),
        ({"observation": "sound"}, "sound"),
        ({"render_mode": "ansi"}, "ansi"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BouncingBall(**kwargs)


def test_reset_is_needed():
    env = BouncingBall(render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match="step"):
        env.step(np.zeros(2))
    with pytest.raises(ResetNeeded, match="render"):
        env.render()
