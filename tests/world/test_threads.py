"""Many dreams by several threads: the same ones, and no hang in a forked child."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.world.vector_env import LatentVectorEnv


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def dreamt(n, steps=3):
    """All that some steps of n dreams give."""
    env = LatentVectorEnv("pendulum", n)
    env.reset(seed=0)
    env.action_space.seed(0)
    seen = []
    for _ in range(steps):
        *arrays, infos = env.step(env.action_space.sample())
        seen += [*arrays, infos["error_bound"], infos["outside_support"], env.states]
    return seen


@pytest.mark.parametrize("n", [4096, 6200])
def test_their_number_changes_no_bit(threads, n):
    threads(1)
    expected = dreamt(n)
    for count in (2, 3, 7):
        threads(count)
        for found, alone in zip(dreamt(n), expected, strict=True):
            np.testing.assert_array_equal(found, alone)
    assert any(thread.name.startswith("worldmodel-step") for thread in threading.enumerate())


def test_what_one_of_them_finds_is_said(threads):
    threads(2)
    env = LatentVectorEnv("pendulum", 4096, noise=False)
    known = env.world.support.states[0].numpy()
    for row in (0, 4095):
        states = np.repeat(known[np.newaxis], 4096, 0)
        states[row] = 1e6
        env.reset(options={"state": states})
        truncations = env.step(np.zeros((4096, 1), np.float32))[3]
        assert np.flatnonzero(truncations).tolist() == [row]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_begins_its_own():
    here = Path(__file__)
    paths = [str(here.parents[2]), os.environ.get("PYTHONPATH", "")]
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, str(here)],
        env=kept | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0 and done.stdout == "stepped\n", done.stderr


def main():
    torch.set_num_threads(2)
    expected = dreamt(4096)
    if (child := os.fork()) == 0:
        same = all(map(np.array_equal, dreamt(4096), expected))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    print("stepped")


if __name__ == "__main__":
    main()
