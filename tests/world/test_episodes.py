"""Beginnings and ends of many dreams' episodes: compiled as in arrays."""

import numpy as np
import pytest

from worldmodel.world import interpreter
from worldmodel.world.episodes import turn


def drawn(n: int, seed: int) -> list[np.ndarray]:
    """Whose episode is over and what else ``turn`` takes, at step 50."""
    rng = np.random.default_rng(seed)
    over, flags = rng.random(n) < 0.3, rng.random((3, n)) < 0.2
    began = rng.integers(0, 50, n)
    sizes = (3, n), (n, 3), (6,), (3, n), (4, n), (n, 3), (n,), (2, n)
    first, seen, begin, states, memory, observations, rewards, bounds = (
        rng.random(size, np.float32) for size in sizes
    )
    return [
        *(over, began, first, seen, begin),
        *(states, memory, observations, rewards, flags, bounds),
    ]


@pytest.mark.parametrize("greatest", [np.inf, 0.5])
@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("limit", [20, 2**62])
@pytest.mark.parametrize("n", [1, 3, 64, 500])
def test_compiled_as_in_arrays(n, limit, outside, greatest):
    for seed in range(3):
        ours, theirs = drawn(n, seed), drawn(n, seed)
        began = int(np.count_nonzero(ours[0]))
        rules = 50, limit, outside, greatest, 0
        assert turn(*rules, *ours) == interpreter.turn(*rules, *theirs)
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, other)
        over, begun, first, *_, states, _, _, rewards, flags, _ = theirs
        new = begun == 50
        assert np.count_nonzero(new) == began
        np.testing.assert_array_equal(states[:, new], first[:, :began])
        assert not rewards[new].any() and not flags[:, new].any() and not over[new].any()
        np.testing.assert_array_equal(over, flags[0] | flags[2])


def late_begun(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """All began now, and the first of them ends at once."""
    over, began, *others, flags, bounds = arrays
    ended = np.zeros_like(flags)
    ended[0, 0] = True
    return [np.zeros_like(over), np.full_like(began, 50), *others, ended, bounds]


def test_who_ends_is_who_terminates_leaves_or_is_late():
    arrays = drawn(6, 0)
    over, began, *_, flags, bounds = arrays
    over[:], began[:] = False, [0, 0, 0, 0, 30, 31]
    flags[:], flags[0, 1], flags[1, 2] = False, True, True
    bounds[0] = [0, 0, 0, 0.9, 0, 0]
    assert turn(50, 20, True, np.inf, 0, *arrays) == (5, 51)
    np.testing.assert_array_equal(flags[2], [True, True, True, True, True, False])
    assert turn(50, 20, False, np.inf, 0, *late_begun(arrays)) == (1, 70)
    began[:] = [40, 40, 40, 40, 30, 31]
    assert turn(50, 20, True, np.inf, 0, *(np.zeros_like(over), *arrays[1:])) == (3, 51)
    np.testing.assert_array_equal(flags[2], [False, False, True, False, True, False])
    assert turn(50, 20, False, 0.5, 0, *(np.zeros_like(over), *arrays[1:])) == (3, 51)
    np.testing.assert_array_equal(flags[2], [False, False, False, True, True, False])
