"""Memory stays as it is, however long something goes on."""

import sys
from mmap import PAGESIZE, mmap

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
    """Pages of their own: what arrays take may be what was freed before."""
    kept = []

    def work(times):
        for _ in range(times):
            kept.append(mmap(-1, PAGESIZE))
            kept[-1].write(b"x")

    found = soak(work, 4000)
    assert found.bytes == pytest.approx(PAGESIZE, rel=0.3)
    assert not found.flat(4000, MOST)


def test_dreams_keep_nothing():
    steps = 200_000 * ROUNDS
    found = soak(dreams(), steps)
    assert found.flat(steps, MOST), found


def test_training_keeps_nothing(tmp_path):
    updates = 120 * ROUNDS
    found = soak(training(tmp_path, 4 * updates), updates)
    assert found.flat(updates, MOST), found
