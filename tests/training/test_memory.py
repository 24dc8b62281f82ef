import os
import subprocess
import sys
from pathlib import Path

import pytest


def peaks(*portions: int) -> list[float]:
    """Megabytes that training and evaluation take on so many portions of 5 MB, each."""
    script = Path(__file__).with_name("peak.py")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(n)], stdout=subprocess.PIPE, text=True, env=env
        )
        for n in portions
    ]
    said = [process.communicate()[0] for process in running]
    assert not any(process.returncode for process in running)
    return [float(text.splitlines()[-1]) for text in said]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_does_not_depend_on_the_number_of_episodes():
    """What an allocator keeps by chance is up to a tenth of it, and no part of what is needed."""
    tries: list[list[float]] = []
    for _ in range(4):
        tries.append(peaks(3, 24))
        few, many = map(min, zip(*tries, strict=True))
        if abs(many - few) < 0.1 * few:
            return
    pytest.fail(f"megabytes for 3 and for 24 portions: {tries}")
