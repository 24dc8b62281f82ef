"""Actions case by case."""

import gymnasium as gym
import numpy as np
import pytest
from any_space import RNG, Echo
from gymnasium.error import InvalidAction
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from worldmodel.errors import ShapeError, SpecError
from worldmodel.spaces import ActionSpace, scaling


def controls_of(space):
    return ActionSpace.from_space(space)


def test_kinds():
    assert controls_of(Box(-1, 1, (2, 2))).kind == "box"
    assert controls_of(Discrete(3, start=2)).kind == "discrete"
    for space in (MultiDiscrete([2, 2]), MultiBinary(2), Dict(a=Discrete(2))):
        assert controls_of(space).kind == "mixed"


def test_a_mixed_action():
    space = Dict(arm=Box(-2, 2, (2,)), gear=Discrete(3, start=-1), lamps=MultiBinary(2))
    actions = controls_of(space)
    action = {"arm": np.array([9, -0.5], np.float32), "gear": 1, "lamps": np.array([0, 1])}
    controls = actions.encode(action)
    assert controls.tolist() == [2, -0.5, 0, 0, 1, 0, 1]
    assert actions.low == (-2, -2, 0, 0, 0, 0, 0) and actions.high == (2, 2, 1, 1, 1, 1, 1)
    assert actions.continuous == (True, True, *[False] * 5)
    decoded = actions.decode(np.array([0, 0, 0.1, 0.9, 0.3, 0.5, 0.51]))
    assert decoded["gear"] == 0 and decoded["lamps"].tolist() == [0, 1]
    told = "arm: 2 numbers from -2 to 2, gear: one of 3, lamps: 2 switches"
    assert actions.describe() == told


def test_float64_bounds_hold_what_is_decoded():
    space = Box(-0.1, 0.1, (1,), np.float64)
    actions = controls_of(space)
    decoded = actions.decode(actions.encode(np.array([0.1])))
    assert decoded.dtype == np.float64 and decoded[0] == 0.1 and space.contains(decoded)
    assert actions.space().high[0] == 0.1


def test_integer_boxes_are_rounded():
    actions = controls_of(Box(-2, 5, (2,), np.int32))
    assert actions.decode(np.array([1.6, 99.0])).tolist() == [2, 5]


def test_bounds():
    low, high = np.array([0, -np.inf, -np.inf, -3e38]), np.array([np.inf, 1, np.inf, 3e38])
    actions = controls_of(Box(low, high, dtype=np.float64))
    assert actions.bounded == (False, False, False, True)
    assert actions.low[:2] == (0, -np.inf) and actions.high[:2] == (np.inf, 1)
    offset, scale, gain = actions.scaling()
    assert np.isnan(offset[:3]).all() and offset[3] == 0
    assert scale[3] == pytest.approx(3e38) and gain[3] * 3e38 == pytest.approx(1)
    endless = float(np.finfo(np.float32).max)
    assert controls_of(Box(-endless, endless, (1,))).bounded == (False,)
    assert controls_of(Box(-1e300, 1e300, (1,), np.float64)).low == (-np.inf,)
    assert controls_of(Box(-1, 1, (17,))).describe() == "17 numbers from -1 to 1"
    assert controls_of(Box(-2, 2, (1,))).describe() == "from -2 to 2"
    assert controls_of(Box(low, high, dtype=np.float64)).describe().startswith("from (0, -inf")


def test_scaling_is_safe():
    most = float(np.finfo(np.float64).max)
    offset, scale, gain = scaling((-most, 2.0, 0.0, 1e-320), (most, 2.0, 4.0, 2e-320))
    assert offset.tolist()[:3] == [0, 2, 2] and scale.tolist()[:3] == [most, 0, 2]
    assert np.isfinite(gain).all() and gain.tolist()[1:] == [0, 0.5, 0]


@pytest.mark.parametrize(
    "space",
    [
        Box(1e9, 1e9 + 1, (1,), np.float64),
        Box(2**30, 2**30 + 5, (1,), np.int64),
        Dict(a=Box(1e300, np.inf, (1,), np.float64)),
    ],
)
def test_ranges_that_float32_cannot_resolve_are_refused(space):
    with pytest.raises(SpecError, match=r"action(\.a)?: float32 controls"):
        controls_of(space)


def test_the_mend_of_a_large_offset():
    space = Box(1e9, 1e9 + 1, (1,), np.float64)
    with pytest.raises(SpecError, match=r"gymnasium\.wrappers\.RescaleAction\(env, -1, 1\)"):
        controls_of(space)
    mended = gym.wrappers.RescaleAction(Echo(action_space=space), -1.0, 1.0)
    assert controls_of(mended.action_space).bounded == (True,)


BOX = Box(-1, 1, (2,))
MIXED = Dict(arm=BOX, gear=Discrete(3))
INVALID = {
    "shape": (BOX, np.zeros(3, np.float32), r"action must be real and of shape \(2,\)"),
    "text": (BOX, "left", "action must be real"),
    "none": (BOX, None, "action must be real"),
    "ragged": (BOX, [[1.0], [1.0, 2.0]], "action must be an array"),
    "NaN": (BOX, np.array([0, np.nan]), "action must be finite"),
    "infinity": (BOX, np.array([0, np.inf]), "action must be finite"),
    "many": (Box(-1, 1, (40,)), np.full(40, np.inf), "action must be finite"),
    "complex": (BOX, np.zeros(2, complex), "action must be real"),
    "float to integers": (Box(0, 5, (1,), np.int64), np.array([1.0]), "action must be integer"),
    "index": (Discrete(3), 3, r"action must lie in \[0, 2\], got 3"),
    "below": (Discrete(3, start=1), 0, r"action must lie in \[1, 3\], got 0"),
    "float": (Discrete(3), 1.0, "action must be integer"),
    "indices": (MultiDiscrete([2, 3]), np.array([0, 3]), r"\[0, 2\], got 3 at \(1,\)"),
    "binary": (MultiBinary(2), np.array([0, 2]), r"\[0, 1\], got 2"),
    "no dict": (MIXED, np.zeros(2), "action must be a dict"),
    "part": (MIXED, {"arm": np.zeros(2), "gear": 7}, r"action\.gear must lie in \[0, 2\], got 7"),
}


@pytest.mark.parametrize(("space", "action", "message"), INVALID.values(), ids=INVALID)
def test_actions_that_cannot_be_taken_are_refused(space, action, message):
    with pytest.raises(InvalidAction, match=message):
        controls_of(space).encode(action)


def test_batches_of_another_size_are_refused():
    with pytest.raises(InvalidAction, match=r"\(3, 2\)"):
        controls_of(BOX).encode(np.zeros((2, 2)), (3,))


def test_finite_actions_outside_a_box_are_clipped():
    actions = controls_of(BOX)
    assert actions.encode(np.array([5, -1e300])).tolist() == [1, -1]
    assert actions.encode([5, -7]).tolist() == [1, -1]
    assert actions.encode(np.full((9, 2), 5), (9,)).max() == 1
    free = controls_of(Box(-np.inf, np.inf, (1,), np.float64))
    assert np.isfinite(free.encode(np.array([1e300]))).all()


def test_encoding_keeps_and_changes_nothing():
    for space in (BOX, Discrete(3), MultiBinary(2), Box(-1, 1, (40,))):
        actions, action = controls_of(space), space.sample()
        before, first = np.array(action), actions.encode(action)
        second = actions.encode(action)
        first += 5
        assert np.array_equal(actions.encode(action), second) and np.array_equal(action, before)


@pytest.mark.parametrize("controls", [np.zeros(3), np.array([0, np.nan]), np.zeros(())])
def test_controls_that_are_none_are_refused(controls):
    with pytest.raises(ShapeError, match="controls must"):
        controls_of(BOX).decode(controls)


def test_random_actions_are_those_of_before():
    """Datasets that were recorded with a seed are recorded the same again."""
    box = controls_of(Box(-2, 1, (3,)))
    expected = RNG(0).uniform([-2.0] * 3, [1.0] * 3, (4, 5, 3)).astype(np.float32)
    assert np.array_equal(box.sample(RNG(0), (4, 5)), expected)
    discrete = controls_of(Discrete(7, start=2)).sample(RNG(0), (4, 5))
    assert np.array_equal(discrete, 2 + RNG(0).integers(7, size=(4, 5)))


def test_random_actions_are_uniform():
    n = 20_000
    space = Tuple((Box(-2, 6, (1,)), Box(-1, 2, (1,), np.int8), MultiDiscrete([2, 3])))
    box, integer, indices = controls_of(space).sample(RNG(0), (n,))
    assert box.mean() == pytest.approx(2, abs=0.1) and box.std() == pytest.approx(8 / 12**0.5, 0.02)
    for values, count in ((integer[:, 0] + 1, 4), (indices[:, 0], 2), (indices[:, 1], 3)):
        share = np.bincount(values, minlength=count) / n
        assert np.abs(share - 1 / count).max() < 0.015


def test_random_actions_without_bounds_are_gymnasiums():
    low, high = np.array([3, -np.inf, -np.inf, 0]), np.array([np.inf, -3, np.inf, 1])
    space = Box(low, high, dtype=np.float64)
    ours = controls_of(space).sample(RNG(0), (20_000,))
    space.seed(0)
    theirs = np.stack([space.sample() for _ in range(20_000)])
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=0.04)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), atol=0.04)


@pytest.mark.parametrize(
    "controls", [np.array([None, None]), np.zeros(2, np.complex64), np.array(["a", "b"])]
)
def test_controls_that_are_no_numbers_are_refused(controls):
    with pytest.raises(ShapeError, match="controls must be numbers, got"):
        ActionSpace.from_space(Box(-1, 1, (2,))).decode(controls)
