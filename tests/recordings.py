"""Small recordings in other formats, written by those formats' own libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LENGTHS = (7, 5, 9)


def made(rng: np.random.Generator, lengths: tuple[int, ...] = LENGTHS) -> list[dict[str, Any]]:
    """Episodes of T steps with T + 1 observations."""
    return [
        {
            "observations": rng.normal(size=(t + 1, 3)).astype(np.float32),
            "picture": rng.integers(0, 256, (t + 1, 16, 12, 3), np.uint8),
            "actions": rng.uniform(-1, 1, (t, 2)).astype(np.float32),
            "rewards": rng.normal(size=t),
            "terminated": np.arange(t) == (t - 1 if i % 2 else -1),
            "truncated": np.arange(t) == (-1 if i % 2 else t - 1),
        }
        for i, t in enumerate(lengths)
    ]


def flat(episodes: list[dict[str, Any]], following: bool = True) -> dict[str, np.ndarray]:
    """As D4RL has it: T observations each, and where they led."""
    arrays = {
        "observations": np.concatenate([e["observations"][:-1] for e in episodes]),
        "next_observations": np.concatenate([e["observations"][1:] for e in episodes]),
        "actions": np.concatenate([e["actions"] for e in episodes]),
        "rewards": np.concatenate([e["rewards"] for e in episodes]),
        "terminals": np.concatenate([e["terminated"] for e in episodes]),
        "timeouts": np.concatenate([e["truncated"] for e in episodes]),
    }
    if not following:
        del arrays["next_observations"]
    return arrays


def write_d4rl(path: Path, episodes: list[dict[str, Any]], following: bool = True) -> Path:
    h5py = pytest.importorskip("h5py", reason="needs worldmodel[hdf5]")
    with h5py.File(path, "w") as file:
        for name, array in flat(episodes, following).items():
            file.create_dataset(name, data=array, compression="gzip", chunks=True)
        file["infos/qpos"] = np.concatenate([e["observations"][:-1, :2] for e in episodes])
        file["metadata/algorithm"] = b"random"
    return path


def write_robomimic(path: Path, episodes: list[dict[str, Any]], following: bool = True) -> Path:
    h5py = pytest.importorskip("h5py", reason="needs worldmodel[hdf5]")
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift"})
        for i, episode in enumerate(episodes):
            demo = data.create_group(f"demo_{i}")
            for prefix, part in (("obs", slice(None, -1)), ("next_obs", slice(1, None))):
                if prefix == "obs" or following:
                    demo[f"{prefix}/joint"] = episode["observations"][part]
                    demo[f"{prefix}/agentview_image"] = episode["picture"][part]
            demo["actions"] = episode["actions"]
            demo["rewards"] = episode["rewards"]
            demo["dones"] = (episode["terminated"] | episode["truncated"]).astype(np.int64)
    return path


def write_lerobot(root: Path, episodes: list[dict[str, Any]], fps: int = 10) -> Path:
    """Two files of rows, one video of all episodes; a row is an observation and its action."""
    pytest.importorskip("pyarrow", reason="needs worldmodel[lerobot]")
    av = pytest.importorskip("av", reason="needs worldmodel[lerobot]")
    camera = "observation.images.top"
    rows, start = [], 0
    for i, episode in enumerate(episodes):
        steps = len(episode["actions"])
        rows.append(
            {
                "episode_index": i,
                "tasks": ["push"],
                "length": steps,
                "dataset_from_index": start,
                "dataset_to_index": start + steps,
                "data/chunk_index": 0,
                "data/file_index": int(i == len(episodes) - 1),
                f"videos/{camera}/chunk_index": 0,
                f"videos/{camera}/file_index": 0,
                f"videos/{camera}/from_timestamp": start / fps,
                f"videos/{camera}/to_timestamp": (start + steps) / fps,
                "stats/action/mean": [0.0, 0.0],
            }
        )
        start += steps
    for number in (0, 1):
        chosen = [r for r in rows if r["data/file_index"] == number]
        _write_rows(root / f"data/chunk-000/file-{number:03d}.parquet", chosen, episodes, fps)
    _write_episodes(root / "meta/episodes/chunk-000/file-000.parquet", rows)
    size = episodes[0]["picture"].shape[1:]
    video = root / f"videos/{camera}/chunk-000/file-000.mp4"
    frames = np.concatenate([e["picture"][:-1] for e in episodes])
    write_video(video, frames, fps, av)
    features = {
        camera: {"dtype": "video", "shape": list(size), "names": ["height", "width", "channels"]},
        "observation.state": {"dtype": "float32", "shape": [3], "names": ["x", "y", "z"]},
        "action": {"dtype": "float32", "shape": [2], "names": ["a", "b"]},
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    }
    for name in ("frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "int64", "shape": [1], "names": None}
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so100",
        "total_episodes": len(episodes),
        "total_frames": start,
        "fps": fps,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


def _write_rows(
    path: Path, rows: list[dict[str, Any]], episodes: list[dict[str, Any]], fps: int
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    tables = []
    for row in rows:
        episode, steps = episodes[row["episode_index"]], row["length"]
        index = np.arange(row["dataset_from_index"], row["dataset_to_index"])
        tables.append(
            pa.table(
                {
                    "observation.state": pa.FixedSizeListArray.from_arrays(
                        episode["observations"][:-1].reshape(-1), 3
                    ),
                    "action": pa.FixedSizeListArray.from_arrays(episode["actions"].reshape(-1), 2),
                    "next.reward": episode["rewards"].astype(np.float32),
                    "timestamp": (np.arange(steps) / fps).astype(np.float32),
                    "frame_index": np.arange(steps),
                    "episode_index": np.full(steps, row["episode_index"]),
                    "index": index,
                    "task_index": np.zeros(steps, np.int64),
                }
            )
        )
    pq.write_table(pa.concat_tables(tables), path)


def _write_episodes(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_video(path: Path, frames: np.ndarray, fps: int, av: Any, codec: str = "libx264") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv444p"
        stream.options = {"crf": "5", "g": "2"}
        for frame in frames:
            shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(shown))
        container.mux(stream.encode())
    return path


def write_tables(root: Path, episodes: list[dict[str, Any]]) -> Path:
    """Folders of CSV and PNG."""
    from PIL import Image

    for i, episode in enumerate(episodes):
        run = root / f"run{i}"
        run.mkdir(parents=True)
        rows = ["time,action_x,action_y,reward"]
        for t, (action, reward) in enumerate(
            zip(episode["actions"], episode["rewards"], strict=True)
        ):
            rows.append(",".join(map(repr, map(float, (t / 10, *action, reward)))))
            Image.fromarray(episode["picture"][t]).save(run / f"{t}.png")
        (run / "log.csv").write_text("\n".join(rows))
    return root


def smooth(rng: np.random.Generator, frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Pictures that a codec can hold: gradients that move."""
    y, x = np.mgrid[:height, :width]
    phase = rng.uniform(0, 6, (frames, 1, 1, 3))
    waves = np.sin(phase + (x / width * 3 + y / height * 2)[None, ..., None])
    return (127.5 + 100 * waves).astype(np.uint8)
