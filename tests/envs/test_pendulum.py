import json
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import DependencyNotInstalled, InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import envs  # noqa: F401 - registers the ids
from envs.pendulum import (
    GRAVITY,
    INTERVAL,
    Pendulum,
    PendulumSystem,
    pack_state,
    reward,
    rk4_step,
    wrap_angle,
)

ID = "worldmodel/Pendulum-v0"


def random_states(n, speed=8.0, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(-np.pi, np.pi, n), generator.uniform(-speed, speed, n)


def energy(angle, velocity):
    return velocity**2 / 2 + GRAVITY * np.cos(angle)


# Physics


def test_rk4_converges_with_fourth_order():
    angle, velocity = random_states(200)
    torque = np.full(200, 3.0)
    true_angle, true_velocity = rk4_step(angle, velocity, torque, seconds=1.0, substeps=4000)
    steps = np.array([20, 40, 80, 160])
    errors = []
    for substeps in steps:
        a, v = rk4_step(angle, velocity, torque, seconds=1.0, substeps=int(substeps))
        errors.append(np.sqrt(np.mean((a - true_angle) ** 2 + (v - true_velocity) ** 2)))
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert -4.3 < slope < -3.7


def test_rk4_agrees_with_an_independent_solver():
    from scipy.integrate import solve_ivp

    angle, velocity = 2.5, -4.0
    solution = solve_ivp(
        lambda _, s: (s[1], -0.5 * s[1] + 9.81 * np.sin(s[0]) + 1.5),
        (0, 5),
        (angle, velocity),
        rtol=1e-11,
        atol=1e-11,
    )
    state = np.array([angle]), np.array([velocity])
    for _ in range(50):
        state = rk4_step(*state, np.array([1.5]))
    np.testing.assert_allclose(np.ravel(state), solution.y[:, -1], atol=2e-4)


def test_energy_is_conserved_without_friction_and_lost_with_it():
    angle, velocity = random_states(500)
    torque, before = np.zeros(500), energy(angle, velocity)
    free, damped = (angle, velocity), (angle, velocity)
    for _ in range(200):
        free = rk4_step(*free, torque, friction=0.0)
        damped = rk4_step(*damped, torque)
    assert np.abs(energy(*free) - before).max() < 1e-4 * GRAVITY
    assert np.all(energy(*damped) < before)


def test_up_is_unstable_and_hanging_is_at_rest():
    angle, velocity = rk4_step(np.array([1e-3, np.pi]), np.zeros(2), np.zeros(2), seconds=1.0)
    assert angle[0] > 5e-3
    np.testing.assert_allclose([angle[1], velocity[1]], [np.pi, 0], atol=1e-12)


def test_positive_torque_accelerates_positively_by_its_value():
    _, velocity = rk4_step(np.zeros(1), np.zeros(1), np.array([2.0]), seconds=1e-4)
    assert velocity[0] == pytest.approx(2e-4, rel=1e-3)


def test_speed_never_exceeds_its_bound():
    config = PendulumSystem()
    assert config.max_speed == pytest.approx((5 + 9.81) / 0.5)
    angle, _ = random_states(2000)
    velocity = np.full(2000, config.max_speed)
    for _ in range(100):
        angle, velocity = rk4_step(angle, velocity, np.full(2000, 5.0))
        assert np.abs(velocity).max() < config.max_speed


@pytest.mark.parametrize(
    ("angle", "wrapped"),
    [
        (0.0, 0.0),
        (np.pi, np.pi),
        (-np.pi, np.pi),
        (3 * np.pi / 2, -np.pi / 2),
        (-7.0, -7 + 2 * np.pi),
    ],
)
def test_wrap_angle(angle, wrapped):
    assert wrap_angle(np.array([angle]))[0] == pytest.approx(wrapped, abs=1e-12)


def test_wrapped_angles_lie_in_the_half_open_interval_and_are_fixed_points():
    near = np.pi * np.arange(-41, 42, 2)
    angles = np.concatenate(
        [np.nextafter(near, -np.inf), near, np.nextafter(near, np.inf), np.linspace(-50, 50, 9999)]
    )
    wrapped = wrap_angle(angles)
    assert np.all((wrapped > -np.pi) & (wrapped <= np.pi))
    np.testing.assert_array_equal(wrap_angle(wrapped), wrapped)
    np.testing.assert_allclose(np.exp(1j * wrapped), np.exp(1j * angles), atol=1e-12)


def test_packed_angle_never_rounds_to_minus_pi():
    state = pack_state(np.array([np.nextafter(-np.pi, 0), np.pi]), np.zeros(2))
    assert state.dtype == np.float32
    np.testing.assert_array_equal(state[:, 0], np.float32([np.pi, np.pi]))


def test_reward_equals_that_of_pendulum_v1():
    theirs = gym.make("Pendulum-v1").unwrapped
    theirs.reset(seed=0)
    for angle, velocity, torque in [(0.0, 0.0, 0.0), (4.0, -3.0, 1.5), (-2.0, 7.0, -2.0)]:
        theirs.state = np.array([angle, velocity])
        expected = theirs.step(np.array([torque]))[1]
        ours = reward(np.array([angle]), np.array([velocity]), np.array([torque]))[0]
        assert ours == pytest.approx(expected, abs=1e-12)


# Interface


@pytest.mark.parametrize("observation", ["pixels", "state"])
@pytest.mark.parametrize("max_torque", [1.0, 5.0])
def test_gymnasium_check_env_is_silent(observation, max_torque, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gym.make(ID, observation=observation, max_torque=max_torque, render_mode="rgb_array")
    with warnings.catch_warnings():
        if max_torque > 1:
            # The action is a torque in its physical unit; the checker recommends [-1, 1].
            warnings.filterwarnings("ignore", ".*symmetric and normalized space.*")
        check_env(env.unwrapped)


@pytest.mark.parametrize("observation", ["pixels", "state"])
def test_stable_baselines_check_env(observation):
    with warnings.catch_warnings():
        # The paper's pictures are 16x16; the checker warns that its default CNN wants 36.
        warnings.filterwarnings("ignore", "The minimal resolution for an image is 36x36.*")
        check_env_sb3(gym.make(ID, observation=observation, max_torque=1.0))


def test_spec_survives_json():
    env = gym.make(ID, observation="state", max_torque=2.0)
    spec = EnvSpec.from_json(env.spec.to_json())
    assert json.loads(env.spec.to_json())["kwargs"] == {"observation": "state", "max_torque": 2.0}
    again = gym.make(spec)
    np.testing.assert_array_equal(again.reset(seed=3)[0], env.reset(seed=3)[0])
    assert again.unwrapped.system == env.unwrapped.system


def test_spaces():
    env = Pendulum(size=20)
    assert env.observation_space == gym.spaces.Box(0, 255, (20, 20, 1), np.uint8)
    assert env.action_space == gym.spaces.Box(-5, 5, (1,), np.float32)
    state = Pendulum(observation="state")
    assert state.observation_space.is_bounded()
    assert state.reset(seed=0)[0] in state.observation_space


def test_observation_agrees_with_info_and_reward_with_the_state_before():
    env = Pendulum(observation="state")
    observation, info = env.reset(options={"state": (1.0, -2.0)})
    np.testing.assert_array_equal(observation, np.float32([1, -2]))
    np.testing.assert_array_equal(info["state"], observation)
    observation, paid, terminated, truncated, info = env.step(np.float32([3]))
    assert paid == pytest.approx(-(1 + 0.4 + 0.009))
    assert (terminated, truncated) == (False, False)
    np.testing.assert_array_equal(info["state"], observation)
    expected = rk4_step(np.array([1.0]), np.array([-2.0]), np.array([3.0]), seconds=INTERVAL)
    np.testing.assert_allclose(observation, np.ravel(expected), rtol=1e-6)


def test_truncates_after_200_steps():
    env = gym.make(ID, observation="state")
    env.reset(seed=0)
    ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(200)]
    assert ends == [(False, False)] * 199 + [(False, True)]


def test_same_seed_same_episode():
    def episode():
        env = Pendulum()
        frames = [env.reset(seed=7)[0]]
        frames += [env.step(np.float32([np.sin(t)]))[0] for t in range(30)]
        frames.append(env.reset()[0])
        return np.stack(frames)

    np.testing.assert_array_equal(episode(), episode())


def test_starts():
    env = Pendulum(observation="state")
    hanging = env.reset(options={"start": "hanging"})[1]["state"]
    np.testing.assert_array_equal(hanging, np.float32([np.pi, 0]))
    given = env.reset(options={"state": [-np.pi, 1.5]})[1]["state"]
    np.testing.assert_array_equal(given, np.float32([np.pi, 1.5]))
    env.reset(seed=0)
    starts = np.stack([env.reset(options={"start": "babbling"})[0] for _ in range(2000)])
    limits = np.array([np.pi, 6.0])
    assert np.all(np.abs(starts) <= np.float32(limits))
    np.testing.assert_allclose(starts.std(0), limits / np.sqrt(3), rtol=0.05)
    np.testing.assert_allclose(starts.mean(0) / limits, 0, atol=0.05)


# Bad input


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(2, np.float32), r"shape \(1,\), got \(2,\)"),
        (0.0, r"shape \(1,\), got \(\)"),
        (np.float32([np.nan]), "finite, got"),
        (np.float32([np.inf]), "finite, got"),
        (["left"], "real numbers"),
        ([None], "real numbers"),
        ([1j], "real numbers"),
        ([[1.0], [1.0, 2.0]], "must be an array"),
    ],
)
def test_bad_action_is_refused_and_changes_nothing(action, message):
    env = Pendulum(observation="state")
    env.reset(seed=0)
    with pytest.raises(InvalidAction, match=message):
        env.step(action)
    after = env.step(np.zeros(1, np.float32))[0]
    env.reset(seed=0)
    np.testing.assert_array_equal(env.step(np.zeros(1, np.float32))[0], after)


def test_torque_beyond_the_box_is_clipped():
    results = []
    for torque in (5.0, 70.0):
        env = Pendulum(observation="state")
        env.reset(seed=0)
        results.append(env.step(np.float32([torque]))[:2])
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"begin": "hanging"}, "begin"),
        ({"start": "upright"}, "upright"),
        ({"start": 3}, "3"),
        ({"state": (0.0,)}, r"\(1,\)"),
        ({"state": "up"}, "up"),
        ({"state": None}, "state"),
        ({"state": (np.nan, 0.0)}, "finite"),
        ({"state": (0.0, 30.0)}, r"rad/s.*30"),
        ({"start": "hanging", "state": (0, 0)}, "exclude"),
    ],
)
def test_bad_reset_options(options, message):
    with pytest.raises(ValueError, match=message):
        Pendulum().reset(options=options)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"observation": "sound"}, "sound"),
        ({"size": 4}, "4"),
        ({"size": 16.0}, "16.0"),
        ({"max_torque": 0.0}, "0.0"),
        ({"max_torque": np.inf}, "inf"),
        ({"max_torque": "5"}, "'5'"),
        ({"render_mode": "ansi"}, "ansi"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Pendulum(**kwargs)


def test_reset_is_needed():
    env = Pendulum(render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match="step"):
        env.step(np.zeros(1, np.float32))
    with pytest.raises(ResetNeeded, match="render"):
        env.render()


# Rendering


def test_rgb_array_shows_the_torque():
    env = Pendulum(render_mode="rgb_array")
    env.reset(options={"start": "hanging"})
    still = env.render()
    assert still.shape == (256, 256, 3)
    assert still.dtype == np.uint8
    env.step(np.float32([5.0]))
    moved = env.render()
    orange = (moved[..., 0] > 200) & (moved[..., 2] < 100)
    assert orange.sum() > 100
    assert not ((still[..., 0] > 200) & (still[..., 2] < 100)).any()


def test_render_without_a_mode_warns():
    env = Pendulum()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


def test_human_window(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame

    env = gym.make(ID, render_mode="human")
    env.reset(options={"start": "hanging"})
    env.step(np.float32([5.0]))
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    twin = Pendulum(render_mode="rgb_array")
    twin.reset(options={"start": "hanging"})
    twin.step(np.float32([5.0]))
    np.testing.assert_array_equal(shown, twin.render())
    assert env.render() is None
    env.close()
    assert pygame.display.get_surface() is None
    env.close()


def test_human_without_pygame_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(DependencyNotInstalled, match=r"worldmodel\[viewer\]"):
        Pendulum(render_mode="human")
