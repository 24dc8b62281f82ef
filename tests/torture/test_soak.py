"""Memory stays as it is, however long something goes on."""

import sys

import numpy as np
import pytest
from soak import BLOCKS, dreams, slope, soak, training
from torture import ROUNDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
MOST = 3e6  # bytes in all: a twentieth of what a copy of every observation would take


def test_the_slope_is_that_of_a_line_with_noise():
    rng, done = np.random.default_rng(0), np.arange(BLOCKS) * 1000
    found = [slope(done, 5e8 + 7.0 * done + rng.normal(0, 1e4, BLOCKS)) for _ in range(200)]
    off = np.array([(one.bytes - 7.0) / one.error for one in found])
    assert 0.8 < off.std() < 1.25 and abs(off.mean()) < 0.3


def test_what_is_kept_is_found():
    kept = []

    def work(times):
        kept.extend(np.full(250, 1.0) for _ in range(times))

    found = soak(work, 20_000)
    assert found.bytes - 2 * found.error > 1500 and found.bytes < 3000
    assert not found.flat(20_000, MOST)


def test_dreams_keep_nothing():
    steps = 200_000 * ROUNDS
    found = soak(dreams(), steps)
    assert found.flat(steps, MOST), found


def test_training_keeps_nothing(tmp_path):
    updates = 120 * ROUNDS
    found = soak(training(tmp_path, 4 * updates), updates)
    assert found.flat(updates, MOST), found
