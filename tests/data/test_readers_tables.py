"""Tables with pictures or videos beside them."""

from __future__ import annotations

import csv
import gzip

import numpy as np
import pytest
import recordings
from PIL import Image

from worldmodel.data.importing import Choices, Import
from worldmodel.data.readers import mapping, open_recording
from worldmodel.data.readers import recording as recording_module
from worldmodel.data.readers.pictures import video_times
from worldmodel.errors import ConfigError, FileFormatError, SpecError


def write_csv(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
    return path


def table(episode, dt=0.1):
    steps = len(episode["actions"])
    return {
        "time": [repr(float(t)) for t in np.arange(steps) * dt],
        "action_x": [repr(float(a)) for a in episode["actions"][:, 0]],
        "action_y": [repr(float(a)) for a in episode["actions"][:, 1]],
        "reward": [repr(float(r)) for r in episode["rewards"]],
        "terminated": [str(bool(t)).lower() for t in episode["terminated"]],
    }


def save_pictures(folder, frames):
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{i}.png")


def read(path, asked=None):
    recording = open_recording(path)
    roles = mapping.settled(recording, asked or {})
    columns = sorted({column for names in roles.values() for column in names})
    return recording, [mapping.by_role(found, roles) for found in recording.episodes(columns)]


@pytest.fixture
def episodes():
    return recordings.made(np.random.default_rng(3), (12, 5, 9))


def check(found, episodes, stream="frames", end=-1):
    assert len(found) == len(episodes)
    for one, expected in zip(found, episodes, strict=True):
        np.testing.assert_array_equal(one[stream], expected["picture"][:end])
        np.testing.assert_array_equal(one["actions"].astype(np.float32), expected["actions"])
        np.testing.assert_array_equal(one["rewards"], expected["rewards"])
        np.testing.assert_array_equal(one["terminated"], expected["terminated"])
        np.testing.assert_array_equal(one["timestamps"], np.arange(len(one["actions"])) * 0.1)


@pytest.mark.parametrize("end", [-1, None])
def test_folders_of_png_and_csv(tmp_path, episodes, end):
    """12 pictures put 10.png before 2.png, if names were sorted as text."""
    for i, episode in enumerate(episodes):
        write_csv(tmp_path / f"run{i}/log.csv", table(episode))
        save_pictures(tmp_path / f"run{i}", episode["picture"][:end])
    recording, found = read(tmp_path)
    assert recording.format == "tables" and recording.count == 3
    assert recording.columns["frames"].final == (end is None)
    check(found, episodes, end=end)


def test_a_folder_of_pictures_beside_each_table(tmp_path, episodes):
    for i, episode in enumerate(episodes):
        write_csv(tmp_path / f"run{i}.csv", table(episode))
        save_pictures(tmp_path / f"run{i}", episode["picture"][:-1])
    check(read(tmp_path)[1], episodes)


def test_cameras_are_called_by_their_folders(tmp_path, episodes):
    write_csv(tmp_path / "log.csv", table(episodes[0]))
    save_pictures(tmp_path / "left", episodes[0]["picture"][:-1])
    save_pictures(tmp_path / "right", 255 - episodes[0]["picture"][:-1])
    _, found = read(tmp_path)
    check(found, episodes[:1], "left")
    np.testing.assert_array_equal(found[0]["right"], 255 - episodes[0]["picture"][:-1])


def test_one_table_of_several_episodes_names_its_pictures(tmp_path, episodes):
    columns = {}
    for i, episode in enumerate(episodes):
        steps = len(episode["actions"])
        save_pictures(tmp_path / f"pictures{i}", episode["picture"][:-1])
        names = [f"pictures{i}/{t}.png" for t in range(steps)]
        part = {"episode": [f"ep{i}"] * steps, "camera": names, **table(episode)}
        columns = {name: [*columns.get(name, []), *values] for name, values in part.items()}
    write_csv(tmp_path / "log.csv", columns)
    recording, found = read(tmp_path / "log.csv")
    assert recording.count == 3
    check(found, episodes, "camera")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_column_of_episodes_may_have_a_name_of_its_own(tmp_path, episodes, form):
    columns = {}
    for i, episode in enumerate(episodes):
        steps = len(episode["actions"])
        part = {"Versuch": [i + 7] * steps, **table(episode), "level": [*map(float, range(steps))]}
        columns = {name: [*columns.get(name, []), *values] for name, values in part.items()}
    path = write_csv(tmp_path / "log.csv", columns)
    if form == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        numbers = {
            k: v if k == "Versuch" else [float(x == "true" or x) for x in v]
            for k, v in columns.items()
            if k != "terminated"
        }
        path = tmp_path / "log.parquet"
        parquet.write_table(pytest.importorskip("pyarrow").table(numbers), path)
    asked = {"level": ("level",), "episode": ("Versuch",)}
    found = Import(path, Choices(roles=asked))
    assert found.recording.count == 3 and "Versuch" not in found.recording.columns
    read = [len(part.columns["level"]) for part in found.recording.episodes(found.columns)]
    assert read == [len(episode["actions"]) for episode in episodes]
    with pytest.raises(SpecError, match="episode is to be column 'Lauf', which is missing"):
        Import(path, Choices(roles={**asked, "episode": ("Lauf",)}))


def test_only_tables_have_a_column_of_episodes(tmp_path):
    np.savez(tmp_path / "a.npz", actions=np.zeros((5, 1)), obs=np.zeros((6, 2)))
    with pytest.raises(ConfigError, match="episode=run is for tables"):
        Import(tmp_path / "a.npz", Choices(roles={"episode": ("run",)}))


def test_parquet_with_lists(tmp_path, episodes):
    pa = pytest.importorskip("pyarrow", reason="needs worldmodel[parquet]")
    import pyarrow.parquet as pq

    parts = []
    for i, e in enumerate(episodes):
        columns = {
            "episode": np.full(len(e["actions"]), i),
            "action": list(e["actions"]),
            "observation": list(e["observations"][:-1]),
        }
        parts.append(pa.table(columns))
    pq.write_table(pa.concat_tables(parts), tmp_path / "log.parquet")
    _, found = read(tmp_path / "log.parquet")
    for one, expected in zip(found, episodes, strict=True):
        assert one["actions"].dtype == np.float32
        np.testing.assert_array_equal(one["actions"], expected["actions"])
        np.testing.assert_array_equal(one["observations"], expected["observations"][:-1])


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_a_video_beside_each_table(tmp_path, episodes, codec):
    av = pytest.importorskip("av", reason="needs worldmodel[video]")
    rng = np.random.default_rng(0)
    suffix = "mp4" if codec == "libx264" else "mkv"
    for i, e in enumerate(episodes):
        e["picture"] = recordings.smooth(rng, len(e["observations"]))
        write_csv(tmp_path / f"run{i}.csv", table(e))
        video = tmp_path / f"run{i}.{suffix}"
        recordings.write_video(video, e["picture"][:-1], 10, av, codec)
        times = video_times(video, "a video")
        np.testing.assert_allclose(times, np.arange(len(e["actions"])) / 10, atol=1e-3)
    _, found = read(tmp_path)
    for one, expected in zip(found, episodes, strict=True):
        assert one["frames"].shape == expected["picture"][:-1].shape
        assert np.abs(one["frames"].astype(int) - expected["picture"][:-1]).max() < 12


def test_tables_of_different_columns_have_their_own_clocks(tmp_path, episodes):
    write_csv(tmp_path / "actions.csv", {"time": [0.0, 0.1, 0.2], "torque": [1.0, 2.0, 3.0]})
    write_csv(tmp_path / "joints.csv", {"time": [0.0, 0.05], "q": [1.0, 2.0], "v": [3.0, 4.0]})
    save_pictures(tmp_path / "camera", episodes[0]["picture"][:2])
    write_csv(tmp_path / "camera.csv", {"time": [0.0, 0.2]})
    recording, (found,) = read(tmp_path)
    assert recording.roles["timestamps.joints"] == ("joints/time",)
    np.testing.assert_array_equal(found["joints"], [[1, 3], [2, 4]])
    np.testing.assert_array_equal(found["actions"], [1, 2, 3])
    np.testing.assert_array_equal(found["timestamps.camera"], [0, 0.2])


def bad(tmp_path, message):
    with pytest.raises(FileFormatError, match=message):
        read(tmp_path)


def test_an_empty_cell_names_episode_column_and_time(tmp_path):
    write_csv(tmp_path / "run.csv", {"action": ["1", "", "3"], "obs": ["1", "2", "3"]})
    bad(tmp_path, "episode run: action is empty at time 1")


def test_rows_of_another_length_name_the_line(tmp_path):
    (tmp_path / "run.csv").write_text("action,obs\n1,2\n3\n")
    bad(tmp_path, "line 3 has 1 cells; expected the 2")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_two_columns_of_one_name_are_refused(tmp_path, form):
    """One of them would be read, and nobody knows which."""
    if form == "csv":
        (tmp_path / "run.csv").write_text("action,obs_x,obs_x\n1,2,3\n")
    else:
        pa = pytest.importorskip("pyarrow", reason="needs worldmodel[parquet]")
        from pyarrow import parquet

        columns = [pa.array([1.0, 2.0])] * 3
        named = pa.Table.from_arrays(columns, names=["action", "obs_x", "obs_x"])
        parquet.write_table(named, tmp_path / "run.parquet")
    bad(tmp_path, f"run.{form} has two columns 'obs_x'; expected names of their own")


def test_what_has_no_name_in_the_header_is_no_column(tmp_path):
    """Spreadsheets write separators too many, pandas the number of the row."""
    (tmp_path / "run.csv").write_text(",action,obs,,\n0,1,2,,\n1,3,4,,\n")
    found, _ = read(tmp_path)
    assert list(found.columns) == ["action", "obs"]


@pytest.mark.parametrize("coding", ["latin-1", "utf-16"])
def test_text_that_is_no_utf_8_says_so(tmp_path, coding):
    (tmp_path / "run.csv").write_bytes("action,obs_ä\n1,2\n".encode(coding))
    bad(tmp_path, "run.csv is no text in UTF-8")


def test_a_named_picture_that_is_missing_or_outside_is_refused(tmp_path, episodes):
    Image.fromarray(episodes[0]["picture"][0]).save(tmp_path / "secret.png")
    home = tmp_path / "run"
    save_pictures(home, episodes[0]["picture"][:1])
    for name, message in (
        ("1.png", "camera at time 1|camera: .*1.png is missing"),
        ("../secret.png", "camera: .*leads out of its folder"),
    ):
        write_csv(home / "log.csv", {"action": [1, 2], "camera": ["0.png", name]})
        bad(home, message)
    (home / "1.png").symlink_to(tmp_path / "secret.png")
    write_csv(home / "log.csv", {"action": [1, 2], "camera": ["0.png", "1.png"]})
    bad(home, "leads out of its folder")


def test_a_picture_of_another_size_or_cut_off_names_its_time(tmp_path, episodes):
    write_csv(tmp_path / "log.csv", {"action": [1.0, 2.0, 3.0]})
    save_pictures(tmp_path, episodes[0]["picture"][:3])
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content[:200])
    bad(tmp_path, "frames at time 1, 1.png is truncated")
    Image.fromarray(episodes[0]["picture"][0, :8]).save(tmp_path / "1.png")
    bad(tmp_path, r"frames at time 1 is uint8 \(8, 12, 3\); expected uint8 \(16, 12, 3\)")


def test_a_video_that_is_cut_off_is_refused(tmp_path, episodes):
    av = pytest.importorskip("av", reason="needs worldmodel[video]")
    write_csv(tmp_path / "run.csv", table(episodes[0]))
    pictures = recordings.smooth(np.random.default_rng(0), 12)
    recordings.write_video(tmp_path / "run.mkv", pictures, 10, av, "ffv1")
    content = (tmp_path / "run.mkv").read_bytes()
    (tmp_path / "run.mkv").write_bytes(content[: len(content) // 2])
    recording = open_recording(tmp_path)
    assert recording.roles["timestamps.frames"]  # fewer pictures than rows: they have own times
    with pytest.raises(FileFormatError, match=r"episode run: frames has .*expected 12, since"):
        list(Import(tmp_path, Choices()).episodes())
    (tmp_path / "run.mkv").write_bytes(content[:100])
    told = r"episode run: frames: .*(truncated, corrupt or no video|no frames|no stream)"
    bad(tmp_path, told)


def test_a_video_shorter_than_a_later_table_names_episode_stream_and_time(tmp_path, episodes):
    av = pytest.importorskip("av", reason="needs worldmodel[video]")
    rng = np.random.default_rng(0)
    for i, frames in enumerate((12, 9)):
        write_csv(tmp_path / f"run{i}.csv", table(episodes[0]) | {"time": np.arange(12) / 10})
        recordings.write_video(
            tmp_path / f"run{i}.mkv", recordings.smooth(rng, frames), 10, av, "ffv1"
        )
    with pytest.raises(
        FileFormatError, match="episode run1: frames ends at time 8, and timestamps at 11"
    ):
        list(Import(tmp_path, Choices()).episodes())


@pytest.mark.parametrize("folders", [False, True])
def test_a_table_that_lacks_a_column_is_named(tmp_path, folders):
    for i in range(2):
        columns = {"action": [1, 2], "obs": [1, 2], "reward": [0, 1]}
        if i:
            del columns["reward"]
        (tmp_path / f"run{i}").mkdir(parents=True)
        write_csv(tmp_path / (f"run{i}/log.csv" if folders else f"run{i}.csv"), columns)
    bad(tmp_path, "episode run1: reward is missing; expected int64 scalar as in run0")


def test_whole_numbers_in_one_csv_and_fractions_in_the_next_are_fractions(tmp_path):
    for i, cells in enumerate(([0, 1, 2], [0.5, 1, 2], ["true", "false", 1])):
        write_csv(tmp_path / f"run{i}.csv", {"action": [1, 2, 3], "obs": cells})
    _, found = read(tmp_path)
    given = [one["observations"].tolist() for one in found]
    assert given == [[0, 1, 2], [0.5, 1, 2], [1, 0, 1]]
    assert {one["observations"].dtype.name for one in found} == {"float64"}


def test_a_word_among_numbers_names_episode_and_time(tmp_path):
    write_csv(tmp_path / "run0.csv", {"action": [1, 2, 3], "obs": [1, "x", 3]})
    with pytest.raises(SpecError, match=r"left out, being no numbers: obs \('x' at time 1 of epis"):
        read(tmp_path)
    write_csv(tmp_path / "run0.csv", {"action": [1, 2, 3], "obs": [1, 2, 3]})
    write_csv(tmp_path / "run1.csv", {"action": [1, 2, 3], "obs": [1, 2, "x"]})
    bad(tmp_path, "episode run1: obs is 'x' at time 2 of episode run1; expected int64 scalar")


def test_a_folder_without_pictures_beside_a_table_is_no_stream(tmp_path, episodes):
    write_csv(tmp_path / "run.csv", table(episodes[0]) | {"obs_0": range(12)})
    (tmp_path / "run").mkdir()
    assert "frames" not in read(tmp_path)[1][0]


@pytest.mark.parametrize("suffix", ["bmp", "tiff", "webp"])
def test_pictures_of_other_formats(tmp_path, episodes, suffix):
    write_csv(tmp_path / "run.csv", table(episodes[0]))
    (tmp_path / "run").mkdir()
    for t, frame in enumerate(episodes[0]["picture"][:-1]):
        Image.fromarray(frame).save(tmp_path / f"run/{t}.{suffix}", lossless=True)
    check(read(tmp_path)[1], episodes[:1])


def test_depth_of_16_bits_is_kept(tmp_path, episodes):
    depth = np.random.default_rng(0).integers(0, 2**16, (12, 10, 9)).astype(np.uint16)
    write_csv(tmp_path / "run.csv", table(episodes[0]))
    save_pictures(tmp_path / "run", depth)
    found = read(tmp_path)[1][0]["frames"]
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, depth)
    Image.fromarray(depth[3].astype(np.uint8)).save(tmp_path / "run/3.png")
    bad(tmp_path, r"run: frames at time 3 is uint8 \(10, 9\); expected uint16 \(10, 9\)")


@pytest.mark.parametrize("separator", [";", "\t", ",", "|"])
@pytest.mark.parametrize("packed", [False, True])
def test_separators_marks_of_order_and_packing_of_csv(tmp_path, episodes, separator, packed):
    columns = table(episodes[0])
    lines = [separator.join(columns)]
    for row in zip(*columns.values(), strict=True):
        cells = [c if separator == "," else c.replace(".", ",") for c in row]
        lines.append(separator.join(cells))
    content = "\n".join(lines).encode("utf-8-sig")
    path = tmp_path / ("my run.csv.gz" if packed else "my run.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    save_pictures(tmp_path / "my run", episodes[0]["picture"][:-1])
    recording, found = read(tmp_path)
    check(found, episodes[:1])
    assert [t.name for t in recording.episodes(["reward"])] == ["my run"]
    if packed:
        path.write_bytes(gzip.compress(content)[:-40])
        bad(tmp_path, "truncated, corrupt or no CSV")


def test_a_table_that_unpacks_to_more_than_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"action,obs_0\n" + b"0,0\n" * 10_000))
    monkeypatch.setattr(recording_module, "MOST_BYTES", 100_000)
    bad(path, r"episode x declares float64 \(10000, 2\)")


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("timestamp", [1_700_000_000_000_000_000 + 50_000_000 * t for t in range(12)]),
        ("timestamp_ns", [50_000_000 * t for t in range(12)]),
        ("time [ms]", [50 * t for t in range(12)]),
        ("date", [f"2024-01-01T00:00:00.{50 * t:03d}" for t in range(12)]),
        ("Time (s)", [0.05 * t for t in range(12)]),
    ],
)
def test_units_of_time(tmp_path, name, cells):
    write_csv(tmp_path / "x.csv", {name: cells, "action": range(12), "obs": range(12)})
    found = Import(tmp_path / "x.csv", Choices())
    ((_, episode),) = list(found.episodes())
    times = episode["timestamps"]
    np.testing.assert_allclose(times - times[0], np.arange(12) * 0.05, atol=1e-6)
    assert found.samplings()["timestamps"].period == pytest.approx(0.05, rel=1e-4)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_dates_of_parquet_are_times(tmp_path, unit):
    pa = pytest.importorskip("pyarrow", reason="needs worldmodel[parquet]")
    import pyarrow.parquet as pq

    ticks = (1_700_000_000 * 20 + np.arange(12)) * {"ms": 50, "us": 50_000, "ns": 50_000_000}[unit]
    columns = {"time": pa.array(ticks, pa.timestamp(unit)), "action": range(12), "obs": range(12)}
    columns["comment"] = ["text"] * 12
    pq.write_table(pa.table({n: pa.array(c) for n, c in columns.items()}), tmp_path / "x.parquet")
    found = Import(tmp_path / "x.parquet", Choices())
    ((_, episode),) = list(found.episodes())
    expected = 1_700_000_000 + np.arange(12) * 0.05
    np.testing.assert_allclose(episode["timestamps"], expected, rtol=0, atol=1e-6)
    assert "left out, being no numbers: comment" in found.recording.notes


def test_what_belongs_to_no_table_is_told(tmp_path, episodes):
    write_csv(tmp_path / "run.csv", table(episodes[0]) | {"obs_0": range(12)})
    save_pictures(tmp_path / "elsewhere/run", episodes[0]["picture"])
    (note,) = read(tmp_path / ".")[0].notes
    assert note.startswith("13 pictures or videos belong to no table")
