"""Minari datasets that Minari itself wrote."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import h5py
import numpy as np
import pytest
import recordings

from worldmodel.data.importing import Choices, Import, write
from worldmodel.data.readers import open_recording
from worldmodel.errors import FileFormatError, SpecError

minari = pytest.importorskip("minari", reason="needs worldmodel[minari]")
from minari.data_collector import EpisodeBuffer  # noqa: E402

# Minari warns of every description that it is not given.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")

SPACE = gym.spaces.Dict(
    {
        "camera": gym.spaces.Box(0, 255, (40, 36, 3), np.uint8),
        "arm": gym.spaces.Dict({"joint": gym.spaces.Box(-9, 9, (3,), np.float32)}),
        "gear": gym.spaces.Discrete(4),
    }
)
BOX = gym.spaces.Box(-1, 1, (2,), np.float32)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def written(episodes, name="arm/push-v0", form="hdf5", jpeg=False):
    rng = np.random.default_rng(0)
    for episode in episodes:
        frames = len(episode["observations"])
        episode["seen"] = {
            "camera": rng.integers(0, 256, (frames, 40, 36, 3), np.uint8),
            "arm": {"joint": episode["observations"]},
            "gear": rng.integers(0, 4, frames),
        }
    buffers = [
        EpisodeBuffer(
            observations=e["seen"],
            actions=e["actions"],
            rewards=list(e["rewards"]),
            terminations=list(e["terminated"]),
            truncations=list(e["truncated"]),
            infos={"state": e["observations"][:, :1]},
        )
        for e in episodes
    ]
    return minari.create_dataset_from_buffers(
        name,
        buffers,
        observation_space=SPACE,
        action_space=BOX,
        data_format=form,
        jpeg_encoding=jpeg,
        algorithm_name="random",
        author="nobody",
        author_email="nobody@example.org",
        code_permalink="https://example.org",
        description="Made up.",
    )


@pytest.mark.parametrize("form", ["hdf5", "arrow"])
@pytest.mark.parametrize("jpeg", [False, True])
def test_dict_spaces_and_pictures_are_as_minari_gives_them(home, form, jpeg):
    made = written(recordings.made(np.random.default_rng(3)), form=form, jpeg=jpeg)
    for path in (home / "arm" / "push-v0", Path("arm/push-v0")):
        recording = open_recording(path)
        assert recording.format == "minari" and recording.count == 3
        assert recording.observation_space == SPACE and recording.action_space == BOX
        assert recording.roles["arm.joint"] == ("observations/arm/joint",)
        assert recording.facts["minari_id"] == "arm/push-v0"
        tables = list(recording.episodes(list(recording.columns)))
        for table, expected in zip(tables, made, strict=True):
            found = table.columns
            seen = expected.observations
            for name, array in (
                ("observations/camera", seen["camera"]),
                ("observations/arm/joint", seen["arm"]["joint"]),
                ("observations/gear", seen["gear"]),
                ("actions", expected.actions),
                ("rewards", expected.rewards),
                ("terminations", expected.terminations),
                ("truncations", expected.truncations),
                ("infos/state", expected.infos["state"]),
            ):
                assert found[name].dtype == array.dtype
                np.testing.assert_array_equal(found[name], array)


def test_pictures_are_scaled_as_they_are_read(home):
    written(recordings.made(np.random.default_rng(3)))
    recording = open_recording(Path("arm/push-v0"))
    table = next(recording.episodes(["observations/camera"], (20, 18)))
    full = next(recording.episodes(["observations/camera"])).columns["observations/camera"]
    mean = full.reshape(-1, 20, 2, 18, 2, 3).mean((2, 4))
    np.testing.assert_allclose(table.columns["observations/camera"], mean, atol=1)


def test_another_dtype_than_declared_is_refused(home):
    written(recordings.made(np.random.default_rng(3)))
    with h5py.File(home / "arm/push-v0/data/main_data.hdf5", "a") as file:
        joint = file["episode_1/observations/arm/joint"][:]
        del file["episode_1/observations/arm/joint"]
        file["episode_1/observations/arm/joint"] = joint.astype(np.float64)
    recording = open_recording(Path("arm/push-v0"))
    with pytest.raises(FileFormatError, match=r"episode 1: observations/arm/joint is float64"):
        list(recording.episodes(["observations/arm/joint"]))


def test_an_episode_or_an_array_that_is_missing_is_named(home):
    written(recordings.made(np.random.default_rng(3)))
    for missing in ("episode_1/actions", "episode_1"):
        with h5py.File(home / "arm/push-v0/data/main_data.hdf5", "a") as file:
            del file[missing]
        recording = open_recording(Path("arm/push-v0"))
        with pytest.raises(FileFormatError, match=rf"push-v0, episode 1 is .*{missing[-7:]}"):
            list(recording.episodes(["actions"]))


def test_a_link_out_of_the_folder_is_refused(home, tmp_path):
    written(recordings.made(np.random.default_rng(3)))
    (tmp_path / "secret").write_text("x")
    (home / "arm/push-v0/data/extra").symlink_to(tmp_path / "secret")
    with pytest.raises(FileFormatError, match="leads out of its folder"):
        open_recording(Path("arm/push-v0"))


def test_truncated_files_are_refused(home):
    written(recordings.made(np.random.default_rng(3)))
    main = home / "arm/push-v0/data/main_data.hdf5"
    main.write_bytes(main.read_bytes()[:5000])
    with pytest.raises(FileFormatError, match="truncated"):
        open_recording(Path("arm/push-v0"))
    meta = home / "arm/push-v0/data/metadata.json"
    meta.write_text(json.dumps({"data_format": "hdf5"}))
    with pytest.raises(FileFormatError):
        open_recording(Path("arm/push-v0"))


def test_tuples_dict_actions_and_odd_names_find_their_places(home, tmp_path):
    """Also what cannot be learned from, a text, can be left out."""
    seen = gym.spaces.Tuple(
        [
            gym.spaces.Dict({"a.b": gym.spaces.Box(-9, 9, (2,), np.float32)}),
            gym.spaces.Discrete(3),
        ]
    )
    acted = gym.spaces.Dict({"x": BOX, "gear": gym.spaces.Discrete(2)})
    steps = 6
    buffer = EpisodeBuffer(
        observations=(
            {"a.b": np.arange(14, dtype=np.float32).reshape(7, 2) / 2},
            np.arange(7) % 3,
        ),
        actions={"x": np.full((steps, 2), 0.5, np.float32), "gear": np.arange(steps) % 2},
        rewards=[0.0] * steps,
        terminations=[False] * steps,
        truncations=[False] * steps,
    )
    minari.create_dataset_from_buffers(
        "odd-v0", [buffer], observation_space=seen, action_space=acted
    )
    dataset = write(Import("odd-v0", Choices()), tmp_path / "data", {"train": 1.0})
    (one,) = dataset.train
    assert dataset.observation_spec.space() == seen and dataset.action_spec.space() == acted
    np.testing.assert_array_equal(one.observations["0.a.b"], buffer.observations[0]["a.b"])
    np.testing.assert_array_equal(one.actions[:, :2], np.eye(2)[np.arange(steps) % 2])


def test_text_is_named_and_can_be_left_out(home, tmp_path):
    seen = gym.spaces.Dict({"mission": gym.spaces.Text(20), "x": BOX})
    buffer = EpisodeBuffer(
        observations={"mission": ["go"] * 4, "x": np.zeros((4, 2), np.float32)},
        actions=np.zeros((3, 2), np.float32),
        rewards=[0.0] * 3,
        terminations=[False] * 3,
        truncations=[False] * 3,
    )
    minari.create_dataset_from_buffers(
        "text-v0", [buffer], observation_space=seen, action_space=BOX
    )
    with pytest.raises(SpecError, match="mission is to be column 'observations/mission'"):
        Import("text-v0", Choices())
    found = Import("text-v0", Choices(roles={"mission": ()}))
    dataset = write(found, tmp_path / "data", {"train": 1.0})
    assert dataset.observation_spec.names == ("x",)
