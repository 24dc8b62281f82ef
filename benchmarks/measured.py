"""A command in a process of its own, and what it took."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Taken:
    """What a command took.

    Attributes:
        seconds: By the wall clock.
        cpu_seconds: Of all its threads, in user and system mode.
        peak_mb: Most memory that was resident at once, in 10^6 bytes.
        status: 0 if it succeeded.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    status: int

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def run_measured(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Taken:
    """Run a command to its end, what it says appended to a file.

    Args:
        command: The program first.
        log: File.
        environment: Variables beside those of this process.
    """
    begin = time.monotonic()
    with log.open("a") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
        # Not the usage of all children together: that would be the greatest of them.
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Taken(
        time.monotonic() - begin,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * 1024 / 1e6,
        process.returncode,
    )
