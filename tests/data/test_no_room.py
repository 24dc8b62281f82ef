"""Recording and exporting where the disk is full: the error names the file, and nothing is lost."""

from __future__ import annotations

import errno
import shutil
from types import SimpleNamespace

import pytest
from full_disk import files_no_larger_than
from small import VECTOR, random_dataset

from worldmodel import data
from worldmodel.data.writers import minari


def record(path, seed):
    splits = {name: data.SplitConfig(40, 14) for name in ("train", "test")}
    data.collect("worldmodel/Pendulum-v0", splits=splits, seed=seed, num_envs=20, out=path)


def test_a_recording_that_finds_no_room_names_the_file_and_keeps_the_old_one(tmp_path):
    record(tmp_path / "data", 0)
    before = data.load(tmp_path / "data").provenance.fingerprint
    with files_no_larger_than(20_000), pytest.raises(OSError) as raised:
        record(tmp_path / "data", 1)
    assert str(tmp_path / "data") in str(raised.value.filename)
    left = data.load(tmp_path / "data")
    left.verify()
    assert left.provenance.fingerprint == before


def test_an_export_that_would_not_fit_is_refused_before_it_begins(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    full = SimpleNamespace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(OSError) as raised:
        minari.write(random_dataset(VECTOR), "some/name-v0")
    assert raised.value.errno == errno.ENOSPC and str(tmp_path) in raised.value.filename
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
