"""What a dataset costs: windows per second of several formats, memory, and writers that are killed.

Windows are of 30 steps of 64 x 64 x 3 uint8 frames, 32 at a time, drawn at random from 1 GB; each
format is read in a process of its own, first with its files not in the page cache ("cold"), then
again. ``make benchmark-data`` needs the extra ``benchmark-data``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from measured import run_measured
from seeds import write_block

from worldmodel import data
from worldmodel.cli import main as worldmodel_main
from worldmodel.data import folders
from worldmodel.files import write_json
from worldmodel.training.trainer import Trainer
from worldmodel.training.windows import Windows

_FRAME, _STEPS, _BATCH = (64, 64, 3), 30, 32
_EPISODE = 200  # steps
_DRAWS = 30  # batches
_MB = 1e6
_TRAINING = ["--window", "50", "--batch-size", "50", "--no-tensorboard"]


def frames_of(count: int, seed: int) -> np.ndarray:
    """Smooth pictures with a little noise: they shrink by about half."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 200, (count, 8, 8, 3), dtype=np.uint8)
    return low.repeat(8, 1).repeat(8, 2) + rng.integers(0, 8, (count, *_FRAME), dtype=np.uint8)


def episode_of(seed: int, steps: int = _EPISODE) -> dict[str, np.ndarray]:
    """Frames, and what is recorded beside them."""
    rng = np.random.default_rng((seed, 1))
    return {
        "observations": frames_of(steps + 1, seed),
        "actions": rng.uniform(-1, 1, (steps, 4)).astype(np.float32),
        "rewards": rng.normal(size=steps).astype(np.float32),
    }


SPACES = (
    gym.spaces.Box(0, 255, _FRAME, np.uint8),
    gym.spaces.Box(-1, 1, (4,), np.float32),
)


def write_ours(path: Path, episodes: int, steps: int = _EPISODE) -> None:
    """As a dataset's folder; of each ten episodes eight are for training."""
    # Pictures are what takes the time: ten are made, and shifted.
    made = [episode_of(seed, steps) for seed in range(10)]
    with data.DatasetWriter(path, *SPACES) as writer:
        for i in range(episodes):
            episode = dict(made[i % 10])
            episode["observations"] = np.roll(episode["observations"], i // 10 % 64, axis=2)
            split = ["train"] * 8 + ["validation", "test"]
            writer.write(episode, split[i % 10])


def write_hdf5(path: Path, episodes: int, steps: int = _EPISODE) -> None:
    """As D4RL has it, an episode after the other."""
    import h5py

    made, count = [episode_of(seed, steps) for seed in range(10)], episodes * steps
    with h5py.File(path, "w") as file:
        frames = file.create_dataset("observations", (count, *_FRAME), "u1", chunks=(16, *_FRAME))
        actions = file.create_dataset("actions", (count, 4), "f4")
        rewards = file.create_dataset("rewards", (count,), "f4")
        file["timeouts"] = np.arange(count) % steps == steps - 1
        for i in range(episodes):
            episode, rows = made[i % 10], slice(i * steps, (i + 1) * steps)
            frames[rows] = np.roll(episode["observations"][:-1], i // 10 % 64, axis=2)
            actions[rows], rewards[rows] = episode["actions"], episode["rewards"]


def all_frames(path: Path) -> np.ndarray:
    """Of the training split, (N, *frame)."""
    split = data.load(path).train
    return np.concatenate(list(split.pieces(f"observations.{split.space.names[0]}", 4096)))


def convert(kind: str, source: Path, out: Path) -> None:
    """Write the frames of our dataset in another format."""
    frames = all_frames(source)
    if kind == "npy":
        with out.open("wb") as file:
            np.save(file, frames)
    elif kind.startswith("hdf5"):
        import h5py

        # One chunk a few frames: a window touches few others.
        options = {"chunks": (16, *_FRAME)} if kind == "hdf5 chunked" else {}
        with h5py.File(out, "w") as file:
            file.create_dataset("frames", data=frames, **options)
    elif kind.startswith("zarr"):
        import zarr

        compressors = "auto" if kind == "zarr" else None
        zarr.create_array(str(out), data=frames, chunks=(32, *_FRAME), compressors=compressors)
    elif kind == "tensordict":
        from tensordict import MemoryMappedTensor

        MemoryMappedTensor.from_tensor(torch.from_numpy(frames), filename=str(out))
    elif kind == "arrow":
        import pyarrow as pa

        rows = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(int(np.prod(_FRAME))), len(frames), [None, pa.py_buffer(frames)]
        )
        table = pa.table({"frames": rows})
        with pa.OSFile(str(out), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        raise ValueError(kind)


def reader(kind: str, path: Path, count: int) -> Callable[[np.ndarray], np.ndarray]:
    """From first frames (B,) to windows (B, steps + 1, *frame)."""
    span = np.arange(_STEPS + 1)
    if kind == "worldmodel":
        train = data.load(path).train

        def ours(starts: np.ndarray) -> np.ndarray:
            frames = train.lengths[0] + 1
            episode, first = starts // frames, np.minimum(starts % frames, _EPISODE - _STEPS)
            return train.windows(episode, first, _STEPS).observations.numpy()

        return ours
    if kind == "old .npz":
        # Compressed: there is no other way than to read it whole.
        held = np.load(path)["frames"]
        return lambda starts: held[starts[:, None] + span]
    if kind == "npy":
        mapped = np.load(path, mmap_mode="r")
        return lambda starts: mapped[starts[:, None] + span]
    if kind.startswith("hdf5"):
        import h5py

        file = h5py.File(path)["frames"]
        return lambda starts: np.stack([file[s : s + _STEPS + 1] for s in starts])
    if kind.startswith("zarr"):
        import zarr

        array = zarr.open_array(str(path), mode="r")
        return lambda starts: np.stack([array[s : s + _STEPS + 1] for s in starts])
    if kind == "tensordict":
        from tensordict import MemoryMappedTensor

        mapped = MemoryMappedTensor.from_filename(str(path), torch.uint8, (count, *_FRAME))
        return lambda starts: mapped[torch.from_numpy(starts[:, None] + span)].numpy()
    if kind == "arrow":
        import pyarrow as pa

        column = pa.ipc.open_file(pa.memory_map(str(path))).read_all()["frames"].chunk(0)
        mapped = np.frombuffer(column.buffers()[1], np.uint8).reshape(-1, *_FRAME)
        return lambda starts: mapped[starts[:, None] + span]
    raise ValueError(kind)


KINDS = (
    "worldmodel",
    "npy",
    "tensordict",
    "arrow",
    "hdf5",
    "hdf5 chunked",
    "zarr plain",
    "zarr",
    "old .npz",
)


def forget(path: Path) -> None:
    """Have the page cache drop files."""
    os.sync()
    for file in [path] if path.is_file() else (f for f in path.rglob("*") if f.is_file()):
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measure(kind: str, path: Path, count: int) -> dict[str, float]:
    """Windows per second and per second of processor time; how long opening takes; the peak."""
    forget(path)
    rng = np.random.default_rng(0)
    starts = rng.integers(0, count - _STEPS - 1, (_DRAWS, _BATCH))
    begin = time.perf_counter()
    read = reader(kind, path, count)
    opened = time.perf_counter() - begin
    found = {"open, s": opened}
    for name in ("cold", "warm"):
        begin, busy = time.perf_counter(), time.process_time()
        for drawn in starts:
            assert read(drawn).shape == (_BATCH, _STEPS + 1, *_FRAME)
        found[name] = _DRAWS * _BATCH / (time.perf_counter() - begin)
        found[f"{name}, of CPU"] = _DRAWS * _BATCH / (time.process_time() - busy)
    return found | {"peak, MB": peak()}


def peak() -> float:
    """Most memory of this process that was resident at once, in MB."""
    # Not getrusage: what the parent held when it forked would count.
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) * 1024 / _MB


def compare(folder: Path, episodes: int) -> dict[str, dict[str, float]]:
    """All formats, each read in a process of its own."""
    ours = folder / "ours"
    write_ours(ours, episodes)
    count = data.load(ours).train.frames
    results = {}
    for kind in KINDS:
        path = ours if kind == "worldmodel" else folder / kind.replace(" ", "_")
        if kind == "old .npz":
            path = path.with_suffix(".npz")
            np.savez_compressed(path, frames=all_frames(ours))
        elif path != ours:
            convert(kind, ours, path)
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        size = sum(file.stat().st_size for file in files) / _MB
        log = folder / "log.txt"
        words = [sys.executable, __file__, "--measure", kind, str(path), str(count)]
        results[kind] = said(words, log) | {"size, MB": size}
        print(kind, results[kind], flush=True)
        if path != ours:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return results


def said(command: list[str], log: Path) -> dict[str, float]:
    """What a process of ours measured: the last line that it printed."""
    log.unlink(missing_ok=True)
    if run_measured(command, log, {}).status:
        raise RuntimeError(log.read_text()[-3000:])
    return json.loads(log.read_text().splitlines()[-1])


def memory(folder: Path, episodes: int, updates: int) -> dict[str, float]:
    """Peak memory of the commands on so many episodes of 100 steps, in MB, and what reading costs.

    Reading windows is given as a share of an update, the files not in the page cache at first.
    """
    source, path, run = (folder / f"{name}{episodes}" for name in ("source.hdf5", "data", "run"))
    write_hdf5(source, episodes, 100)
    found = {"source, MB": source.stat().st_size / _MB}
    train = ["train", str(path), "--run", str(run), "--updates", str(updates), *_TRAINING]
    for words in (["import", str(source), "--out", str(path)], train, ["evaluate", str(run)]):
        command = [sys.executable, __file__, "--command", *words]
        told = said(command, folder / "log.txt")
        print(words, told, flush=True)
        found |= {f"{words[0]}, {name}": value for name, value in told.items()}
        source.unlink(missing_ok=True)
    words = [sys.executable, __file__, "--share", str(path), f"{run}-share", str(updates)]
    found |= said(words, folder / "log.txt")
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
    Windows.draw, Trainer.step = timed_draw, timed_step  # type: ignore[assignment]
    words = ["train", str(path), "--run", str(run), "--updates", str(updates), *_TRAINING]
    with suppress(StopIteration):
        worldmodel_main(words)
    cold, warm = (sum(drawn[i::2]) / sum(taken[i::2]) for i in (0, 1))
    return {"reading cold, of an update": cold, "reading warm": warm}


def collecting(folder: Path, episodes: int) -> dict[str, dict[str, float]]:
    """Training frames of CartPole's pictures by ``collect``, and recorded as it used to be.

    Then as many episodes were held out as trained on, a hundred environments were stepped side by
    side, and all of them until the last had ended.
    """
    path, words = folder / "cartpole", ["--pixels", "--episodes", str(episodes)]
    now = ["-m", "worldmodel.cli", "collect", "CartPole-v1", "--out", str(path), *words]
    useful, found = 0, {}
    for name, command in {"now": now, "as before": [__file__, "--naive", str(episodes)]}.items():
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=3, metavar=("KIND", "PATH", "FRAMES"))
    parser.add_argument("--share", nargs=3, metavar=("PATH", "RUN", "UPDATES"))
    parser.add_argument("--naive", type=int, metavar="EPISODES")
    parser.add_argument("--command", nargs=argparse.REMAINDER)
    parser.add_argument("--out", type=Path, default=Path("runs/data"))
    parser.add_argument("--episodes", type=int, default=500, help="of 200 frames, 2.5 MB each")
    parser.add_argument("--only", choices=["formats", "memory", "killed", "collecting"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.measure:
        kind, path, count = given.measure
        print(json.dumps(measure(kind, Path(path), int(count))))
        return
    if given.share:
        path, run, updates = given.share
        print(json.dumps(share(Path(path), Path(run), int(updates))))
        return
    if given.naive:
        naive(given.naive)
        return
    if given.command:
        begin = time.perf_counter()
        worldmodel_main(given.command)
        print(json.dumps({"peak, MB": peak(), "s": time.perf_counter() - begin}))
        return
    results = given.out / "data.json"
    found = json.loads(results.read_text()) if results.is_file() else {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        if given.only in (None, "formats"):
            found["formats"] = compare(folder, given.episodes)
        if given.only in (None, "killed"):
            found["killed"] = killed(folder, 100)
        if given.only in (None, "collecting"):
            found["collecting"] = collecting(folder, 500)
        if given.only in (None, "memory"):
            found["memory"] = {f"{n:,} episodes": memory(folder, n, 10) for n in (800, 8000)}
    write_json(results, found)
    write_block("data", f"`make benchmark-data`; torch {torch.__version__}.\n\n{tables(found)}")


def tables(found: dict[str, dict]) -> str:
    """Markdown of what was measured."""
    texts = []
    if "formats" in found:
        rows = [[kind, *_numbers(each.values())] for kind, each in found["formats"].items()]
        texts.append(_table(["format", *next(iter(found["formats"].values()))], rows))
    if "memory" in found:
        rows = [[size, *_numbers(each.values())] for size, each in found["memory"].items()]
        texts.append(_table(["", *next(iter(found["memory"].values()))], rows))
    if "collecting" in found:
        rows = [[way, *_numbers(each.values())] for way, each in found["collecting"].items()]
        head = ["collect CartPole-v1 --pixels", *next(iter(found["collecting"].values()))]
        texts.append(_table(head, rows))
    if "killed" in found:
        told = ", ".join(f"{name}: {value}" for name, value in found["killed"].items())
        texts.append(f"Writers killed at random moments: {told}.")
    return "\n\n".join(texts)


def _numbers(values: Iterable[float]) -> list[str]:
    return [f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}" for value in values]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
