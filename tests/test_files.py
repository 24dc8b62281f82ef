"""Files are written whole or not at all, and what is left of killed writers goes."""

import os
import time

import pytest

from worldmodel.files import naming, whole, write_whole


def test_what_a_killed_writer_left_is_cleared_by_the_next_one_an_hour_later(tmp_path):
    path = tmp_path / "a [1].npz"
    left, fresh = (
        tmp_path / f".a [1].npz.{token}.tmp" for token in ("0123456789ab", "ba9876543210")
    )
    other = tmp_path / ".b.npz.0123456789ab.tmp"
    for file in (left, fresh, other):
        file.write_bytes(b"half")
    for file in (left, other):
        os.utime(file, (time.time() - 4000,) * 2)
    write_whole(path, b"all")
    assert path.read_bytes() == b"all"
    assert {file.name for file in tmp_path.iterdir()} == {path.name, fresh.name, other.name}


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(b"before")
    with pytest.raises(OSError, match=r"No space left on device: '.*data\.npz'"), whole(path):
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


def test_errors_that_name_a_file_keep_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"), naming(tmp_path / "this"):
        (tmp_path / "other").open()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among its files")
def test_what_is_no_file_is_not_replaced(tmp_path):
    """As root could /dev/null be."""
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder):
        with pytest.raises(FileExistsError, match=f"no file, and is not replaced: '{path}'"):
            write_whole(path, b"all")
    assert pipe.is_fifo() and folder.is_dir() and len(list(tmp_path.iterdir())) == 2
