"""Names of what tasks of dm_control observe, held against their physics."""

import warnings

import gymnasium as gym
import numpy as np
import pytest

from worldmodel.data import Source
from worldmodel.systems import system_of


def truth_of(physics) -> dict[str, dict[str, float]]:
    """By domain, each named number as MuJoCo has it."""
    joints = physics.named.data
    position, speed = joints.qpos, joints.qvel

    def pendulum():
        angle = position["hinge"].item()
        return {"cos": np.cos(angle), "sin": np.sin(angle), "velocity": speed["hinge"].item()}

    def cartpole():
        angle = position["hinge_1"].item()
        return {
            "position": position["slider"].item(),
            "cos": np.cos(angle),
            "sin": np.sin(angle),
            "velocity": speed["slider"].item(),
            "angular_velocity": speed["hinge_1"].item(),
        }

    def reacher():
        first, second = position["shoulder"].item(), position["wrist"].item()
        way = joints.geom_xpos["target"] - joints.geom_xpos["finger"]
        return {
            "cos_1": np.cos(first),
            "sin_1": np.sin(first),
            "cos_2": np.cos(second),
            "sin_2": np.sin(second),
            "to_target_x": way[0],
            "to_target_y": way[1],
            "velocity_1": speed["shoulder"].item(),
            "velocity_2": speed["wrist"].item(),
        }

    def ball_in_cup():
        joint_names = ("cup_x", "cup_z", "ball_x", "ball_z")
        there = {name: position[name].item() for name in joint_names}
        return there | {f"{n[:-2]}_velocity_{n[-1]}": speed[n].item() for n in joint_names}

    return {f.__name__: f for f in (pendulum, cartpole, reacher, ball_in_cup)}


@pytest.mark.parametrize(
    ("domain", "task"),
    [
        ("pendulum", "swingup"),
        ("cartpole", "swingup"),
        ("cartpole", "balance_sparse"),
        ("reacher", "easy"),
        ("ball_in_cup", "catch"),
    ],
)
def test_the_numbers_of_dm_control_have_names(domain, task):
    pytest.importorskip("dm_control")
    pytest.importorskip("shimmy")
    env_id = f"shimmy:dm_control/{domain}-{task}-v0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other people's packages say while they are imported
        env = Source(env_id).make()
        env.reset(seed=0)
        for _ in range(5):
            observation, *_ = env.step(env.action_space.sample())
    state = gym.spaces.flatten(env.observation_space, observation)
    told = system_of(env_id).targets(state[None])
    expected = truth_of(env.unwrapped._env.physics)[domain]()
    assert list(told) == list(expected)
    for name, value in expected.items():
        assert told[name].item() == pytest.approx(value, abs=1e-6), name


def test_another_truth_has_numbers_for_names():
    targets = system_of("shimmy:dm_control/reacher-easy-v0").targets
    assert list(targets(np.zeros((1, 2)))) == ["state_0", "state_1"]
    states = np.random.default_rng(0).normal(size=(3, 5, 6))
    told = targets(states)
    assert all(values.shape == (3, 5) for values in told.values())
    np.testing.assert_allclose(told["cos_2"] ** 2 + told["sin_2"] ** 2, 1)
