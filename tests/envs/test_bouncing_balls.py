import json
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import InvalidAction
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import envs  # noqa: F401 - registers the ids
from envs.bouncing_balls import BouncingBalls, BouncingBallsVector, bounce, overlapping, roll

ID = "worldmodel/TwoBouncingBalls-v0"
STATE = (2.0, 3.0, 0.1, 0.2, 7.0, 8.0, -0.3, 0.0)


def start(n, balls=2, seed=0):
    """Positions and velocities (n, balls, 2) of babbling starts."""
    env = BouncingBallsVector(n, observation="state", balls=balls)
    rows = env.reset(seed=seed)[0].astype(float).reshape(n, balls, 4)
    return rows[..., :2], rows[..., 2:]


def play(x, v):
    """One frame of one box, ball by ball, with two-body mechanics in the centre-of-mass frame."""
    x, v = [np.array(p) for p in x], [np.array(p) for p in v]
    for _ in range(2):
        for i in range(len(x)):
            x[i] = x[i] + v[i] / 2
        for i in range(len(x)):
            for axis in (0, 1):
                if x[i][axis] < 1.2:
                    v[i][axis] = abs(v[i][axis])
                if x[i][axis] > 8.8:
                    v[i][axis] = -abs(v[i][axis])
        for i in range(len(x)):
            for j in range(i):
                normal = x[i] - x[j]
                if normal @ normal < 2.4**2:
                    mean = (v[i] + v[j]) / 2
                    mirror = np.eye(2) - 2 * np.outer(normal, normal) / (normal @ normal)
                    v[i], v[j] = mean + mirror @ (v[i] - mean), mean + mirror @ (v[j] - mean)
    return np.array(x), np.array(v)


# Physics


@pytest.mark.parametrize("balls", [1, 2, 4])
def test_equals_a_simulation_ball_by_ball(balls):
    position, velocity = start(20, balls)
    expected = [(position[i], velocity[i]) for i in range(20)]
    for _ in range(60):
        position, velocity = roll(position, velocity)
        expected = [play(*state) for state in expected]
    np.testing.assert_allclose(position, [x for x, _ in expected], atol=1e-7)
    np.testing.assert_allclose(velocity, [v for _, v in expected], atol=1e-7)


def test_balls_that_meet_head_on_swap_their_velocities():
    position = np.array([[[4.0, 5.0], [6.0, 5.0]]])
    swapped = bounce(position, np.array([[[0.3, 0.0], [-0.1, 0.0]]]))
    np.testing.assert_allclose(swapped, [[[-0.1, 0.0], [0.3, 0.0]]], atol=1e-15)


def test_a_collision_exchanges_momentum_along_the_line_of_centres_only():
    generator = np.random.default_rng(0)
    angle = generator.uniform(-np.pi, np.pi, 200)
    line = np.stack([np.cos(angle), np.sin(angle)], -1)
    position = np.stack([5 + line, 5 - line], 1)
    velocity = generator.standard_normal((200, 2, 2))
    after = bounce(position, velocity)
    np.testing.assert_allclose(after.sum(1), velocity.sum(1), atol=1e-14)
    np.testing.assert_allclose((after**2).sum((1, 2)), (velocity**2).sum((1, 2)))
    across = np.stack([-line[:, 1], line[:, 0]], -1)[:, None]
    np.testing.assert_allclose((after * across).sum(-1), (velocity * across).sum(-1), atol=1e-14)
    np.testing.assert_allclose(
        (after * line[:, None]).sum(-1), (velocity * line[:, None]).sum(-1)[:, ::-1], atol=1e-14
    )


def test_balls_apart_and_off_the_walls_do_nothing():
    velocity = np.random.default_rng(0).standard_normal((1, 2, 2))
    position = np.array([[[3.0, 3.0], [5.41, 3.0]]])
    np.testing.assert_array_equal(bounce(position, velocity), velocity)


def test_walls_lead_balls_away_and_do_not_move_them():
    position = np.array([[[1.1, 8.9], [8.9, 1.1]]])
    out = np.array([[[-0.1, 0.2], [0.3, -0.4]]])
    np.testing.assert_array_equal(bounce(position, out), -out)
    np.testing.assert_array_equal(bounce(position, -out), -out)


def test_balls_in_one_place_have_no_line_of_centres():
    position = np.full((1, 2, 2), 5.0)
    velocity = np.array([[[0.1, 0.2], [0.3, -0.2]]])
    np.testing.assert_array_equal(bounce(position, velocity), velocity)


@pytest.mark.parametrize("balls", [1, 2, 6])
def test_energy_is_conserved_and_states_stay_in_their_space(balls):
    env = BouncingBallsVector(100, observation="state", balls=balls)
    env.reset(seed=0)
    for _ in range(300):
        state = env.step(np.zeros((100, 1)))[0]
        assert (state >= env.single_observation_space.low).all()
        assert (state <= env.single_observation_space.high).all()
    speed = state.reshape(100, balls, 4)[..., 2:]
    np.testing.assert_allclose((speed**2).sum((1, 2)), 0.25, rtol=1e-5)


def test_starts():
    position, velocity = start(3000)
    assert not overlapping(position).any()
    assert position.min() > 1.2
    assert position.max() < 8.8
    np.testing.assert_allclose(np.sqrt((velocity**2).sum((1, 2))), 0.5, rtol=1e-6)
    # Scaled normal variates are uniform on a sphere: each of the four squares has mean 1/4.
    np.testing.assert_allclose((velocity**2).mean(0), 0.25 / 4, rtol=0.06)
    # Two discs of diameter 2.4 in a square of side 7.6 overlap with probability
    # pi q^2 - 8 q^3 / 3 + q^4 / 2, q = 2.4 / 7.6: a quarter of all placements are refused.
    generator = np.random.default_rng(0)
    q = 2.4 / 7.6
    share = overlapping(generator.uniform(1.2, 8.8, (100_000, 2, 2))).mean()
    assert share == pytest.approx(np.pi * q**2 - 8 * q**3 / 3 + q**4 / 2, abs=0.005)


def test_mean_speed_is_what_the_docstring_says():
    _, velocity = start(3000)
    assert np.linalg.norm(velocity, axis=-1).mean() * 2 == pytest.approx(0.67, abs=0.01)


def test_actions_do_nothing():
    ends = []
    for action in (-1.0, 1.0):
        env = BouncingBalls(observation="state")
        env.reset(seed=0)
        ends.append([env.step(np.float32([action]))[0] for _ in range(20)])
    np.testing.assert_array_equal(*ends)


# Pictures


def test_picture_is_the_formula():
    state = np.array([3.1, 4.0, 0, 0, 4.9, 4.6, 0, 0, 8.7, 1.3, 0, 0])
    env = BouncingBalls(balls=3, size=30)
    picture = env.reset(options={"state": state})[0][..., 0].astype(float)
    centre = (np.arange(30) + 0.5) / 3
    right, up = np.meshgrid(centre, centre[::-1])
    expected = np.zeros((30, 30))
    for x, y in state.reshape(3, 4)[:, :2]:
        expected += np.exp(-((((right - x) ** 2 + (up - y) ** 2) / 1.44) ** 4))
    assert expected.max() > 1.1  # two balls overlap
    np.testing.assert_allclose(picture, 255 * np.minimum(expected, 1), atol=0.51)


def test_pictures_are_symmetric_and_do_not_tell_balls_apart():
    env = BouncingBalls()

    def grey(x, y, a, b):
        return env.reset(options={"state": (x, y, 0, 0, a, b, 0, 0)})[0][..., 0].astype(int)

    picture = grey(2.25, 3.5, 6.125, 7.0)
    np.testing.assert_array_equal(grey(6.125, 7.0, 2.25, 3.5), picture)
    np.testing.assert_array_equal(grey(7.75, 3.5, 3.875, 7.0), picture[:, ::-1])
    np.testing.assert_array_equal(grey(2.25, 6.5, 6.125, 3.0), picture[::-1])


def test_centroid_of_the_picture_is_the_centre_of_mass():
    axis = np.arange(20) / 2 + 0.25
    env = BouncingBalls()
    for seed in range(20):
        picture, info = env.reset(seed=seed)
        position = info["state"].reshape(2, 4)[:, :2]
        picture = picture[..., 0].astype(float)
        x, y = picture.sum(0) @ axis, picture.sum(1) @ axis[::-1]
        np.testing.assert_allclose(np.array([x, y]) / picture.sum(), position.mean(0), atol=0.03)


def test_rgb_array_shows_balls_where_the_pixels_do():
    env = BouncingBalls(render_mode="rgb_array", size=256)
    bright = env.reset(options={"state": STATE})[0][..., 0] > 200
    scene = env.render()
    assert scene.shape == (256, 256, 3)
    rows, columns = np.nonzero(scene.min(-1) > 150)
    assert len(rows) == pytest.approx(2 * np.pi * (1.2 * 25.6 / 1.04) ** 2, rel=0.03)
    assert np.mean(columns) == pytest.approx(128 + (4.5 - 5) * 25.6 / 1.04, abs=1)
    assert np.mean(rows) == pytest.approx(128 - (5.5 - 5) * 25.6 / 1.04, abs=1)
    assert bright[int(256 - 3 * 25.6), int(2 * 25.6)]


# Interface


@pytest.mark.parametrize("observation", ["pixels", "state"])
def test_gymnasium_check_env_is_silent(observation, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    check_env(gym.make(ID, observation=observation, render_mode="rgb_array", balls=3).unwrapped)


@pytest.mark.parametrize("observation", ["pixels", "state"])
def test_stable_baselines_check_env(observation):
    with warnings.catch_warnings():
        # The paper's pictures are 20x20; the checker warns that its default CNN wants 36.
        warnings.filterwarnings("ignore", "The minimal resolution for an image is 36x36.*")
        check_env_sb3(gym.make(ID, observation=observation))


def test_spec_survives_json():
    env = gym.make(ID, balls=3)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert json.loads(env.spec.to_json())["kwargs"] == {"balls": 3}
    assert again.unwrapped.system == env.unwrapped.system


def test_spaces_reward_and_length():
    env = gym.make(ID, observation="state", balls=3)
    assert env.observation_space.shape == (12,)
    assert env.action_space == gym.spaces.Box(-1, 1, (1,), np.float32)
    assert BouncingBalls().observation_space == gym.spaces.Box(0, 255, (20, 20, 1), np.uint8)
    env.reset(seed=0)
    ends = [env.step(np.zeros(1))[1:4] for _ in range(200)]
    assert ends == [(0.0, False, False)] * 199 + [(0.0, False, True)]


def test_every_recorded_state_can_be_returned_to():
    env = BouncingBalls(observation="state", balls=5)
    env.reset(seed=0)
    for _ in range(200):
        state = env.step(np.zeros(1))[0]
        again = BouncingBalls(observation="state", balls=5)
        back = again.reset(options={"state": state})[0]
        np.testing.assert_allclose(back, state, rtol=1e-6)
        assert back in again.observation_space


# Bad input


def test_bad_actions():
    env = BouncingBalls()
    env.reset(seed=0)
    for bad in (np.zeros(2), np.float32([np.nan])):
        with pytest.raises(InvalidAction):
            env.step(bad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "wall"}, r"'babbling'.*wall"),
        ({"state": (2.0, 3.0, 0.1, 0.2)}, r"\(8,\).*\(4,\)"),
        ({"state": (*STATE[:4], 10.1, 8.0, 0, 0)}, r"0 to 10.*10\.1"),
        ({"state": (*STATE[:6], 0.5, 0.1)}, "norm .*at most 0.5"),
        ({"state": (*STATE[:7], np.nan)}, "finite"),
    ],
)
def test_bad_reset_options(options, message):
    with pytest.raises(ValueError, match=message):
        BouncingBalls().reset(options=options)


@pytest.mark.parametrize("balls", [0, 7, 2.0])
def test_bad_number_of_balls(balls):
    with pytest.raises(ValueError, match=f"balls.*{balls}"):
        BouncingBalls(balls=balls)
