"""Dream steps and training updates for a long time, and what they do to memory.

Run as a script: how many dream steps, and how many updates. Printed is by how many bytes memory
grows with each, and the standard error of that. ``make soak`` takes a hundred million and a
hundred thousand.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from small import PIXELS, random_dataset, tiny_model

from worldmodel import load
from worldmodel.training.config import TrainConfig
from worldmodel.training.trainer import Trainer

BLOCKS = 20
_FIRST = 0.2  # of a soak, in which caches and pools may grow
_DREAMS = 256


class Slope(NamedTuple):
    """By how much memory grows.

    Attributes:
        bytes: For each time that something is done, by least squares.
        error: Its standard error.
    """

    bytes: float
    error: float

    def flat(self, times: int, most: float) -> bool:
        """Whether so many times surely add less than ``most`` bytes: two errors above it."""
        return (self.bytes + 2 * self.error) * times < most


def resident() -> int:
    """Bytes of memory that the process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def soak(work: Callable[[int], None], times: int) -> Slope:
    """Do something many times, and look at memory in between.

    Args:
        work: Is told how often to do it.
        times: How often in all.
    """
    each = max(1, int((1 - _FIRST) * times / BLOCKS))
    done, held = np.arange(BLOCKS) * each, np.zeros(BLOCKS)
    gc.collect()
    # What a whole suite has left behind would be looked through at every block.
    gc.freeze()
    try:
        work(max(1, int(_FIRST * times)))
        for block in range(BLOCKS):
            held[block] = resident()
            work(each)
    finally:
        gc.unfreeze()
    return slope(done, held)


def slope(done: np.ndarray, held: np.ndarray) -> Slope:
    """Of what is held over what was done."""
    x, y = done - done.mean(), held - held.mean()
    rise = float(x @ y / (x @ x))
    left = y - rise * x
    return Slope(rise, float(np.sqrt(left @ left / (len(x) - 2) / (x @ x))))


def dreams(seed: int = 0) -> Callable[[int], None]:
    """Steps of many dreams of the bundled pendulum, episodes that end included."""
    env = load("pendulum").vector_env(_DREAMS, max_episode_steps=50)
    env.reset(seed=seed)
    actions = np.random.default_rng(seed).uniform(-2, 2, (64, _DREAMS, 1)).astype(np.float32)

    def work(steps: int) -> None:
        for step in range(-(-steps // _DREAMS)):
            env.step(actions[step % len(actions)])

    return work


def training(folder: Path, updates: int) -> Callable[[int], None]:
    """Updates of a small model, validations and checkpoints included."""
    config = TrainConfig(
        updates=updates, batch_size=8, window=5, validate_every=100, tensorboard=False
    )
    trainer = Trainer(tiny_model(PIXELS), random_dataset(PIXELS), config, folder)

    def work(times: int) -> None:
        for _ in range(times):
            trainer.step()
            if trainer.update % config.validate_every == 0:
                trainer.validate()
                trainer.checkpoint()

    return work


def main() -> None:
    """See this module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10**8)
    parser.add_argument("--updates", type=int, default=10**5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        for name, work, times in (
            ("dream steps", dreams(), asked.steps),
            ("updates", training(Path(folder), 2 * asked.updates), asked.updates),
        ):
            found = soak(work, times)
            more = found.bytes * times / 1e6, 2 * found.error * times / 1e6
            print(
                f"{times:,} {name}: {found.bytes:.3g} ± {found.error:.2g} bytes each, "
                f"{more[0]:.2f} ± {more[1]:.2f} MB in all (two standard errors)"
            )


if __name__ == "__main__":
    main()
