"""Recordings to measure with, and what processes of their own tell of them."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
from measured import run_measured

from worldmodel import data

FRAME = (64, 64, 3)
EPISODE = 200  # steps
MB = 1e6


def frames_of(count: int, seed: int) -> np.ndarray:
    """Smooth pictures with a little noise: they shrink by about half."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 200, (count, 8, 8, 3), dtype=np.uint8)
    return low.repeat(8, 1).repeat(8, 2) + rng.integers(0, 8, (count, *FRAME), dtype=np.uint8)


def episode_of(seed: int, steps: int = EPISODE) -> dict[str, np.ndarray]:
    """Frames, and what is recorded beside them."""
    rng = np.random.default_rng((seed, 1))
    return {
        "observations": frames_of(steps + 1, seed),
        "actions": rng.uniform(-1, 1, (steps, 4)).astype(np.float32),
        "rewards": rng.normal(size=steps).astype(np.float32),
    }


SPACES = (
    gym.spaces.Box(0, 255, FRAME, np.uint8),
    gym.spaces.Box(-1, 1, (4,), np.float32),
)


def write_ours(path: Path, episodes: int, steps: int = EPISODE) -> None:
    """As a dataset's folder; of each ten episodes eight are for training."""
    # Pictures are what takes the time: ten are made, and shifted.
    made = [episode_of(seed, steps) for seed in range(10)]
    with data.DatasetWriter(path, *SPACES) as writer:
        for i in range(episodes):
            episode = dict(made[i % 10])
            episode["observations"] = np.roll(episode["observations"], i // 10 % 64, axis=2)
            split = ["train"] * 8 + ["validation", "test"]
            writer.write(episode, split[i % 10])


def write_hdf5(path: Path, episodes: int, steps: int = EPISODE) -> None:
    """As D4RL has it, an episode after the other."""
    import h5py

    made, count = [episode_of(seed, steps) for seed in range(10)], episodes * steps
    with h5py.File(path, "w") as file:
        frames = file.create_dataset("observations", (count, *FRAME), "u1", chunks=(16, *FRAME))
        actions = file.create_dataset("actions", (count, 4), "f4")
        rewards = file.create_dataset("rewards", (count,), "f4")
        file["timeouts"] = np.arange(count) % steps == steps - 1
        for i in range(episodes):
            episode, rows = made[i % 10], slice(i * steps, (i + 1) * steps)
            frames[rows] = np.roll(episode["observations"][:-1], i // 10 % 64, axis=2)
            actions[rows], rewards[rows] = episode["actions"], episode["rewards"]


def forget(path: Path) -> None:
    """Have the page cache drop files."""
    os.sync()
    for file in [path] if path.is_file() else (f for f in path.rglob("*") if f.is_file()):
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def peak() -> float:
    """Most memory of this process that was resident at once, in MB."""
    # Not getrusage: what the parent held when it forked would count.
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) * 1024 / MB


def said(log: Path, *words: str | Path) -> dict[str, float]:
    """What the script, called with such words, measured: the last line that it printed."""
    log.unlink(missing_ok=True)
    script = Path(__file__).with_name("data.py")
    if run_measured([sys.executable, str(script), *map(str, words)], log, {}).status:
        raise RuntimeError(log.read_text()[-3000:])
    return json.loads(log.read_text().splitlines()[-1])
