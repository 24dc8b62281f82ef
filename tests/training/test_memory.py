import subprocess
import sys
from pathlib import Path

import pytest


def peak(portions: int) -> float:
    """Megabytes that training and evaluation take on so many portions of 5 MB."""
    script = Path(__file__).with_name("peak.py")
    done = subprocess.run(
        [sys.executable, str(script), str(portions)], capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_does_not_depend_on_the_number_of_episodes():
    few, many = peak(4), peak(40)
    assert abs(many - few) < 0.1 * few, (few, many)
