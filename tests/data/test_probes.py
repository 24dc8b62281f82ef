import gymnasium as gym
import numpy as np
import pytest

from worldmodel.data.probes import PROBES, probes_for
from worldmodel.spaces import ActionSpace

BOX = gym.spaces.Box(np.float32([-2, 0]), np.float32([2, 1]))
CHOICE, UNBOUNDED = (
    gym.spaces.Discrete(4, start=1),
    gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
)
SWITCHES = gym.spaces.MultiBinary(3)

UNABLE = [(BOX, ()), (CHOICE, ("smooth",)), (SWITCHES, ("smooth",))]
UNABLE += [(UNBOUNDED, ("smooth", "square"))]


def drawn(name, space, steps=200):
    return PROBES[name].sample(ActionSpace.from_space(space), 6, steps, np.random.default_rng(0))


@pytest.mark.parametrize(("space", "missing"), UNABLE, ids=str)
def test_probes_that_are_possible_are_in_the_space_and_the_others_say_why(space, missing):
    able, unable = probes_for(ActionSpace.from_space(space))
    assert set(able) | set(unable) == set(PROBES) and not set(able) & set(unable)
    assert set(unable) == set(missing)
    for name in able:
        actions = drawn(name, space)
        assert all(space.contains(action) for action in actions.reshape(-1, *space.shape))
    assert all(str(space) in reason for reason in unable.values())


def test_smooth_actions_move_little_a_step_and_reach_the_bounds():
    actions, reach = drawn("smooth", BOX), BOX.high - BOX.low
    # Of half the range 1.5, the fastest sine of a period of 8 steps.
    assert (np.abs(np.diff(actions, axis=1)) < reach / 2 * 1.5 * 2 * np.pi / 8 + 1e-5).all()
    assert (actions.max((0, 1)) > BOX.high - 0.05 * reach).all()
    assert (actions.min((0, 1)) < BOX.low + 0.05 * reach).all()


def test_square_actions_are_at_the_bounds_for_a_while():
    actions = drawn("square", BOX)
    assert (np.isclose(actions, BOX.low) | np.isclose(actions, BOX.high)).all()
    changes = (np.diff(actions, axis=1) != 0).sum(1)
    assert (changes >= 200 // 19 - 1).all() and (changes <= 200 // 4 + 1).all()


def test_square_choices_are_two():
    assert all(len(np.unique(row)) <= 2 for row in drawn("square", CHOICE))
