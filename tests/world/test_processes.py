"""Environments in processes of their own, however these begin."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASES = [
    ("gymnasium", "fork", "dream"),
    ("gymnasium", "fork", "filtered"),
    ("gymnasium", "spawn", "dream"),
    ("gymnasium", "forkserver", "dream"),
    ("stable-baselines3", "fork", "film"),
    ("stable-baselines3", "fork", "filtered"),
    ("stable-baselines3", "spawn", "filtered"),
]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_environments_step_in_other_processes(case):
    """A hang, such as of torch's threads in a forked child, is a time-out."""
    if case[1] != "spawn" and not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    paths = [str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, str(HERE / "vector_processes.py"), *case],
        env=kept | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0 and done.stdout == "stepped\n", done.stderr
