"""From a source to episodes: what does not fit is refused by name, what does is taken as it is."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import recordings

from worldmodel import data
from worldmodel.data.importing import Choices, Import, report, write
from worldmodel.data.readers import mapping, open_recording
from worldmodel.errors import (
    ConfigError,
    FileFormatError,
    MissingExtraError,
    SpecError,
    WorldModelError,
)


@pytest.fixture
def episodes():
    return recordings.made(np.random.default_rng(3))


def saved(path, episodes, **changed):
    np.savez(path, **{**recordings.flat(episodes), **changed})
    return path


def read(path, **choices):
    found = Import(path, Choices(**choices))
    return found, [episode for _, episode in found.episodes()]


def refused(path, message, error=FileFormatError, **choices):
    with pytest.raises(error, match=message):
        read(path, **choices)


def test_a_number_that_is_not_finite_names_episode_stream_and_time(tmp_path, episodes):
    seen = recordings.flat(episodes)["observations"]
    seen[7 + 3, 1] = np.nan
    path = saved(tmp_path / "x.npz", episodes, observations=seen, time=np.arange(21) * 0.5)
    refused(path, r"x\.npz, episode 1: observations is nan at time 3 \(5 s\)")


def test_a_date_is_told_to_the_millisecond(tmp_path, episodes):
    seen = recordings.flat(episodes)["observations"]
    seen[4, 0] = np.inf
    path = saved(tmp_path / "x.npz", episodes, observations=seen, time=1.7e9 + np.arange(21) * 0.1)
    refused(path, r"observations is inf at time 4 \(1700000000\.4 s\)")


def test_time_that_does_not_ascend_is_refused(tmp_path, episodes):
    time = np.arange(21.0)
    time[9] = 3.0
    path = saved(tmp_path / "x.npz", episodes, time=time)
    refused(path, "episode 1: timestamps goes from 8 s to 3 s at time 2")


def test_lengths_that_do_not_fit_are_refused(tmp_path, episodes):
    path = saved(tmp_path / "x.npz", episodes, actions=np.zeros((20, 2)))
    refused(path, "equally many steps, got .*'actions': 20")
    for i, episode in enumerate(episodes):
        kept = episode["observations"][: -3 if i == 2 else None]
        np.savez(tmp_path / f"run{i}.npz", observations=kept, actions=episode["actions"])
    (tmp_path / "x.npz").unlink()
    refused(tmp_path, "episode run2: observations has 7 entries and ends at time 6; expected 10")


def test_another_dtype_than_before_is_refused(tmp_path, episodes):
    for i, episode in enumerate(episodes):
        seen = episode["observations"].astype(np.float32 if i < 2 else np.float64)
        np.savez(tmp_path / f"run{i}.npz", observations=seen, actions=episode["actions"])
    refused(tmp_path, "episode run2: observations is float64 3; expected float32 3 as in run0")


def test_text_and_pickles_are_no_numbers(tmp_path, episodes):
    note, pickled = np.array(["a"]), np.array([{}], object)
    path = saved(tmp_path / "x.npz", episodes, note=note, extra=pickled)
    found, _ = read(path)
    assert "left out, being no numbers: note, extra" in found.recording.notes
    path = saved(tmp_path / "y.npz", episodes, actions=pickled)
    refused(path, "actions holds object; expected numbers")


@pytest.mark.parametrize("cut", [10, 400, -1])
def test_a_truncated_archive_is_refused(tmp_path, episodes, cut):
    path = saved(tmp_path / "x.npz", episodes)
    path.write_bytes(path.read_bytes()[:cut])
    refused(path, r"x\.npz is truncated, corrupt or no archive")


def test_a_changed_byte_is_found_by_the_archives_own_checksum(tmp_path, episodes):
    path = saved(tmp_path / "x.npz", episodes)
    content = bytearray(path.read_bytes())
    place = content.find(recordings.flat(episodes)["actions"].tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    refused(path, "Bad CRC-32 for file 'actions.npy'")


def bomb(path, shape, dishonest=False):
    """An archive of a few kilobytes that declares terabytes of zeros."""
    header = io.BytesIO()
    about = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("observations.npy", "w", force_zip64=True) as entry:
            entry.write(header.getvalue())
            entry.write(bytes(10**6 if dishonest else int(np.prod(shape))))
        for name in ("actions", "rewards"):
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.zeros(shape[0]))
    return path


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = bomb(tmp_path / "x.npz", (10, 2**20, 2**20), dishonest=True)
    refused(path, "declares 10,995,116,277,760 bytes and has 1,000,000")
    monkeypatch.setattr("worldmodel.data.readers.recording.MOST_BYTES", 10**6)
    path = bomb(tmp_path / "y.npz", (10, 2**9, 2**9))
    assert path.stat().st_size < 20_000
    refused(path, "declares uint8 .10, 512, 512., .* GiB in one episode")


def test_more_than_the_disk_holds_is_refused_before_anything_is_read(tmp_path, episodes):
    h5py = pytest.importorskip("h5py", reason="needs worldmodel[hdf5]")
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        shape = (2**30, 64, 64, 3)
        file.create_dataset("observations", shape, "uint8", chunks=(1, 64, 64, 3))
        file.create_dataset("actions", (2**30, 1), "float32", chunks=(2**16, 1))
    assert (tmp_path / "x.hdf5").stat().st_size < 10_000
    found = Import(tmp_path / "x.hdf5", Choices())
    with pytest.raises(FileFormatError, match=r"declares arrays of 13,198,.* bytes"):
        found.require_room(tmp_path / "out")


def test_links_out_of_the_folder_are_refused(tmp_path, episodes):
    home = tmp_path / "home"
    home.mkdir()
    np.save(home / "actions.npy", np.zeros((5, 2)))
    np.save(tmp_path / "secret.npy", np.zeros((5, 2)))
    (home / "observations.npy").symlink_to(tmp_path / "secret.npy")
    refused(home, "observations.npy leads out of its folder")


def test_hdf5_links_to_other_files_are_refused(tmp_path, episodes):
    h5py = pytest.importorskip("h5py", reason="needs worldmodel[hdf5]")
    path = recordings.write_d4rl(tmp_path / "x.hdf5", episodes)
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["x"] = np.zeros(3)
    with h5py.File(path, "a") as file:
        file["infos/secret"] = h5py.ExternalLink("other.hdf5", "x")
    refused(path, "infos/secret leads out of the file, to other.hdf5")
    with h5py.File(path, "a") as file:
        del file["infos/secret"]
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.hdf5"), "x", (3,))
        file.create_virtual_dataset("infos/secret", layout)
    refused(path, "infos/secret keeps its data in other files")


def test_a_truncated_hdf5_is_refused(tmp_path, episodes):
    path = recordings.write_robomimic(tmp_path / "x.hdf5", episodes)
    content = path.read_bytes()
    for cut in (100, len(content) // 2):
        path.write_bytes(content[:cut])
        refused(path, "x.hdf5 is truncated, corrupt or no HDF5")


def test_a_demo_without_a_stream_is_refused(tmp_path, episodes):
    h5py = pytest.importorskip("h5py", reason="needs worldmodel[hdf5]")
    path = recordings.write_robomimic(tmp_path / "x.hdf5", episodes)
    with h5py.File(path, "a") as file:
        del file["data/demo_1/obs/joint"]
    refused(path, "obs/joint of demo_1 is missing; the episode has")


class TestLeRobot:
    @pytest.fixture
    def root(self, tmp_path, episodes):
        rng = np.random.default_rng(0)
        for episode in episodes:
            episode["picture"] = recordings.smooth(rng, len(episode["observations"]))
        return recordings.write_lerobot(tmp_path / "arm", episodes)

    def change(self, root, **features):
        info = json.loads((root / "meta/info.json").read_text())
        info["features"] |= features
        (root / "meta/info.json").write_text(json.dumps(info))

    def test_another_dtype_than_declared(self, root):
        self.change(root, action={"dtype": "float64", "shape": [2], "names": None})
        refused(root, "episode 0: action is float32 .2,.; meta/info.json declares float64 2")

    def test_a_declared_column_that_is_missing(self, root):
        self.change(root, **{"observation.force": {"dtype": "float32", "shape": [1]}})
        refused(root, r"has no column 'observation.force'; it has observation.state")

    def test_a_video_shorter_than_its_table(self, root):
        av = pytest.importorskip("av", reason="needs worldmodel[lerobot]")
        video = next(root.rglob("*.mp4"))
        pictures = recordings.smooth(np.random.default_rng(0), 16)  # of 21 rows
        recordings.write_video(video, pictures, 10, av)
        refused(root, "episode 2: observation.images.top: the pictures end before time 4")

    def test_a_truncated_video_or_table(self, root):
        video, table = next(root.rglob("*.mp4")), root / "data/chunk-000/file-001.parquet"
        for path in (video, table):
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            refused(root, "truncated, corrupt or no (video|Parquet)")
            path.write_bytes(content)

    def test_rows_that_are_missing(self, root):
        pq = pytest.importorskip("pyarrow.parquet", reason="needs worldmodel[lerobot]")
        file = root / "data/chunk-000/file-001.parquet"
        pq.write_table(pq.read_table(file)[:-2], file)
        refused(root, r"episode 2: .* has 7 rows, of which 0 were read; expected 0 to 9")

    def test_a_path_is_no_format_of_another_kind(self, root):
        info = root / "meta/info.json"
        info.write_text(info.read_text().replace("{chunk_index:03d}", "{chunk_index:>2000000000}"))
        refused(root, "chunk_index:>2000000000.* is missing")

    def test_paths_out_of_the_folder(self, root):
        info = root / "meta/info.json"
        text = info.read_text()
        info.write_text(text.replace('"data/chunk', '"../data/chunk'))
        refused(root, "leads out of its folder")
        info.write_text(text)
        table = root / "data/chunk-000/file-001.parquet"
        table.rename(root.parent / "secret.parquet")
        table.symlink_to(root.parent / "secret.parquet")
        refused(root, "leads out of its folder")


def test_a_demo_without_actions_is_not_passed_over(tmp_path, episodes):
    h5py = pytest.importorskip("h5py", reason="needs worldmodel[hdf5]")
    path = recordings.write_robomimic(tmp_path / "x.hdf5", episodes)
    with h5py.File(path, "a") as file:
        del file["data/demo_1/actions"]
    refused(path, "data/demo_1 has no actions")


def test_a_snapshot_of_the_hubs_cache_is_read_by_its_links(tmp_path):
    rng = np.random.default_rng(0)
    episodes = recordings.made(rng)
    for episode in episodes:
        episode["picture"] = recordings.smooth(rng, len(episode["observations"]))
    plain = recordings.write_lerobot(tmp_path / "plain", episodes)
    snapshot, blobs = (
        tmp_path / "datasets--me--arm/snapshots/0a1b",
        tmp_path / "datasets--me--arm/blobs",
    )
    blobs.mkdir(parents=True)
    for number, file in enumerate(p for p in sorted(plain.rglob("*")) if p.is_file()):
        link = snapshot / file.relative_to(plain)
        link.parent.mkdir(parents=True, exist_ok=True)
        file.rename(blobs / str(number))
        link.symlink_to(blobs / str(number))
    _, found = read(snapshot)
    assert len(found) == 3


@pytest.mark.parametrize("form", ["npz", "d4rl", "robomimic", "lerobot", "tables"])
def test_whatever_bytes_are_changed_the_error_is_typed(tmp_path, episodes, form):
    """Cut off, changed or without some bytes: read, or refused with a message of ours."""
    rng = np.random.default_rng(0)
    for episode in episodes:
        episode["picture"] = recordings.smooth(rng, len(episode["observations"]))
    write = {
        "npz": lambda: saved(tmp_path / "x.npz", episodes),
        "d4rl": lambda: recordings.write_d4rl(tmp_path / "x.hdf5", episodes),
        "robomimic": lambda: recordings.write_robomimic(tmp_path / "x.hdf5", episodes),
        "lerobot": lambda: recordings.write_lerobot(tmp_path / "arm", episodes),
        "tables": lambda: recordings.write_tables(tmp_path / "plant", episodes),
    }
    path = write[form]()
    files = [p for p in path.rglob("*") if p.is_file()] or [path]
    refusals = 0
    for _ in range(30):
        file = files[rng.integers(len(files))]
        content = file.read_bytes()
        place, length = rng.integers(len(content)), rng.integers(1, 30)
        changed = (
            content[:place],
            content[:place] + rng.bytes(length) + content[place + length :],
            content[:place] + content[place + length :],
        )
        file.write_bytes(changed[rng.integers(3)])
        try:
            read(path)
        except WorldModelError as error:
            refusals += 1
            assert str(path.parent) in str(error)
        file.write_bytes(content)
    assert refusals > 10
    read(path)


def test_a_dataset_is_not_imported(tmp_path, episodes):
    keys = ("observations", "actions", "rewards")
    data.from_episodes([{k: e[k] for k in keys} for e in episodes], out=tmp_path / "data")
    refused(tmp_path / "data", "is a dataset already")
    np.savez(tmp_path / "old.npz", actions=np.zeros(3))
    with zipfile.ZipFile(tmp_path / "old.npz", "a") as archive:
        archive.writestr("header.json", "{}")
    refused(tmp_path / "old.npz", "is a dataset already")


def test_what_has_an_entry_more_than_others_is_cut(tmp_path, episodes):
    path = recordings.write_d4rl(tmp_path / "x.hdf5", episodes)
    found, read_ = read(path, roles={"states": ("infos/qpos",)})
    assert not found.final_observation
    for one, expected in zip(read_, episodes, strict=True):
        np.testing.assert_array_equal(one["observations"], expected["observations"][:-1])
        np.testing.assert_array_equal(one["states"], expected["observations"][:-1, :2])
    told = "\n".join(report.contents(found))
    assert "T states and T + 1 observations" in told and "--map states= keeps it" in told
    assert "was not recorded" not in told
    found, _ = read(path, roles={"states": ()})
    assert found.final_observation


def test_times_follow_the_observations(tmp_path, episodes):
    path = saved(tmp_path / "x.npz", episodes, time=np.arange(21) * 0.5)
    found, (first, *_) = read(path)
    assert found.final_observation
    np.testing.assert_array_equal(first["timestamps"], np.arange(8) * 0.5)


def test_gaps_and_jitter_are_told_and_resampling_masks_them(tmp_path):
    rng = np.random.default_rng(0)
    kept = np.delete(np.arange(100), [20, 21, 50])
    time = (kept + rng.uniform(-0.2, 0.2, 97)) / 10
    np.savez(tmp_path / "x.npz", observations=kept[:, None] * 1.0, actions=kept * 1.0, time=time)
    found, _ = read(tmp_path / "x.npz")
    told = "\n".join(report.timing(found))
    assert "2 gaps" in told and "about 3 entries are missing" in told and "--resample 1" in told
    found, (one,) = read(tmp_path / "x.npz", hz=10.0)
    np.testing.assert_array_equal(np.flatnonzero(~one["seen"]), [20, 21, 50])
    assert len(one["actions"]) == 99 and found.unseen == 3
    assert "3 of 100 grid points (3.0%)" in "\n".join(report.timing(found))


def test_a_grid_that_leaves_most_out_is_told(tmp_path):
    rows = np.arange(100)
    np.savez(tmp_path / "x.npz", observations=rows[:, None] * 1.0, actions=rows * 1.0, t=rows / 10)
    told = {}
    for hz in (0.1, 10.0, 25.0):
        found, _ = read(tmp_path / "x.npz", roles={"timestamps": ("t",)}, hz=hz)
        told[hz] = "\n".join(report.timing(found))
    assert "100 times coarser" in told[0.1] and "99% of what was recorded" in told[0.1]
    assert "coarser" not in told[10.0] + told[25.0]


def test_resampling_without_times_says_how_to_name_them(tmp_path, episodes):
    path = saved(tmp_path / "x.npz", episodes)
    refused(path, "--map timestamps=COLUMN", ConfigError, hz=10.0)


def test_a_report_says_what_is_absent_and_unused(tmp_path):
    np.savez(tmp_path / "x.npz", obs=np.zeros((9, 2)), actions=np.zeros(9), weather=np.zeros(9))
    found, _ = read(tmp_path / "x.npz")
    told = "\n".join(report.contents(found))
    for words in ("no rewards", "no terminations", "no time stamps", "not used: weather"):
        assert words in told
    assert "observed observations from obs (float64 2)" in told


def test_what_is_done_is_not_taken_for_a_termination_unasked(tmp_path, episodes):
    path = recordings.write_robomimic(tmp_path / "x.hdf5", episodes)
    found, (first, *_) = read(path)
    assert "terminated" not in first
    assert any("--map terminated=dones" in line for line in report.decisions(found))
    found, (first, *_) = read(path, roles={"terminated": ("dones",)})
    assert first["terminated"][-1]
    assert not any("--map terminated" in line for line in report.decisions(found))


def test_ends_that_go_with_the_last_action_are_told_and_can_be_kept(tmp_path, episodes):
    path = recordings.write_robomimic(tmp_path / "x.hdf5", episodes, following=False)
    ends = {"terminated": ("dones",)}
    found = Import(path, Choices(roles=ends))
    dataset = write(found, tmp_path / "lost")
    assert not any(e.terminated.any() for name in dataset.splits for e in dataset.split(name))
    told = "\n".join(report.written(found, dataset, tmp_path / "lost"))
    assert "3 episodes end by their last action" in told and "--arriving terminated" in told
    dataset = write(Import(path, Choices(roles=ends, arriving=("terminated",))), tmp_path / "kept")
    assert all(e.terminated[-1] for name in dataset.splits for e in dataset.split(name))
    assert not any("end by their last action" in note for note in dataset.provenance.notes)


@pytest.mark.parametrize("end, count", [(2, 1), (7, 0), (8, 0)])
def test_an_end_in_the_middle_of_an_episode_is_told(tmp_path, end, count):
    ends = np.arange(9) == end
    (tmp_path / "run.csv").write_text(
        "action,obs,terminated\n" + "".join(f"{t},{t * t},{e}\n" for t, e in enumerate(ends))
    )
    found = Import(tmp_path, Choices())
    told = "\n".join(report.written(found, write(found, tmp_path / "out"), tmp_path / "out"))
    assert found.ended_within == count
    assert ("1 episodes go on after a step that is terminated" in told) == bool(count)


def test_a_mapping_is_parsed_saved_and_given_again(tmp_path):
    file = tmp_path / "map.json"
    file.write_text(json.dumps({"camera": ["frames"], "actions": ["x", "y"]}))
    assert mapping.parse([str(file), "actions=z", "rewards="]) == {
        "camera": ("frames",),
        "actions": ("z",),
        "rewards": (),
    }
    with pytest.raises(ConfigError, match="stream=column"):
        mapping.parse(["frames"])
    file.write_text('{"camera": "frames"}')
    with pytest.raises(FileFormatError, match="expected lists of columns by role"):
        mapping.parse([str(file)])


def test_a_role_without_columns_is_left_out(tmp_path, episodes):
    path = saved(tmp_path / "x.npz", episodes)
    _, (first, *_) = read(path, roles={"rewards": ()})
    assert "rewards" not in first
    refused(path, "no column is known as actions", SpecError, roles={"actions": ()})


def test_a_missing_package_names_the_extra(tmp_path, episodes, monkeypatch):
    path = recordings.write_d4rl(tmp_path / "x.hdf5", episodes)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"worldmodel\[hdf5\]"):
        open_recording(path)


@pytest.mark.parametrize("final", [True, False])
def test_episodes_of_one_action_are_left_out_and_told(tmp_path, final):
    made = recordings.made(np.random.default_rng(0), (1, 6, 1, 4))
    arrays = recordings.flat(made, following=final)
    np.savez(tmp_path / "x.npz", **arrays)
    found = Import(tmp_path / "x.npz", Choices())
    dataset = write(found, tmp_path / "out")
    lengths = [len(e) for name in dataset.splits for e in dataset.split(name)]
    assert sorted(lengths) == ([1, 1, 4, 6] if final else [3, 5])
    told = any(
        "2 episodes are left out" in line for line in report.written(found, dataset, tmp_path)
    )
    assert told == (not final)


@pytest.mark.parametrize("final", [True, False])
def test_a_long_episode_is_cut_into_pieces_that_share_a_frame(tmp_path, final):
    (made,) = recordings.made(np.random.default_rng(0), (25,))
    arrays = recordings.flat([made], following=final)
    np.savez(tmp_path / "x.npz", **arrays)
    found = Import(tmp_path / "x.npz", Choices(cut=10))
    pieces = [episode for _, episode in found.episodes()]
    assert [len(p["actions"]) - (not final) for p in pieces] == [10, 10, 5 if final else 4]
    for i, piece in enumerate(pieces):
        begin = 10 * i
        stop = begin + len(piece["observations"])
        np.testing.assert_array_equal(piece["observations"], made["observations"][begin:stop])
        stop = begin + len(piece["actions"])
        np.testing.assert_array_equal(piece["actions"], made["actions"][begin:stop])
    dataset = write(Import(tmp_path / "x.npz", Choices(cut=5)), tmp_path / "out")
    assert set(dataset.splits) >= {"train"}
    frames = sum(len(e) for name in dataset.splits for e in dataset.split(name))
    assert frames == (25 if final else 24)


def test_unsigned_whole_numbers_are_numbers(tmp_path):
    observations = np.arange(40, dtype=np.uint16).reshape(10, 4)
    np.savez(tmp_path / "x.npz", observations=observations, actions=np.ones((10, 1)))
    dataset = write(Import(tmp_path / "x.npz", Choices()), tmp_path / "out")
    np.testing.assert_array_equal(dataset.train[0].observations, observations)


@pytest.mark.parametrize("dtype", ["?", "f4", "i4", "u1"])
@pytest.mark.parametrize("name", ["observations", "actions"])
def test_entries_that_hold_nothing_are_refused(tmp_path, episodes, name, dtype):
    path = saved(tmp_path / "x.npz", episodes, **{name: np.zeros((21, 0), dtype)})
    with pytest.raises(SpecError, match=rf"{name} has entries of shape \(0,\); expected a number"):
        write(Import(path, Choices()), tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("steps", [1, 21])
def test_rewards_that_hold_nothing_are_refused(tmp_path, steps):
    rows = np.zeros((steps, 2), np.float32)
    path = tmp_path / "x.npz"
    np.savez(path, observations=rows, actions=rows, rewards=rows[:, :0])
    refused(path, "rewards must be one number a step, column 'rewards' has .0,.")
