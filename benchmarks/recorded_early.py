"""Before the filter has settled: what jitter and loss cost in asking, and what in training.

The recording's own fourteen test episodes tell little of their first frames: here are many more,
of the same starts and torques with jitter alone, with loss alone, with both and with neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from envs.pendulum import INTERVAL
from worldmodel import load as load_world
from worldmodel.cli import main as worldmodel
from worldmodel.data import load
from worldmodel.evaluation.tracking import fitted_line

# By name: jitter, in periods, and the share of rows that are lost.
ASKED = {"regular": (0.0, 0.0), "jitter": (0.2, 0.0), "loss": (0.0, 0.05), "both": (0.2, 0.05)}
OWN = "own"  # what a recording itself holds for testing
_STEPS, _SEED = 25, 1000
_STRETCH = slice(0, 15)
_FRAMES = (1, 2, 3, 5, 8, 14)
_TESTED, _DRAWS = 14, 2000  # episodes of a recording's test split, and how often so many are drawn
# What is believed, what is true, and what was seen; (episodes, frames) each.
Filtered = tuple[np.ndarray, np.ndarray, np.ndarray]


def recorded(folder: Path, record: Callable[..., None], roles: Sequence[str], count: int) -> None:
    """Record and import episodes of all kinds, what is there already excepted."""
    for name, (jitter, lost) in ASKED.items():
        if (out := folder / f"data-{name}").exists():
            continue
        record(folder / f"source-{name}", count, _STEPS, jitter, lost, _SEED)
        grid = ["--resample", str(1 / INTERVAL)] if jitter or lost else []
        words = [*roles, "--split", "test=1.0", *grid]
        worldmodel(["import", str(folder / f"source-{name}"), "--out", str(out), *words])


@torch.no_grad()
def filtered(run: Path, known: Path, asked: Mapping[str, Path]) -> dict[str, Filtered]:
    """What the live filter of a run believes of the velocity, by what it is asked.

    Args:
        run: Of the model.
        known: Dataset whose training episodes the line from beliefs to the truth is fitted to.
        asked: Datasets by name, whose test episodes are filtered.
    """
    model, found = load_world(run).model, {}
    line = fitted_line(model, load(known).train.padded(), lambda s: {"velocity": s[..., 2]})
    for name, path in asked.items():
        test = load(path).test.padded()
        means = model.filter_beliefs(test.observations, test.actions, seen=test.seen).mean
        read = line.predict(means.numpy())[..., 0]
        assert test.states is not None
        found[name] = read, test.states[..., 2].numpy(), test.frame_mask.numpy()
    return found


def r2(of: Filtered, episodes: slice | np.ndarray, frames: slice) -> float:
    """Of the velocity, where frames were seen."""
    read, truth, seen = (part[episodes][:, frames] for part in of)
    error = np.square(read - truth)[seen].sum()
    return float(1 - error / np.square(truth[seen] - truth[seen].mean()).sum())


def spread(clean: Filtered, other: Filtered) -> tuple[float, float]:
    """Mean and standard deviation of a difference of R², of as many episodes as one test has."""
    rng, draws = np.random.default_rng(0), []
    for _ in range(_DRAWS):
        few = rng.choice(min(len(clean[0]), len(other[0])), _TESTED, replace=False)
        draws.append(r2(other, few, _STRETCH) - r2(clean, few, _STRETCH))
    return float(np.mean(draws)), float(np.std(draws))


def whole(found: Sequence[Mapping[str, Mapping[str, Filtered]]]) -> str:
    """R² of each model's own test episodes but for their first frames; arguments as ``tables``."""
    told = [
        f"{name} "
        + " ".join(f"{r2(by[name][OWN], slice(None), slice(1, None)):.3f}" for by in found)
        for name in found[0]
    ]
    return f"All frames but the first, asked what it was trained on: {'; '.join(told)}."


def tables(found: Sequence[Mapping[str, Mapping[str, Filtered]]]) -> str:
    """Markdown; a value for each seed.

    Args:
        found: By seed, by what a model was trained on, by what it is asked.
    """
    every = slice(None)
    lines = _head("frames 0-15; trained on", [f"asked: {name}" for name in ASKED])
    for name in found[0]:
        cells = [[r2(by[name][a], every, _STRETCH) for by in found] for a in ASKED]
        lines.append(_row(name, cells))
    lines += ["", *_head("asked what it was trained on", [f"frame {t}" for t in _FRAMES])]
    for name, asked in (("regular", "regular"), ("irregular", "both")):
        cells = [[r2(by[name][asked], every, slice(t, t + 1)) for by in found] for t in _FRAMES]
        lines.append(_row(name, cells))
    drawn = [spread(by["regular"]["regular"], by["irregular"]["both"]) for by in found]
    told = ", ".join(f"{mean:+.3f} ± {deviation:.3f}" for mean, deviation in drawn)
    lines += [
        "",
        f"The irregular less the regular in frames 0-15, of {_TESTED} episodes drawn from these, "
        f"mean and standard deviation by seed: {told}.",
    ]
    return "\n".join(lines)


def _head(first: str, rest: Sequence[str]) -> list[str]:
    return [f"| {first} | {' | '.join(rest)} |", "|---" * (len(rest) + 1) + "|"]


def _row(name: str, cells: Sequence[Sequence[float]]) -> str:
    return f"| {name} | {' | '.join(' '.join(f'{v:.3f}' for v in each) for each in cells)} |"
