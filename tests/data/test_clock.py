"""Time: what is irregular is found, and what was jittered and dropped is put in its place."""

from __future__ import annotations

import numpy as np
import pytest

from worldmodel.data.importing.clock import Clocked, grid, held, nearest, spread_rewards
from worldmodel.data.importing.regrid import regrid
from worldmodel.data.sampling import sampling
from worldmodel.errors import ConfigError, FileFormatError

HZ = 20.0


def recorded(rng, steps=400, jitter=0.2, dropped=0.05):
    """Which of the true entries were kept, and the times they were stamped with."""
    times = (np.arange(steps) + jitter * rng.uniform(-1, 1, steps)) / HZ
    kept = rng.uniform(size=steps) >= dropped
    kept[[0, -1]] = True
    return np.flatnonzero(kept), times[kept] + 12.5


def test_jitter_and_gaps_are_measured():
    rng = np.random.default_rng(0)
    kept, times = recorded(rng)
    measured = sampling(np.diff(times))
    # Eight standard errors of the median of 400 intervals.
    assert measured.period == pytest.approx(1 / HZ, rel=0.08)
    assert measured.missing == 400 - len(kept)
    assert measured.gaps == (np.diff(kept) > 1).sum()
    # The difference of two uniform jitters of 20 % of a period.
    assert measured.jitter == pytest.approx(0.2 * np.sqrt(2 / 3), rel=0.1)
    assert not measured.regular and "gaps" in measured.describe()
    assert sampling(np.full(9, 0.1)).regular


def test_what_was_jittered_and_dropped_returns_to_its_step():
    """Every entry carries its number, so that each is seen to be where it belongs."""
    kept, times = recorded(np.random.default_rng(1))
    arrays = {
        "camera": kept.astype(np.float64)[:, None],
        "actions": kept.astype(np.float64),
        "rewards": kept.astype(np.float64),
        "terminated": kept == 399,
    }
    out = regrid(arrays, dict.fromkeys(arrays, times), HZ, "an episode")
    assert len(out["timestamps"]) == 400 and len(out["actions"]) == 399
    np.testing.assert_allclose(np.diff(out["timestamps"]), 1 / HZ)
    present = np.isin(np.arange(400), kept)
    np.testing.assert_array_equal(out["seen"], present)
    np.testing.assert_array_equal(out["camera"][present, 0], kept)
    last = np.maximum.accumulate(np.where(present, np.arange(400), 0))
    np.testing.assert_array_equal(out["actions"], last[:-1])
    np.testing.assert_array_equal(out["rewards"], last[:-1])
    np.testing.assert_array_equal(out["terminated"], np.arange(399) == 398)


def test_streams_of_different_rates_meet_on_one_grid():
    camera, joint, motor = np.arange(0, 4, 0.1), np.arange(0, 4, 0.01), np.arange(0, 4, 0.02)
    arrays = {
        "camera": camera[:, None],
        "joint": joint[:, None],
        "actions": motor,
        "rewards": np.ones(len(motor)),
    }
    times = {"camera": camera, "joint": joint, "actions": motor, "rewards": motor}
    out = regrid(arrays, times, 25.0, "an episode")
    at = out["timestamps"]
    assert out["seen"].all()
    assert np.abs(out["camera"][:, 0] - at).max() <= 0.05 + 1e-9
    assert np.abs(out["joint"][:, 0] - at).max() <= 0.005 + 1e-9
    # In force when a step begins is what was given less than 0.02 s before.
    lag = at[:-1] - out["actions"]
    assert lag.min() >= -0.01 - 1e-9 and lag.max() <= 0.02 + 1e-9
    np.testing.assert_allclose(out["rewards"], 2.0)  # of two source steps


@pytest.mark.parametrize("hz", [5.0, 10.0, 20.0, 40.0])
def test_rewards_keep_their_sum(hz):
    rng = np.random.default_rng(4)
    times, rewards = np.arange(200) / 20, rng.normal(size=200)
    at = np.arange(0, int(10 * hz) + 1) / hz
    total = spread_rewards(Clocked(times, rewards), at).sum()
    assert total == pytest.approx(rewards.sum(), abs=1e-9)


def test_nearest_and_held_agree_with_a_search():
    rng = np.random.default_rng(5)
    times, at = np.sort(rng.uniform(0, 5, 40)), np.linspace(-1, 6, 101)
    index, close = nearest(times, at, 0.07)
    distances = np.abs(times[None] - at[:, None])
    np.testing.assert_allclose(np.abs(times[index] - at), distances.min(1))
    np.testing.assert_array_equal(close, distances.min(1) <= 0.07)
    expected = [max([i for i, t in enumerate(times) if t <= point], default=0) for point in at]
    np.testing.assert_array_equal(held(times, at), expected)


def test_streams_that_share_no_time_are_refused():
    streams = {"camera": np.arange(3.0), "actions": np.arange(10.0, 13.0)}
    with pytest.raises(FileFormatError, match=r"run 3: .*'camera': '0 to 2 s'"):
        grid(streams, 10.0, "run 3")
    with pytest.raises(ConfigError, match="got -1"):
        grid(streams, -1.0, "run 3")
