"""Appends to a dataset in processes that are killed at random moments, and says what was published.

Run as a script: folder, number of kills, seed. Printed are of each process how many episodes it was
told to have published, and how many the dataset had to show after its death, read in full.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from worldmodel.data import DatasetWriter, load


def episode(length: int, seed: int = 0) -> dict:
    rng = np.random.default_rng((seed, length))
    return {
        "observations": {
            "camera": rng.integers(0, 256, (length + 1, 8, 8, 3), dtype=np.uint8),
            "joints/..": rng.normal(size=(length + 1, 2)).astype(np.float32),
        },
        "actions": rng.normal(size=(length, 2)).astype(np.float32),
        "rewards": rng.normal(size=length).astype(np.float32),
        "terminated": length % 2 == 0,
        "timestamps": np.cumsum(rng.random(length + 1) + 0.01),
    }


def append(folder: Path, seed: int, told: int) -> None:
    """Publish episode after episode, one at a time, and write a byte for each that is."""
    with DatasetWriter(folder) as writer:
        os.write(told, b"(")
        for i in range(10_000):
            number = 10_000 * seed + i
            writer.write(episode(20, number), "train", origin=str(number))
            writer.publish()
            os.write(told, b".")


def kill_many(folder: Path, kills: int, seed: int) -> list[tuple[int, int]]:
    """How many episodes each of so many writers told before it was killed, and there were then."""
    rng, told = np.random.default_rng(seed), []
    for k in range(kills):
        reading, writing = os.pipe()
        if not (child := os.fork()):
            append(folder, k, writing)
            os._exit(0)
        os.close(writing)
        published, wanted = -1, int(rng.integers(0, 6))  # the first byte says that it has begun
        begin = time.perf_counter()
        while published < wanted:
            begin = time.perf_counter()
            if not os.read(reading, 1):
                raise RuntimeError("the writer ended by itself")
            published += 1
        # Any moment of the next one or two, however busy the machine is.
        time.sleep(rng.uniform(0.0, 2 * (time.perf_counter() - begin)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reading, "rb") as pipe:
            published += len(pipe.read())
        found = load(folder)
        found.verify()
        told.append((published, len(found.train)))
    # Whoever writes next cleans up.
    with DatasetWriter(folder):
        pass
    return told


if __name__ == "__main__":
    print(json.dumps(kill_many(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
