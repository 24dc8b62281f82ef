"""What is told of the shipped systems' truth: names of their states, and whether a task is done."""

import numpy as np
import pytest

from worldmodel.systems import ball, pendulum, two_balls


def test_a_pendulums_targets_go_round_with_it():
    states = np.array([[[np.pi / 2, 3.0]]])
    named = pendulum.targets(states)
    assert {k: v.item() for k, v in named.items()} == pytest.approx(
        {"sin": 1.0, "cos": 0.0, "velocity": 3.0}, abs=1e-12
    )


def test_a_balls_targets_are_its_state():
    states = np.random.default_rng(0).normal(size=(5, 7, 4))
    targets = ball.targets(states)
    assert list(targets) == ["x", "y", "vx", "vy"]
    np.testing.assert_array_equal(np.stack(list(targets.values()), -1), states)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_balls_are_numbered_from_left_to_right_whatever_the_recorder_calls_them(count):
    rng = np.random.default_rng(0)
    balls = rng.uniform(0, 10, (5, 7, count, 4))
    targets = two_balls.targets(balls.reshape(5, 7, -1))
    exchanged = two_balls.targets(balls[:, :, rng.permutation(count)].reshape(5, 7, -1))
    assert len(targets) == 4 * count
    for name, values in targets.items():
        np.testing.assert_array_equal(values, exchanged[name])
    for i in range(1, count):
        assert (targets[f"x_{i}"] <= targets[f"x_{i + 1}"]).all()
    # Positions and velocities stay with their ball.
    for one in balls[2, 3]:
        found = [
            [targets[f"{v}_{i + 1}"][2, 3] for v in ("x", "y", "vx", "vy")] for i in range(count)
        ]
        assert one.tolist() in found


def swing(angles):
    return np.stack([angles, np.zeros_like(angles)], -1)


def test_upright_means_upright_in_every_one_of_the_last_frames():
    up, down, turns = 0.0, np.pi, 4 * np.pi
    angles = np.full((5, 30), down)
    angles[0] = up
    angles[1, 10:] = up  # swung up in time
    angles[2] = up
    angles[2, -3] = 0.4  # cos 0.4 = 0.92: fell once
    angles[3, :-20] = up  # fell at the end
    angles[4] = turns + 0.3  # cos 0.3 = 0.955, after two turns
    assert pendulum.upright_fraction(swing(angles)) == pytest.approx(3 / 5)
    assert pendulum.upright_fraction(swing(angles), last=2) == pytest.approx(4 / 5)
    assert pendulum.upright_fraction(swing(angles), cosine=0.9) == pytest.approx(4 / 5)
    assert pendulum.upright_fraction(swing(angles), cosine=0.96) == pytest.approx(2 / 5)


def test_at_the_target_means_there_after_every_one_of_the_last_steps():
    rewards = np.full((4, 30), -1.5)
    rewards[0] = -0.1
    rewards[1, 10:] = -0.1  # there in time
    rewards[2] = -0.1
    rewards[2, -3] = -0.25  # left once
    rewards[3, :-20] = -0.1  # left for good
    assert ball.at_target_fraction(rewards) == pytest.approx(2 / 4)
    assert ball.at_target_fraction(rewards, last=2) == pytest.approx(3 / 4)
    assert ball.at_target_fraction(rewards, within=0.3) == pytest.approx(3 / 4)
    assert ball.at_target_fraction(rewards, within=0.05) == 0


def test_in_the_middle_means_along_both_axes_in_every_last_frame():
    states = np.zeros((4, 30, 4))
    states[1, -1, 0] = 0.6
    states[2, :5, 1] = 0.9
    states[3, -10, 1] = -0.55
    states[:, :, 2] = 7.0
    assert ball.in_middle_fraction(states) == pytest.approx(2 / 4)
    assert ball.in_middle_fraction(states, last=5) == pytest.approx(3 / 4)
    assert ball.in_middle_fraction(states, within=0.7) == 1
