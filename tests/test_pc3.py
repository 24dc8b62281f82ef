"""The tasks of PC3 in the benchmarks: what moves how, and what is seen of it."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def make(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import pc3

    assert pc3.Planar.side == 40
    return lambda name, **kwargs: gym.make(f"PC3{name}-v0", render_mode="rgb_array", **kwargs)


@pytest.mark.parametrize("name", ["Planar", "Pendulum", "CartPole"])
@pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric and normalized space")
def test_they_are_environments_that_can_be_seen(make, name):
    env = make(name, anywhere=True)
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    before = env.render()
    assert before.shape == (env.unwrapped.side, env.unwrapped.side, 3)
    assert before.dtype == np.uint8
    assert before.max() == 255
    for _ in range(5):
        env.step(env.action_space.high)
    assert (env.render() != before).any()


def test_the_square_goes_round_the_discs(make):
    env = make("Planar", anywhere=True)
    env.action_space.seed(0)
    moves = stays = 0
    for seed in range(20):
        place, _ = env.reset(seed=seed)
        for _ in range(40):
            action = env.action_space.sample()
            arrived, _, _, truncated, _ = env.step(action)
            expected = (place + action).clip(1.5, 38.5)
            blocked = np.linalg.norm(env.unwrapped._discs - expected, axis=1).min() < 4
            np.testing.assert_allclose(arrived, place if blocked else expected, rtol=1e-5)
            moves, stays, place = moves + (not blocked), stays + blocked, arrived
    assert truncated
    assert moves > 500
    assert stays > 20


def test_the_square_is_drawn_where_it_is(make):
    env = make("Planar")
    env.reset(seed=3)
    env.unwrapped.state = np.array([10.5, 30.5])
    shown = env.render()[..., 0] / 255
    assert shown[9:12, 29:32].min() == 1
    assert shown[7:14, 27:34].sum() == pytest.approx(9)


def test_a_pendulum_without_torque_keeps_its_energy(make):
    env = make("Pendulum", start="upright")
    env.reset(seed=0)
    env.unwrapped.state = np.array([2.0, 0.0])

    def energy():
        angle, velocity = env.unwrapped.state
        return 0.1 * 0.5**2 / 6 * velocity**2 + 0.1 * 9.81 * 0.25 * np.cos(angle)

    first, seen = energy(), []
    for _ in range(100):
        env.step(np.zeros(1))
        seen.append(env.unwrapped.state[0])
    assert energy() == pytest.approx(first, abs=0.02)
    assert min(np.abs(seen)) > 1.9  # it swings below
    assert np.ptp(np.cos(seen)) > 0.5


def test_goals_are_paid(make):
    env = make("Pendulum", start="upright")
    env.reset(seed=0)
    assert env.step(np.zeros(1))[1] == 1.0
    hanging = make("Pendulum")
    hanging.reset(seed=0)
    assert hanging.step(np.zeros(1))[1] == 0.0
    with pytest.raises(ValueError, match="start must be 'hanging' or 'upright', got 'sideways'"):
        make("Pendulum", start="sideways")


def test_a_cart_stops_at_the_end_of_its_track(make):
    env = make("CartPole")
    env.reset(seed=0)
    for _ in range(120):
        env.unwrapped.step(np.array([10.0]))
    assert env.unwrapped.state[0] <= 2.4
    assert env.unwrapped.state.shape == (4,)
