"""Recording pictures as ``collect`` does and as it once did, and writers that are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from measured import run_measured

from worldmodel import data
from worldmodel.data import folders

_SCRIPT = str(Path(__file__).with_name("data.py"))


def collecting(folder: Path, episodes: int) -> dict[str, dict[str, float]]:
    """Training frames of CartPole's pictures by ``collect``, and recorded as it used to be.

    Then as many episodes were held out as trained on, a hundred environments were stepped side by
    side, and all of them until the last had ended.
    """
    path, words = folder / "cartpole", ["--pixels", "--episodes", str(episodes)]
    words += ["--steps", "14", "--test-steps", "114"]
    now = ["-m", "worldmodel.cli", "collect", "CartPole-v1", "--out", str(path), *words]
    useful, found = 0, {}
    for name, command in {"now": now, "as before": [_SCRIPT, "--naive", str(episodes)]}.items():
        taken = run_measured([sys.executable, *command], folder / "log.txt", {})
        if taken.status:
            raise RuntimeError((folder / "log.txt").read_text()[-3000:])
        useful = useful or data.load(path).frames("train")
        found[name] = {
            "training frames": useful,
            "s": taken.seconds,
            "CPU s": taken.cpu_seconds,
            "frames per s": useful / taken.seconds,
            "frames per CPU s": useful / taken.cpu_seconds,
        }
    return found


def naive(episodes: int) -> None:
    """Record as ``collecting`` says."""
    env = data.make_vec("CartPole-v1", 100, {}, data.Wrapping(pixels=True))
    for size in data.default_splits(episodes, held_out=episodes).values():
        data.record(env, size.episodes, size.steps, data.Uniform(), seed=0)


def killed(folder: Path, kills: int) -> dict[str, int]:
    """Complete episodes that writers lost that were killed at random moments.

    After each the dataset is read in full, which raises if it cannot be.
    """
    path, script = folder / "killed", Path(__file__).parents[1] / "tests" / "data" / "killed.py"
    sys.path.insert(0, str(script.parent))
    from killed import episode

    data.from_episodes([episode(5)], out=path, splits=["train"])
    words = [sys.executable, str(script), str(path), str(kills), "0"]
    said = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    told, held = np.array(said).T
    return {
        "kills": kills,
        "after some were published": int((told > 0).sum()),
        "episodes published": int(told.sum()),
        "lost": int(np.maximum(told.cumsum() - (held - 1), 0).max()),
        "left over": len(list((path / folders.PARTS).glob(".partial"))),
    }
