import io
import json
import os
import zipfile
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
import zoo
from old_files import npy, old_fingerprint, rewrite, write_old, written_before
from small import box, discrete, pixels, random_dataset, vector

from worldmodel.data import load, save
from worldmodel.data.storage import HEADER
from worldmodel.errors import FileFormatError
from worldmodel.spaces import ActionSpace, ObservationSpace


@pytest.fixture
def dataset(dataset):
    return written_before(dataset)


@pytest.fixture
def path(tmp_path, dataset):
    return write_old(dataset, tmp_path / "clock.npz")


def assert_same(a, b) -> None:
    assert a.provenance == b.provenance and list(a.splits) == list(b.splits)
    assert (a.observation_spec, a.action_spec) == (b.observation_spec, b.action_spec)
    for name in a.splits:
        left, right = (dict(each.split(name).padded().items()) for each in (a, b))
        assert left.keys() == right.keys()
        assert all(torch.equal(left[k], right[k]) for k in left)
        assert all(left[k].dtype == right[k].dtype for k in left)


def entries(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def edit_header(path, **changes) -> None:
    contents = entries(path)
    contents[HEADER] = json.dumps(json.loads(contents[HEADER]) | changes).encode()
    rewrite(path, contents)


def test_round_trip(dataset, path):
    assert_same(load(path), dataset)
    assert_same(load(str(path)), dataset)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no dataset at .*nothing\.npz"):
        load(tmp_path / "nothing.npz")


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.9999])
def test_truncated_files_are_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FileFormatError, match=r"clock\.npz.*worldmodel-dataset"):
        load(path)


def test_flipped_bytes_are_refused_or_harmless(dataset, path):
    """Some bytes of a zip file mean nothing (dates, padding); no other may pass unseen."""
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.choice(len(content), 300, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert_same(load(path), dataset)
        except FileFormatError as error:
            assert "clock.npz" in str(error)
            refused += 1
    assert refused > 150


FOREIGN = {
    "empty": b"",
    "text": b"hello",
    "empty archive": b"PK\x05\x06" + bytes(18),
    "noise": np.random.default_rng(0).bytes(5000),
    "array": npy(np.zeros(3)),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "foreign.npz"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"foreign\.npz.*worldmodel-dataset"):
        load(path)


def test_foreign_archives_are_refused(tmp_path):
    path = tmp_path / "foreign.npz"
    np.savez(path, observations=np.zeros(3))
    with pytest.raises(FileFormatError, match=r"foreign\.npz.*header\.json.*worldmodel-dataset"):
        load(path)
    for header in (b"[1, 2]", b"{not json", b"\xff\xfe", b'{"format": "other"}'):
        rewrite(path, {HEADER: header})
        with pytest.raises(FileFormatError, match=r"foreign\.npz.*worldmodel-dataset"):
            load(path)


def test_another_version_is_refused(path):
    edit_header(path, version=1)
    with pytest.raises(FileFormatError, match=r"clock\.npz: format version 1; expected 2 or 3"):
        load(path)


@pytest.mark.parametrize(
    "changes", [{"provenance": {"env_id": "x"}}, {"splits": {}}, {"splits": []}, {"action_spec": 3}]
)
def test_incomplete_headers_are_refused(path, changes):
    edit_header(path, **changes)
    with pytest.raises(FileFormatError, match=r"clock\.npz"):
        load(path)


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros((3, 5), np.float32), "fingerprint"),
        (np.zeros((3, 8), np.float32), r"test/rewards.*\[3, 8\].*\[3, 5\]"),
        (np.zeros((3, 5), np.float64), "test/rewards.*float64.*float32"),
        (np.array([None]), r"clock\.npz.*(allow_pickle|Object)"),
    ],
)
def test_tampered_arrays_are_refused(path, array, named):
    contents = entries(path)
    contents["test/rewards.npy"] = npy(array)
    rewrite(path, contents)
    with pytest.raises(FileFormatError, match=named):
        load(path)


def test_tampered_specs_are_refused(path):
    edit_header(path, action_spec=box(-9.0, 2.0).to_json())
    with pytest.raises(FileFormatError, match="fingerprint"):
        load(path)


VERSION_2 = {
    "vector": (vector(3), {"shape": [3], "pixels": False}),
    "pixels": (pixels(8, 8), {"shape": [8, 8, 1], "pixels": True}),
    "box": (box((-2.0, 0.0), (2.0, 1.0)), {"kind": "box", "low": [-2.0, 0.0], "high": [2.0, 1.0]}),
    "double": (
        ActionSpace.from_space(gym.spaces.Box(-0.1, 0.1, (1,), np.float64)),
        {"kind": "box", "low": [-0.1], "high": [0.1]},
    ),
    "discrete": (discrete(3), {"kind": "discrete", "low": [0.0] * 3, "high": [1.0] * 3}),
}


@pytest.mark.parametrize("observed", ["vector", "pixels"])
@pytest.mark.parametrize("acted", ["box", "double", "discrete"])
def test_files_of_version_2_are_read(tmp_path, observed, acted):
    (seen, seen_before), (acts, acts_before) = VERSION_2[observed], VERSION_2[acted]
    dataset = written_before(random_dataset(seen, acts))
    assert dataset.provenance.fingerprint == old_fingerprint(dataset, seen_before, acts_before)
    path = write_old(dataset, tmp_path / "old.npz")
    provenance = json.loads(entries(path)[HEADER])["provenance"]
    del provenance["notes"]
    old = {"version": 2, "observation_spec": seen_before, "action_spec": acts_before}
    edit_header(path, **old, provenance=provenance)
    assert_same(load(path), dataset)
    again = load(save(load(path), tmp_path / "new"))
    assert_same(replace(again, provenance=dataset.provenance), dataset)
    edit_header(path, observation_spec={"shape": [4], "pixels": False})
    with pytest.raises(FileFormatError, match=r"old\.npz"):
        load(path)


def test_pictures_that_version_2_misread_are_refused(path):
    edit_header(path, version=2, observation_spec={"shape": [3, 40, 60], "pixels": True})
    with pytest.raises(FileFormatError, match=r"\(3, 40, 60\).*record them again"):
        load(path)


def test_every_stream_has_an_array_of_its_own(tmp_path):
    seen = ObservationSpace.from_space(zoo.OBSERVATIONS["nested"][0])
    dataset = random_dataset(seen, ActionSpace.from_space(zoo.ACTIONS["nested"]))
    dataset = written_before(dataset)
    path = write_old(dataset, tmp_path / "nested.npz")
    names = {name for name in entries(path) if name.startswith("train/observations")}
    assert names == {f"train/observations/{stream}.npy" for stream in seen.names}
    with np.load(path, allow_pickle=False) as archive:
        picture = archive["train/observations/picture"]
    assert np.array_equal(picture, dataset.train.observations["picture"].numpy())
    loaded = load(path)
    assert (loaded.observation_spec, loaded.action_spec) == (seen, dataset.action_spec)
    assert list(loaded.train.observations.keys()) == list(seen.names)
    assert (loaded.train.observations == dataset.train.observations).all()
    contents = entries(path)
    changed = np.load(io.BytesIO(contents["train/observations/arm.gripper.npy"]))
    contents["train/observations/arm.gripper.npy"] = npy(1 - changed)
    rewrite(path, contents)
    with pytest.raises(FileFormatError, match="fingerprint"):
        load(path)
    del contents["train/observations/arm.gripper.npy"]
    rewrite(path, contents)
    with pytest.raises(FileFormatError, match=r"train/observations/arm\.gripper"):
        load(path)


def test_a_missing_array_is_named(path):
    contents = entries(path)
    del contents["train/mask.npy"]
    rewrite(path, contents)
    with pytest.raises(FileFormatError, match="train/mask"):
        load(path)


def test_a_device_is_no_dataset():
    """Some have no end."""
    with pytest.raises(FileNotFoundError, match="no dataset at"):
        load(os.devnull)
