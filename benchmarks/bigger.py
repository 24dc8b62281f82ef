"""Several processes for one training, data that fit into no memory, and what waits for what.

Whatever else the machine does hits all: one process and two take turns, and ratios are taken within
a round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
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


def work() -> None:
    """What a process that torchrun started does: train, and let the first one say how fast."""
    asked = json.loads(os.environ["BIGGER"])
    torch.set_num_threads(1)
    with team(torch.device("cpu")) as together:
        dataset = data.load(asked["data"])
        codec = CodecConfig(encoder="conv" if asked["convolution"] else "dense", hidden=32)
        model = DVBF(DVBFConfig(codec=codec), dataset.observation_spec, dataset.action_spec, 0)
        config = TrainConfig(
            updates=asked["updates"],
            batch_size=asked["batch"],
            window=WINDOW,
            validate_every=10**6,
            tensorboard=False,
        )
        model = model.to(getattr(torch, asked["dtype"]))
        trainer = Trainer(model, dataset, config, asked["run"], team=together)
        waited, draw, begun = 0.0, trainer._drawn.draw, 0.0

        def timed(*arguments: Any) -> Any:
            nonlocal waited
            begin = time.perf_counter()
            batch = draw(*arguments)
            waited += time.perf_counter() - begin
            return batch

        trainer._drawn.draw = timed  # type: ignore[method-assign] (waits are this benchmark's alone)
        for update in range(config.updates):
            if update == SKIPPED:
                waited, begun = 0.0, time.perf_counter()
            trainer.step()
        seconds = time.perf_counter() - begun
        if together.rank == 0:
            weights = {k: v.double() for k, v in model.state_dict().items()}
            torch.save(weights, Path(asked["run"]) / "weights.pt")
            status = Path("/proc/self/status").read_text()
            frames = (config.updates - SKIPPED) * config.batch_size * (WINDOW + 1)
            said = {
                "frames_per_second": frames / seconds,
                "waited": waited / seconds,
                "read": type(trainer._drawn).__name__,
                "peak_mb": int(status.partition("VmHWM:")[2].split()[0]) / 1024,
            }
            (Path(asked["run"]) / "said.json").write_text(json.dumps(said))


def run(processes: int, folder: Path, **asked: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train by so many processes; what the first one said, and the weights."""
    defaults = {"updates": 12, "batch": 64, "dtype": "float32", "convolution": True}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        settings = json.dumps(defaults | asked | {"run": place})
        line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        line += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", __file__]
        subprocess.run(line, env=os.environ | {"BIGGER": settings}, check=True)
        said = json.loads((Path(place) / "said.json").read_text())
        return said, torch.load(Path(place) / "weights.pt", weights_only=True)


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
    ones, twos = [], []
    for _ in range(rounds):
        for processes, said in ((1, ones), (2, twos)):
            said.append(run(processes, folder, data=wide, updates=updates, batch=32)[0])
    small = str(record(folder, 3_000, 8, 29))
    narrow = {"data": small, "updates": compared, "convolution": False}
    differ = {}
    for dtype in ("float32", "float64"):
        weights = [run(n, folder, **narrow, dtype=dtype)[1] for n in (1, 2)]
        differ[dtype] = apart(*weights)
    peaks = []
    for frames in (million // 10, million):
        begin = time.perf_counter()
        path = str(record(folder, frames, 12, 999))
        written = time.perf_counter() - begin
        said = run(1, folder, data=path, convolution=False, updates=updates)[0]
        peaks.append((frames, written, said))
    text = table(ones, twos, compared, differ, peaks)
    print(text)
    write_block("bigger", text)


def table(
    ones: list[dict[str, Any]],
    twos: list[dict[str, Any]],
    compared: int,
    differ: dict[str, float],
    peaks: list[tuple[int, float, dict[str, Any]]],
) -> str:
    """Markdown."""
    speed = [[said["frames_per_second"] for said in many] for many in (ones, twos)]
    ratios = [two / one for one, two in zip(*speed, strict=True)]
    rows = [
        (
            "frames per second, 64 x 64 x 3, one process and two",
            f"{median(speed[0]):,.0f} and {median(speed[1]):,.0f}",
            "",
        ),
        (
            "two processes over one, by round",
            f"{' '.join(f'{r:.2f}' for r in ratios)} (median {median(ratios):.2f})",
            "≥ 1.7",
        ),
        (
            "share of an update that waits for windows from files (one process)",
            f"{median(said['waited'] for said in ones):.1%} ({ones[0]['read']})",
            "",
        ),
        *(
            (
                f"weights after {compared} updates, 1 x 64 against 2 x 32, {dtype}",
                f"{value:.1e}",
                "≤ 1e-4" if dtype == "float32" else "≤ 1e-10",
            )
            for dtype, value in differ.items()
        ),
        *(
            (
                f"{frames:,} frames of 12 x 12 x 3: peak memory of training",
                f"{said['peak_mb']:.0f} MB ({said['read']})",
                "equal",
            )
            for frames, _, said in peaks
        ),
    ]
    head = "| | measured | goal |\n|---|---|---|\n"
    body = "\n".join(f"| {title} | {value} | {goal} |" for title, value, goal in rows)
    cores = os.cpu_count()
    return (
        f"`make benchmark-bigger`, {cores} cores, shared with other programs: compare ratios; "
        f"torch {torch.__version__}.\n\n{head}{body}"
    )


if __name__ == "__main__":
    if "BIGGER" in os.environ:
        work()
    else:
        tyro.cli(main)
