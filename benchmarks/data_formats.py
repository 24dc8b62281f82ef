"""Random windows of 64 x 64 pictures, read from our dataset and from what others keep them in."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from data_recorded import EPISODE, FRAME, MB, forget, peak, said, write_ours

from worldmodel import data

_STEPS, _BATCH = 30, 32
_DRAWS = 30  # batches


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
        options = {"chunks": (16, *FRAME)} if kind == "hdf5 chunked" else {}
        with h5py.File(out, "w") as file:
            file.create_dataset("frames", data=frames, **options)
    elif kind.startswith("zarr"):
        import zarr

        compressors = "auto" if kind == "zarr" else None
        zarr.create_array(str(out), data=frames, chunks=(32, *FRAME), compressors=compressors)
    elif kind == "tensordict":
        from tensordict import MemoryMappedTensor

        MemoryMappedTensor.from_tensor(torch.from_numpy(frames), filename=str(out))
    elif kind == "arrow":
        import pyarrow as pa

        rows = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(int(np.prod(FRAME))), len(frames), [None, pa.py_buffer(frames)]
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
            episode, first = starts // frames, np.minimum(starts % frames, EPISODE - _STEPS)
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

        mapped = MemoryMappedTensor.from_filename(str(path), torch.uint8, (count, *FRAME))
        return lambda starts: mapped[torch.from_numpy(starts[:, None] + span)].numpy()
    if kind == "arrow":
        import pyarrow as pa

        column = pa.ipc.open_file(pa.memory_map(str(path))).read_all()["frames"].chunk(0)
        mapped = np.frombuffer(column.buffers()[1], np.uint8).reshape(-1, *FRAME)
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
            assert read(drawn).shape == (_BATCH, _STEPS + 1, *FRAME)
        found[name] = _DRAWS * _BATCH / (time.perf_counter() - begin)
        found[f"{name}, of CPU"] = _DRAWS * _BATCH / (time.process_time() - busy)
    return found | {"peak, MB": peak()}


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
        size = sum(file.stat().st_size for file in files) / MB
        told = said(folder / "log.txt", "--measure", kind, path, str(count))
        results[kind] = told | {"size, MB": size}
        print(kind, results[kind], flush=True)
        if path != ours:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return results
