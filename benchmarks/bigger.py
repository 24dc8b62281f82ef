"""Several processes for one training, data that fit into no memory, and what waits for what.

Whatever else the machine does hits all: one process and two take turns, and ratios are taken within
a round, beside that of two processes that know nothing of each other: no pair does better. What
each of them computes for a frame, in seconds of its processor, other programs change little.

Rounding grows where training is unstable. So where the weights of two processes part from those of
one, it is said how far those of one part by themselves, if they begin one rounding off.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from seeds import write_block

from worldmodel import data
from worldmodel.models.codec import CodecConfig
from worldmodel.models.dvbf import DVBF
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.systems.preset import GENERIC
from worldmodel.training.config import TrainConfig
from worldmodel.training.team import team
from worldmodel.training.trainer import Trainer

WINDOW = 14
SKIPPED = 3  # updates before the clock is started


def record(folder: Path, frames: int, side: int, steps: int) -> Path:
    """A dataset of so many frames of a square that drifts over noise, pushed by actions."""
    path = folder / f"{frames}-{side}"
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    space = gym.spaces.Box(0, 255, (side, side, 3), np.uint8)
    noise = rng.integers(0, 64, (steps + 1, side, side, 3), dtype=np.uint8)
    with data.DatasetWriter(path, space, gym.spaces.Box(-1, 1, (2,))) as writer:
        for i in range(max(frames // (steps + 1), 3)):
            actions = rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
            places = np.cumsum(np.vstack([rng.uniform(0, side, (1, 2)), 2 * actions]), 0)
            pictures = np.roll(noise, i, 1)
            size = side // 4
            for picture, (y, x) in zip(pictures, places.astype(int) % (side - size), strict=True):
                picture[y : y + size, x : x + size] = 255
            episode = {"observations": pictures, "actions": actions, "rewards": np.zeros(steps)}
            writer.write(episode, "validation" if i % 50 == 1 else "train")
    return path


def drifting(folder: Path, episodes: int, steps: int) -> Path:
    """A dataset of the place of a point that is pushed about, and slows down, as a vector."""
    path = folder / f"{episodes}-vectors"
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    space = gym.spaces.Box(-np.inf, np.inf, (4,))
    with data.DatasetWriter(path, space, gym.spaces.Box(-1, 1, (2,))) as writer:
        for i in range(episodes):
            actions = rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
            seen = [rng.normal(0, 1, 4)]
            for action in actions:
                place, speed = np.split(seen[-1], 2)
                speed = 0.9 * speed + 0.3 * action - 0.1 * np.sin(place)
                seen.append(np.concatenate([place + 0.2 * speed, speed]))
            frames = np.array(seen, np.float32)
            episode = {"observations": frames, "actions": actions, "rewards": np.zeros(steps)}
            writer.write(episode, "validation" if i % 10 == 1 else "train")
    return path


def learner(asked: dict[str, Any], dataset: Any) -> tuple[DVBF, TrainConfig]:
    """The model, and how it is trained: as a preset has it, or by convolutions as a ball's is."""
    specs = dataset.observation_spec, dataset.action_spec
    if asked["preset"]:
        preset = GENERIC[asked["preset"]]
        config, train = preset.model("dvbf", specs[0]), preset.training(dataset)
    else:
        encoder = "conv" if asked["convolution"] else "dense"
        config = DVBFConfig(codec=CodecConfig(encoder=encoder, hidden=32))
        train = TrainConfig(window=WINDOW)
    changes = {"updates": asked["updates"], "batch_size": asked["batch"], "tensorboard": False}
    return DVBF(config, *specs, 0), replace(train, validate_every=10**6, **changes)


def shift(model: DVBF) -> None:
    """Move every weight by about one rounding."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=draws, dtype=weight.dtype)
            weight.mul_(1 + torch.finfo(weight.dtype).eps / 2 * noise)


def work() -> None:
    """What a process that torchrun started does: train, and say how fast."""
    asked = json.loads(os.environ["BIGGER"])
    torch.set_num_threads(1)
    with team(torch.device("cpu")) as together:
        dataset = data.load(asked["data"])
        model, config = learner(asked, dataset)
        model = model.to(getattr(torch, asked["dtype"]))
        folder = Path(asked["run"])
        trainer = Trainer(model, dataset, config, folder, team=together)
        if asked["shifted"]:
            shift(model)
        waited, draw, begun, computed = 0.0, trainer._drawn.draw, 0.0, 0.0

        def timed(*arguments: Any) -> Any:
            nonlocal waited
            begin = time.perf_counter()
            batch = draw(*arguments)
            waited += time.perf_counter() - begin
            return batch

        trainer._drawn.draw = timed  # type: ignore[method-assign] (waits are this benchmark's alone)
        for update in range(config.updates):
            if update == SKIPPED:
                waited, begun, computed = 0.0, time.perf_counter(), time.process_time()
            trainer.step()
        seconds, computed = time.perf_counter() - begun, time.process_time() - computed
        status = Path("/proc/self/status").read_text()
        frames = (config.updates - SKIPPED) * config.batch_size * (config.window + 1)
        said = {
            "frames_per_second": frames / seconds,
            "frames_per_computed": frames / computed,
            "waited": waited / seconds,
            "read": type(trainer._drawn).__name__,
            "peak_mb": int(status.partition("VmHWM:")[2].split()[0]) / 1024,
        }
        (folder / f"said{together.rank}.json").write_text(json.dumps(said))
        if together.rank == 0:
            torch.save({k: v.double() for k, v in model.state_dict().items()}, folder / "weights")


def run(processes: int, folder: Path, apiece: int = 1, **asked: Any) -> list[dict[str, Any]]:
    """Train by so many processes together, or so many times apart; what each of them said.

    Args:
        processes: Of one training.
        folder: For what they write.
        apiece: Trainings at once.
        asked: See ``defaults``.

    Returns:
        What each process said; that of the first has "weights".
    """
    defaults: dict[str, Any] = {"updates": 12, "batch": 64, "dtype": "float32"}
    defaults |= {"convolution": True, "preset": "", "shifted": False}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        begun = []
        for i in range(apiece):
            own = Path(place) / str(i)
            own.mkdir()
            settings = json.dumps(defaults | asked | {"run": str(own)})
            line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
            line += [str(processes), "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
            begun.append(subprocess.Popen([*line, __file__], env=os.environ | {"BIGGER": settings}))
        if any([process.wait() for process in begun]):
            raise SystemExit("a process failed")
        said = [json.loads(path.read_text()) for path in sorted(Path(place).glob("*/said*.json"))]
        weights = torch.load(Path(place) / "0" / "weights", weights_only=True)
        return [said[0] | {"weights": weights}, *said[1:]]


def apart(one: dict[str, Any], two: dict[str, Any]) -> float:
    """Largest difference of any weight."""
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def main(
    folder: Path = Path("runs/benchmark-bigger"),
    rounds: int = 3,
    updates: int = 12,
    compared: int = 500,
    million: int = 1_000_000,
) -> None:
    """Run the benchmark, and put its table into docs/results.md.

    Args:
        folder: Where data and runs go.
        rounds: In each of which one process and two are timed.
        updates: Of each.
        compared: Updates after which weights are compared.
        million: Frames of the large dataset; a tenth of it is the small one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wide = str(record(folder, 24_000, 64, 99))
    rows, load = speed(folder, rounds, {"data": wide, "updates": updates, "batch": 32})
    rows += rounding(folder, compared)
    for frames in (million // 10, million):
        path = str(record(folder, frames, 12, 999))
        said = run(1, folder, data=path, convolution=False, updates=updates)[0]
        title = f"{frames:,} frames of 12 x 12 x 3: peak memory of training"
        rows.append((title, f"{said['peak_mb']:.0f} MB ({said['read']})", "equal"))
    text = block(rows, f"{load:.0f}")
    print(text)
    write_block("bigger", text)


def block(rows: list[tuple[str, str, str]], load: str) -> str:
    """Markdown."""
    head = "| | measured | goal |\n|---|---|---|\n"
    body = "\n".join(f"| {title} | {value} | {goal} |" for title, value, goal in rows)
    cores = os.cpu_count()
    return (
        f"`make benchmark-bigger`, {cores} cores, which {load} programs asked for meanwhile "
        f"(median load): compare ratios; torch {torch.__version__}.\n\n{head}{body}"
    )


def speed(
    folder: Path, rounds: int, asked: dict[str, Any]
) -> tuple[list[tuple[str, str, str]], float]:
    """Rows on one process against two, and the median load of the machine."""
    ones, ratios, loads = [], {name: [] for name in ("two", "apart", "computed")}, []
    for _ in range(rounds):
        one = run(1, folder, **asked)[0]
        two = run(2, folder, **asked)
        others = run(1, folder, 2, **asked)
        second, computed = one["frames_per_second"], one["frames_per_computed"]
        ones.append(one)
        # Each of two says how fast the whole batch goes.
        ratios["two"].append(two[0]["frames_per_second"] / second)
        ratios["apart"].append(sum(said["frames_per_second"] for said in others) / second)
        ratios["computed"].append(min(said["frames_per_computed"] for said in two) / computed)
        loads.append(os.getloadavg()[0])
        print(loads[-1], {name: many[-1] for name, many in ratios.items()}, flush=True)

    def told(name: str) -> str:
        return f"{' '.join(f'{r:.2f}' for r in ratios[name])} (median {median(ratios[name]):.2f})"

    sequences, pace = asked["batch"], [said["frames_per_second"] for said in ones]
    title = "two processes over one"
    return [
        ("frames per second of one process, 64 x 64 x 3", f"{median(pace):,.0f}", ""),
        (f"{title}, {sequences} sequences between them, by round", told("two"), "≥ 1.7"),
        (f"{title}, unconnected: what the machine gave in these rounds", told("apart"), ""),
        (
            f"{title}, {sequences} sequences between them, by seconds that processors computed",
            told("computed"),
            "",
        ),
        (
            "share of an update that waits for windows from files (one process)",
            f"{median(said['waited'] for said in ones):.1%} ({ones[0]['read']})",
            "",
        ),
    ], median(loads)


def rounding(folder: Path, compared: int) -> list[tuple[str, str, str]]:
    """Rows on the weights that one process and two end with."""
    small = {"data": str(record(folder, 3_000, 8, 29))}
    systems = {
        "vectors": {"data": str(drifting(folder, 200, 29)), "preset": "vectors"},
        "8 x 8 pictures": {**small, "preset": "pictures"},
        "8 x 8 pictures, a ball's settings": {**small, "convolution": False},
    }
    rows = []
    for system, asked in systems.items():
        for dtype, goal in (("float64", 1e-10), ("float32", 1e-4)):
            kind = {**asked, "updates": compared, "dtype": dtype}
            one, two = (run(n, folder, **kind)[0]["weights"] for n in (1, 2))
            value = f"{apart(one, two):.1e}"
            if apart(one, two) > goal:
                other = run(1, folder, **kind, shifted=True)[0]["weights"]
                value += f" (one process, begun one rounding off: {apart(one, other):.1e})"
            title = f"weights after {compared} updates, 1 x 64 against 2 x 32: {system}, {dtype}"
            rows.append((title, value, f"≤ {goal:.0e}"))
            print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    if "BIGGER" in os.environ:
        work()
    else:
        tyro.cli(main)
