"""Memory of the commands, and how much of training goes into reading."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from data_recorded import MB, forget, said, write_hdf5

from worldmodel.cli import main as worldmodel_main
from worldmodel.training.trainer import Trainer
from worldmodel.training.windows import Windows

_TRAINING = ["--window", "50", "--batch-size", "50", "--no-tensorboard"]


def memory(folder: Path, episodes: int, updates: int) -> dict[str, float]:
    """Peak memory of the commands on so many episodes of 100 steps, in MB, and what reading costs.

    Reading windows is given as a share of an update, the files not in the page cache at first.
    """
    source, path, run = (folder / f"{name}{episodes}" for name in ("source.hdf5", "data", "run"))
    write_hdf5(source, episodes, 100)
    found = {"source, MB": source.stat().st_size / MB}
    train = ["train", str(path), "--run", str(run), "--updates", str(updates), *_TRAINING]
    for words in (["import", str(source), "--out", str(path)], train, ["evaluate", str(run)]):
        told = said(folder / "log.txt", "--command", *words)
        print(words, told, flush=True)
        found |= {f"{words[0]}, {name}": value for name, value in told.items()}
        source.unlink(missing_ok=True)
    found |= said(folder / "log.txt", "--share", path, f"{run}-share", str(updates))
    shutil.rmtree(path)
    return found


def share(path: Path, run: Path, updates: int) -> dict[str, float]:
    """How much of an update of ``worldmodel train`` goes into reading its windows.

    Before every other update the page cache drops the dataset's files.
    """
    drawn, taken = [], []
    draw, step = Windows.draw, Trainer.step

    def timed_draw(*arguments: Any) -> Any:
        if not len(drawn) % 2:
            forget(path)
        begin = time.perf_counter()
        batch = draw(*arguments)
        drawn.append(time.perf_counter() - begin)
        taken.append(-begin)
        return batch

    def timed_step(trainer: Trainer) -> Any:
        terms = step(trainer)
        taken[-1] += time.perf_counter()
        if len(taken) == updates:
            raise StopIteration  # what follows training is not asked for
        return terms

    # This process does nothing else, so that nobody waits for the originals.
    Windows.draw, Trainer.step = timed_draw, timed_step  # type: ignore[assignment] (to time them)
    words = ["train", str(path), "--run", str(run), "--updates", str(updates), *_TRAINING]
    with suppress(StopIteration):
        worldmodel_main(words)
    cold, warm = (sum(drawn[i::2]) / sum(taken[i::2]) for i in (0, 1))
    return {"reading cold, of an update": cold, "reading warm": warm}
