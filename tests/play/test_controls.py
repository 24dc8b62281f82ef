import numpy as np
import pytest
from small import box, discrete

from worldmodel.play.controls import GENTLE, Controls

TORQUE = box(-5.0, 5.0)
PUSH = box((-0.25, -1.0), (0.25, 3.0))
ARM = box((-1.0,) * 5, (1.0,) * 5)
CHOICE = discrete(4)


def held(spec, *directions) -> Controls:
    controls = Controls(spec)
    for direction in directions:
        controls.hold(direction, True)
    return controls


@pytest.mark.parametrize(
    ("directions", "torque"),
    [((), 0), (("right",), 5), (("left",), -5), (("up",), 5), (("left", "right"), 0)],
)
def test_a_single_component(directions, torque):
    action = held(TORQUE, *directions).action()
    assert action.dtype == np.float32 and action.shape == (1,)
    assert action == pytest.approx(torque)


def test_two_components_are_moved_within_their_ranges():
    controls = held(PUSH, "left", "up")
    np.testing.assert_allclose(controls.action(), [-0.25, 3])
    controls.hold("up", False)
    np.testing.assert_allclose(controls.action(), [-0.25, 1])
    controls.gentle = True
    np.testing.assert_allclose(controls.action(), [-0.25 * GENTLE, 1])
    controls.release()
    np.testing.assert_allclose(controls.action(), [0, 1])


def test_a_stick_is_graded_and_rests():
    controls = Controls(PUSH)
    controls.tilt(0, 0.5)
    controls.tilt(1, 0.05)
    np.testing.assert_allclose(controls.action(), [0.125, 1])
    controls.hold("right", True)
    np.testing.assert_allclose(controls.action(), [0.25, 1], err_msg="never more than all")


def test_pairs_of_components_take_turns():
    controls = held(ARM, "right", "down")
    actions = []
    for _ in range(4):
        actions.append(controls.action())
        controls.next_pair()
    np.testing.assert_array_equal(
        actions, [[1, -1, 0, 0, 0], [0, 0, 1, -1, 0], [0, 0, 0, 0, 1], [1, -1, 0, 0, 0]]
    )


def test_discrete_actions_stay_chosen_and_directions_hold_the_ends():
    controls = Controls(CHOICE)
    assert controls.action() == 1
    controls.choose(2)
    controls.choose(7)
    assert controls.action() == 2 and controls.action().shape == ()
    controls.hold("right", True)
    assert controls.action() == 3
    controls.hold("right", False)
    controls.hold("left", True)
    assert controls.action() == 0
    controls.hold("left", False)
    assert controls.action() == 2


def test_a_number_means_nothing_to_a_box():
    controls = Controls(TORQUE)
    controls.choose(0)
    assert controls.action() == 0
