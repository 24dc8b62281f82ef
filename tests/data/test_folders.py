"""Datasets on disk: what is written is read, whole or not at all, whoever reads or is killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from killed import episode

from worldmodel.data import DatasetWriter, Provenance, from_episodes, load, save
from worldmodel.data.arrays import Stored
from worldmodel.errors import FileFormatError, FolderInUse, SpecError

LENGTHS = (3, 1, 7, 4, 12, 5, 9, 2, 6, 11)


EPISODES = [episode(length) for length in LENGTHS]
SPLITS = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2


@pytest.fixture
def folder(tmp_path) -> Path:
    from_episodes(EPISODES, out=tmp_path / "data", splits=SPLITS, actor="somebody")
    return tmp_path / "data"


def assert_holds(found, given: dict) -> None:
    np.testing.assert_array_equal(found.actions, given["actions"])
    np.testing.assert_array_equal(found.rewards, given["rewards"])
    np.testing.assert_array_equal(found.timestamps, given["timestamps"])
    assert found.observations.keys() == given["observations"].keys()
    for name, values in given["observations"].items():
        np.testing.assert_array_equal(found.observations[name], values)
    assert found.terminated.tolist() == [False] * (len(found) - 1) + [given["terminated"]]


def test_what_is_written_is_read(folder):
    dataset = load(folder)
    order = [e for name in ("train", "validation", "test") for e in dataset.split(name)]
    for found, given in zip(order, EPISODES, strict=True):
        assert_holds(found, given)
        assert dict(found.told) == {"actor": "somebody"}
    assert dataset.train.lengths.tolist() == list(LENGTHS[:6])
    dataset.verify()


def test_arrays_are_maps_that_nobody_can_write_to(folder):
    frames = load(folder).train[4].observations["camera"]
    assert isinstance(frames, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        frames[0] = 0


def test_numpy_reads_the_arrays_without_us(folder):
    part = folder / "parts" / "000000"
    told = json.loads((part / "part.json").read_text())
    kept = np.concatenate(
        [e["actions"] for e, s in zip(EPISODES, SPLITS, strict=True) if s == told["split"]]
    )
    np.testing.assert_array_equal(np.load(part / "actions.npy"), kept)


def test_windows_of_ragged_episodes(folder):
    """Against cutting them by hand."""
    train = load(folder).train
    index, starts = np.array([4, 1, 5, 4]), np.array([7, 0, 4, 2])
    batch = train.windows(index, starts, 4)
    for row, (i, start) in enumerate(zip(index, starts, strict=True)):
        given, n = EPISODES[i], min(4, LENGTHS[i] - start)
        camera = given["observations"]["camera"]
        expected = camera[np.minimum(np.arange(start, start + 5), LENGTHS[i])]
        np.testing.assert_array_equal(batch.observations["camera"][row], expected)
        np.testing.assert_array_equal(batch.actions[row, :n], given["actions"][start : start + n])
        assert not batch.actions[row, n:].any() and batch.mask[row].tolist() == [True] * n + [
            False
        ] * (4 - n)


def test_padding_is_undone(folder):
    from worldmodel.data import Episodes

    train = load(folder).train
    again = Episodes.of(train.padded(), train.space)
    assert again.lengths.tolist() == train.lengths.tolist()
    for a, b in zip(again, train, strict=True):
        np.testing.assert_array_equal(a.observations["camera"], b.observations["camera"])
        np.testing.assert_array_equal(a.rewards, b.rewards)


def test_a_sample_is_bounded_and_seeded(folder):
    train = load(folder).train
    assert len(train.sample()) == len(train)
    few = train.sample(frames=20)
    assert len(few) < len(train) and len(few) * (few.steps + 1) <= 20
    assert torch.equal(few.actions, train.sample(frames=20).actions)
    assert any(
        not torch.equal(few.actions, train.sample(frames=20, seed=s).actions) for s in (1, 2)
    )
    # Of an episode that alone is too long, its beginning.
    assert train.sample(frames=2).steps == 1


def test_it_is_appended_to_while_others_read(folder):
    before = load(folder)
    more = before.append(EPISODES[:2], "test", recorded="2024-05-01")
    assert [len(before.test), len(more.test), len(before.refresh().test)] == [2, 4, 4]
    assert_holds(more.test[2], EPISODES[0])
    assert dict(more.test[3].told) == {"recorded": "2024-05-01"}
    assert_holds(before.test[1], EPISODES[9])
    assert more.provenance.fingerprint != before.provenance.fingerprint
    assert more.append(EPISODES[:1], "unseen").split("unseen").lengths.tolist() == [3]


def test_an_append_that_fails_adds_nothing(folder):
    before = load(folder)
    broken = episode(4)
    broken["rewards"][2] = np.nan
    with pytest.raises(SpecError, match=r"rewards .* nan in episode 2 at time 2"):
        before.append([*EPISODES[:2], broken])
    without = {k: v for k, v in EPISODES[0].items() if k != "rewards"}
    with pytest.raises(SpecError, match=r"episode 0: rewards are none; .* \(\) each"):
        before.append([without])
    assert before.refresh().provenance.fingerprint == before.provenance.fingerprint
    assert not list(folder.glob("**/.partial"))


def test_one_writes_at_a_time(folder):
    with DatasetWriter(folder) as writer:
        writer.write(EPISODES[0], "train")
        with pytest.raises(FolderInUse, match=f"data is in use by process {os.getpid()} on "):
            load(folder).append(EPISODES[:1])
    assert len(load(folder).train) == 7


def test_the_fingerprint_is_of_the_episodes_not_of_the_parts(tmp_path, folder):
    whole = load(folder)
    with DatasetWriter(tmp_path / "b", whole.observation_spec, whole.action_spec) as writer:
        for given, split in zip(EPISODES, SPLITS, strict=True):
            writer.write(given, split)
            writer.publish()
    parts = load(tmp_path / "b")
    assert len(list((tmp_path / "b" / "parts").iterdir())) == len(EPISODES)
    assert parts.provenance.fingerprint == whole.provenance.fingerprint
    held = from_episodes(EPISODES, splits=SPLITS)
    assert held.provenance.fingerprint == whole.provenance.fingerprint
    changed = [*EPISODES[:-1], episode(11, seed=1)]
    other = from_episodes(changed, splits=SPLITS)
    assert other.provenance.fingerprint != whole.provenance.fingerprint


def test_what_was_changed_on_the_disk_is_found(folder):
    path = next((folder / "parts").glob("*/observations.camera.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="episode 5 is not what was written"):
        load(folder).verify()


def of_objects(part: Path) -> None:
    """An array that would be read as pointers into memory, and is said to be so."""
    told = json.loads((part / "part.json").read_text())
    told["arrays"]["rewards"]["dtype"] = "object"
    (part / "part.json").write_text(json.dumps(told))
    header = {"descr": "|O", "fortran_order": False, "shape": (told["steps"],)}
    with (part / "rewards.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(8 * told["steps"]))


def move_parts(folder: Path) -> None:
    """Away from the folder, where whoever appends would write and delete."""
    (folder / "parts").rename(folder.parent / "parts")
    index = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(index | {"parts": "../parts"}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda part: (part / "actions.npy").unlink(),
        lambda part: (part / "part.json").unlink(),
        lambda part: (part / "part.json").write_text('{"split": "train"}'),
        lambda part: (part / "lengths.npy").write_bytes(b"nothing"),
        lambda part: os.truncate(part / "observations.camera.npy", 500),
        lambda part: np.save(part / "actions.npy", np.zeros((32, 2))),
        lambda part: of_objects(part),
        lambda part: move_parts(part.parent.parent),
        lambda part: (part.rename(part.with_name("x")), part.symlink_to(part.with_name("x"))),
        lambda part: (part.parent.parent / "dataset.json").write_text("[]"),
        lambda part: (part.parent.parent / "dataset.json").write_text('{"format": "other"}'),
    ],
)
def test_damage_is_named(folder, damage):
    damage(folder / "parts" / "000000")
    with pytest.raises(FileFormatError, match=str(folder)):
        load(folder)


def test_folders_that_are_no_dataset_are_refused(tmp_path, folder):
    with pytest.raises(FileFormatError, match=r"without dataset\.json"):
        load(tmp_path)
    with pytest.raises(FileExistsError, match="is no dataset"):
        save(load(folder), tmp_path)
    with pytest.raises(FileExistsError, match="append"):
        from_episodes(EPISODES, out=folder)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
@pytest.mark.parametrize("where", ["fsync", "rename", "replace"])
def test_an_interrupted_save_leaves_the_old_data(folder, tmp_path, monkeypatch, error, where):
    before = load(folder)
    other = from_episodes(EPISODES[:4], splits=SPLITS[:4])

    def fail(*args):
        raise error

    for path in (folder, tmp_path / "new"):
        monkeypatch.setattr(os, where, fail)
        with pytest.raises(error if isinstance(error, type) else type(error)):
            save(other, path)
        monkeypatch.undo()
    assert load(folder).provenance == before.provenance
    assert sorted(os.listdir(folder)) == [".lock", "dataset.json", "parts"]
    assert not (tmp_path / "new").exists()
    save(other, folder)
    assert load(folder).provenance == other.provenance


def test_an_interrupted_recording_keeps_what_was_complete(folder, tmp_path):
    like = load(folder)
    path = tmp_path / "new"
    with (
        pytest.raises(KeyboardInterrupt),
        DatasetWriter(path, like.observation_spec, like.action_spec, Provenance()) as writer,
    ):
        writer.write(EPISODES[0], "train")
        raise KeyboardInterrupt
    assert len(load(path).train) == 1


@pytest.mark.parametrize("moment", ["mkdir", "fsync", "rename"])
def test_an_interruption_waits_until_what_is_half_written_is_whole(folder, monkeypatch, moment):
    owner = Path if moment == "mkdir" else os
    usual, seen = getattr(owner, moment), []

    def interrupted(*args, **kwargs):
        if not seen:
            seen.append(moment)
            signal.raise_signal(signal.SIGINT)
        return usual(*args, **kwargs)

    with pytest.raises(KeyboardInterrupt), DatasetWriter(folder) as writer:
        writer.write(EPISODES[0], "train")
        monkeypatch.setattr(owner, moment, interrupted)
        writer.publish()
    assert seen and len(load(folder).train) == 7


def test_writers_that_are_killed_lose_no_complete_episode(folder):
    """An episode whose number was told had been published."""
    killed = Path(__file__).with_name("killed.py")
    words = [sys.executable, str(killed), str(folder), "20", "0"]
    said = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    told, held = np.array(said).T
    found = load(folder)
    found.verify()
    assert len(told) == 20 and told.sum() > 0 and held[-1] == len(found.train)
    # After each death; at most one of each writer had been published and not told.
    unsaid = held - 6 - told.cumsum()
    assert (unsaid >= 0).all() and (np.diff(unsaid, prepend=0) <= 1).all()
    assert not list(folder.glob("parts/.partial"))
    for i in range(6, len(found.train)):
        seed = int(found.train[i].told["origin"])
        assert_holds(found.train[i], episode(20, seed))


def test_many_files_are_read_with_few_open(folder, monkeypatch):
    train = load(folder).train
    from worldmodel.data import arrays

    monkeypatch.setattr(arrays, "_FILES", arrays._Files(2))
    assert torch.equal(train.padded().actions, load(folder).train.padded().actions)
    assert len(arrays._FILES._open) == 2


def test_a_file_that_was_replaced_is_not_read(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(3))
    array = Stored(path, np.dtype(np.int64), (3,))
    path.unlink()
    np.save(tmp_path / "b.npy", np.zeros(3, np.int64))
    np.save(path, np.arange(3))
    with pytest.raises(FileFormatError, match="was replaced"):
        array.read(0, np.empty(3, np.int64))
