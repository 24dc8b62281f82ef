"""What readers give is what the formats' own libraries wrote, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import recordings

from worldmodel.data.importing import Choices, Import, write
from worldmodel.data.readers import mapping, open_recording
from worldmodel.errors import ConfigError, FileFormatError, SpecError


@pytest.fixture
def episodes():
    return recordings.made(np.random.default_rng(3))


def read(path, asked=None, size=None, form=None):
    """All episodes of a source by role, and the recording."""
    recording = open_recording(path, form)
    roles = mapping.settled(recording, asked or {})
    columns = sorted({column for names in roles.values() for column in names})
    tables = list(recording.episodes(columns, size))
    return recording, [mapping.by_role(table, roles) for table in tables]


def same(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("compressed", [False, True])
def test_flat_arrays_are_cut_at_their_marked_ends(tmp_path, episodes, compressed):
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "x.npz", **recordings.flat(episodes))
    recording, found = read(tmp_path / "x.npz")
    assert recording.format == "arrays" and recording.count == len(found) == 3
    assert recording.columns["observations"].final
    for one, expected in zip(found, episodes, strict=True):
        for name in ("observations", "actions", "rewards", "terminated", "truncated"):
            same(one[name], expected[name])


def test_without_what_followed_an_episode_has_as_many_observations_as_actions(tmp_path, episodes):
    np.savez(tmp_path / "x.npz", **recordings.flat(episodes, following=False))
    recording, found = read(tmp_path / "x.npz")
    assert not recording.columns["observations"].final
    for one, expected in zip(found, episodes, strict=True):
        same(one["observations"], expected["observations"][:-1])


def test_steps_after_the_last_marked_end_are_an_episode(tmp_path, episodes):
    arrays = recordings.flat(episodes)
    arrays["terminals"][:], arrays["timeouts"][:] = False, False
    arrays["timeouts"][6] = True
    np.savez(tmp_path / "x.npz", **arrays)
    recording, found = read(tmp_path / "x.npz")
    assert [len(one["actions"]) for one in found] == [7, 14]
    assert any("cut off" in note for note in recording.notes)


@pytest.mark.parametrize("fortran", [False, True])
def test_batched_arrays_are_told_by_their_shapes(tmp_path, fortran):
    batch = recordings.made(np.random.default_rng(0), (6, 6, 6, 6))
    arrays = {n: np.stack([e[n] for e in batch]) for n in ("observations", "actions", "rewards")}
    if fortran:
        arrays = {name: np.asfortranarray(array) for name, array in arrays.items()}
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    recording, found = read(tmp_path / "x.npz")
    assert recording.count == 4 and recording.columns["observations"].final
    for one, expected in zip(found, batch, strict=True):
        same(one["observations"], expected["observations"])
        same(one["actions"], expected["actions"])


def test_a_folder_of_npy_is_mapped(tmp_path, episodes):
    for name, array in recordings.flat(episodes).items():
        np.save(tmp_path / f"{name}.npy", array)
    _, found = read(tmp_path)
    for one, expected in zip(found, episodes, strict=True):
        same(one["observations"], expected["observations"])


def layouts_of_npy(root, episodes):
    """Folders of ``.npy`` in which every episode has files of its own, by what they are like."""
    names = ("observations", "actions", "rewards")
    ways = {
        "folders": lambda i, name: f"episode_{i:03d}/{name}.npy",
        "numbers last": lambda i, name: f"{name}_{i}.npy",
        "numbers first": lambda i, name: f"ep{i}_{name}.npy",
        "streams": lambda i, name: f"{name}/{i}.npy",
    }
    for way, path in ways.items():
        for i, episode in enumerate(episodes):
            for name in names:
                file = root / way / path(i, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                np.save(file, episode[name])
    kinds = [("observations", "f4", 3), ("actions", "f4", 2), ("rewards", "f8")]
    (root / "fields").mkdir()
    for i, episode in enumerate(episodes):
        rows = np.empty(len(episode["actions"]), kinds)
        for name in names:
            rows[name] = episode[name][: len(rows)]
        np.save(root / "fields" / f"ep{i}.npy", rows)
    (root / "archives/run").mkdir(parents=True)
    for i, episode in enumerate(episodes):
        np.savez(root / f"archives/run/{i}.npz", **{name: episode[name] for name in names})
    return [*ways, "fields", "archives"]


def test_files_of_single_episodes_are_told_by_their_names(tmp_path):
    episodes = recordings.made(np.random.default_rng(3), (4, 5, 6, 4, 5, 6, 4, 5, 6, 4, 5))
    for way in layouts_of_npy(tmp_path, episodes):
        recording, found = read(tmp_path / way)
        assert recording.format == "arrays" and recording.count == len(found) == 11, way
        frames = -1 if way == "fields" else None  # its arrays are of one length
        for one, expected in zip(found, episodes, strict=True):
            same(one["observations"], expected["observations"][:frames])
            same(one["actions"], expected["actions"])
            same(one["rewards"], expected["rewards"])


def test_numbers_of_the_parts_of_a_vector_are_no_episodes(tmp_path):
    for i in range(2):
        np.save(tmp_path / f"action_{i}.npy", np.full(8, float(i)))
        np.save(tmp_path / f"obs_{i}.npy", np.full(8, float(i)))
    _, (one,) = read(tmp_path)
    np.testing.assert_array_equal(one["actions"], np.tile([0.0, 1.0], (8, 1)))


def test_a_pickle_is_named_with_what_is_read(tmp_path):
    np.save(tmp_path / "ep0.npy", {"observations": np.zeros(3)}, allow_pickle=True)
    with pytest.raises(FileFormatError, match=r"ep0\.npy is a pickle, and none is read; np\.savez"):
        open_recording(tmp_path)


def test_a_file_that_an_episode_lacks_names_both(tmp_path, episodes):
    layouts_of_npy(tmp_path, episodes)
    (tmp_path / "folders/episode_001/observations.npy").unlink()
    with pytest.raises(FileFormatError, match="episode episode_001: observations is missing"):
        read(tmp_path / "folders")


def test_tables_of_numbers_of_one_episode_are_no_batch(tmp_path):
    np.savez(tmp_path / "x.npz", obs=np.zeros((30, 3)), actions=np.zeros((30, 2)))
    recording, found = read(tmp_path / "x.npz")
    assert recording.count == 1 and found[0]["actions"].shape == (30, 2)


def test_one_episode_with_its_end_marked_may_have_a_last_observation(tmp_path, episodes):
    one = {name: array for name, array in episodes[0].items() if name != "picture"}
    np.savez(tmp_path / "x.npz", **one)
    recording, (found,) = read(tmp_path / "x.npz")
    assert recording.columns["observations"].final
    same(found["observations"], one["observations"])


def test_archives_in_which_ends_are_marked_hold_several_episodes(tmp_path, episodes):
    arrays = recordings.flat(episodes)
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez(tmp_path / "b.npz", **{name: array[:7] for name, array in arrays.items()})
    _, found = read(tmp_path)
    assert [len(one["actions"]) for one in found] == [*recordings.LENGTHS, 7]


@pytest.mark.parametrize("form", ["npz", "flat hdf5", "demos"])
def test_pictures_are_observed_where_nothing_else_is(tmp_path, form):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (9, 16, 12, 3), np.uint8)
    depth = rng.uniform(0, 4, (9, 16, 12)).astype(np.float32)
    others = {"actions": np.zeros((9, 2)), "torque": np.zeros((9, 2))}
    if form == "npz":
        np.savez(tmp_path / "x", rgb=rgb, depth=depth, **others)
        path = tmp_path / "x.npz"
    else:
        h5py = pytest.importorskip("h5py", reason="needs worldmodel[hdf5]")
        path = tmp_path / "x.hdf5"
        with h5py.File(path, "w") as file:
            group = file if form == "flat hdf5" else file.create_group("data/demo_0")
            for name, array in {"cameras/rgb": rgb, "cameras/depth": depth, **others}.items():
                group[name] = array
    _, (one,) = read(path)
    assert set(one) == {"rgb", "depth", "actions"}
    same(one["rgb"], rgb)
    same(one["depth"], depth)
    # What is called an observation comes before what looks like one.
    np.savez(tmp_path / "y.npz", rgb=rgb, observations=np.zeros((9, 3)), **others)
    _, (one,) = read(tmp_path / "y.npz")
    assert set(one) == {"observations", "actions"}


def test_a_folder_of_npz_is_an_episode_each(tmp_path, episodes):
    for i, episode in enumerate(episodes):
        np.savez_compressed(tmp_path / f"run_{i}.npz", **episode)
    recording, found = read(tmp_path, {"camera": ("picture",), "joint": ("observations",)})
    assert recording.count == 3
    for one, expected in zip(found, episodes, strict=True):
        same(one["camera"], expected["picture"])
        same(one["joint"], expected["observations"])


def test_d4rl(tmp_path, episodes):
    path = recordings.write_d4rl(tmp_path / "x.hdf5", episodes)
    recording, found = read(path, {"states": ("infos/qpos",)})
    assert recording.format == "hdf5" and recording.count == 3
    for one, expected in zip(found, episodes, strict=True):
        for name in ("observations", "actions", "rewards", "terminated", "truncated"):
            same(one[name], expected[name])
        same(one["states"], expected["observations"][:-1, :2])


@pytest.mark.parametrize("following", [False, True])
def test_robomimic(tmp_path, following):
    episodes = recordings.made(np.random.default_rng(1), (4,) * 11)
    path = recordings.write_robomimic(tmp_path / "x.hdf5", episodes, following)
    recording, found = read(path)
    assert recording.names == tuple(f"demo_{i}" for i in range(11))
    assert recording.facts["env_args"] == {"env_name": "Lift"}
    end = None if following else -1
    for one, expected in zip(found, episodes, strict=True):
        same(one["joint"], expected["observations"][:end])
        same(one["agentview_image"], expected["picture"][:end])
        same(one["actions"], expected["actions"])
        assert "terminated" not in one  # "dones" does not say why


def test_lerobot_rows_are_exact_and_its_video_within_the_codec(tmp_path):
    rng = np.random.default_rng(2)
    episodes = recordings.made(rng, (12, 5, 30))
    for episode in episodes:
        episode["picture"] = recordings.smooth(rng, len(episode["observations"]))
    recordings.write_lerobot(tmp_path, episodes)
    recording, found = read(tmp_path)
    assert recording.format == "lerobot" and recording.rate == 10 and recording.count == 3
    assert set(found[0]) == {"top", "state", "actions", "rewards", "timestamps"}
    for one, expected in zip(found, episodes, strict=True):
        same(one["state"], expected["observations"][:-1])
        same(one["actions"], expected["actions"])
        same(one["rewards"], expected["rewards"].astype(np.float32))
        error = one["top"].astype(int) - expected["picture"][:-1]
        # A frame of another time would be off by tens.
        assert np.abs(error).mean() < 2 and np.abs(error).max() < 12


def test_lerobot_of_an_older_version_is_refused(tmp_path, episodes):
    root = recordings.write_lerobot(tmp_path, episodes)
    info = (root / "meta/info.json").read_text()
    (root / "meta/info.json").write_text(info.replace("v3.0", "v2.1"))
    with pytest.raises(FileFormatError, match=r"v2\.1; expected v3"):
        open_recording(root)


def test_a_format_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="'zarr'"):
        open_recording(tmp_path, "zarr")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_recording(tmp_path / "nowhere")
    with pytest.raises(FileFormatError, match="known format"):
        open_recording(tmp_path)


def test_a_mapping_to_a_missing_column_lists_those_there_are(tmp_path, episodes):
    np.savez(tmp_path / "x.npz", **recordings.flat(episodes))
    with pytest.raises(SpecError, match=r"'torque', which is missing.*rewards \(float64 scalar\)"):
        read(tmp_path / "x.npz", {"actions": ("torque",)})


def test_without_actions_it_says_how_to_name_them(tmp_path):
    np.savez(tmp_path / "x.npz", observations=np.zeros((4, 2)), torque=np.zeros(4))
    with pytest.raises(SpecError, match="--map actions=COLUMN"):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize("mark", ["episode", "episode_starts", "is_first"])
def test_flat_arrays_are_cut_where_beginnings_or_numbers_of_episodes_say(tmp_path, episodes, mark):
    arrays = recordings.flat(episodes, following=False)
    kept = {name: arrays[name] for name in ("observations", "actions")}
    number = np.repeat(np.arange(3), recordings.LENGTHS)
    kept[mark] = number if mark == "episode" else np.diff(number, prepend=-1) > 0
    np.savez(tmp_path / "x.npz", **kept)
    _, found = read(tmp_path / "x.npz")
    assert len(found) == 3
    for one, expected in zip(found, episodes, strict=True):
        same(one["actions"], expected["actions"])


def test_it_is_said_where_no_end_is_marked(tmp_path, episodes):
    arrays = recordings.flat(episodes)
    arrays["terminals"][:], arrays["timeouts"][:] = False, False
    np.savez(tmp_path / "x.npz", **arrays)
    assert any(
        "all steps are one episode" in note for note in open_recording(tmp_path / "x.npz").notes
    )


def test_what_follows_in_another_shape_is_refused(tmp_path):
    arrays = {"observations": np.zeros((5, 3)), "next_observations": np.zeros((5, 2))}
    np.savez(tmp_path / "x.npz", actions=np.zeros((5, 1)), **arrays)
    with pytest.raises(FileFormatError, match=r"next_observations are \(2,\) .* \(3,\)"):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["observations", "next_observations", "actions"])
def test_one_number_an_episode_beside_a_batch_is_refused(tmp_path, name):
    """Of (episode, time, ...) it has no time."""
    steps = np.zeros((3, 4, 2), np.float32)
    usual = dict.fromkeys(("observations", "next_observations", "actions"), steps)
    usual["rewards"] = steps[..., 0]
    np.savez(tmp_path / "x.npz", **{**usual, name: np.zeros(3, np.float32)})
    told = rf"{name} is \(3,\); expected \(episode, time, ...\)"
    with pytest.raises(FileFormatError, match=told):
        write(Import(tmp_path / "x.npz", Choices()), tmp_path / "data")
    assert not (tmp_path / "data").exists()
