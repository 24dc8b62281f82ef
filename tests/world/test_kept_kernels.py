"""Compiled functions are kept where they can be; where they cannot, they work all the same."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from full_disk import files_no_larger_than
from numba import config

import worldmodel
from worldmodel.world.interpreter import _jit

SOURCE = "def doubled(number):\n    return 2 * number\n"


@pytest.fixture
def doubled(tmp_path, monkeypatch):
    """As a new process finds it: from a file, beside which numba keeps it."""
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "own.py").write_text(SOURCE)

    def load():
        spec = importlib.util.spec_from_file_location("own", tmp_path / "own.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return _jit(module.doubled)

    return load


def hits(function) -> int:
    return sum(function.stats.cache_hits.values())


def is_read(load) -> bool:
    """Whether a function that is loaded anew is what was kept.

    Once in some ten runs of all tests numba could not read what it had kept a moment ago, and
    compiled and kept it again; never in hundreds of runs of these alone.
    """
    for _ in range(3):
        again = load()
        assert again(2) == 4
        if hits(again):
            return True
    return False


def kept(folder) -> list[Path]:
    return [path for path in folder.rglob("*.nb?") if path.is_file()]


def test_it_is_kept(doubled, tmp_path):
    assert doubled()(2) == 4
    assert len(kept(tmp_path / "__pycache__")) == 2
    assert is_read(doubled)


def test_in_the_users_folder_if_the_packages_cannot_be_written_to(doubled, tmp_path):
    (tmp_path / "__pycache__").write_text("in the way of a folder, even for root")
    assert doubled()(2) == 4
    assert len(kept(tmp_path / "home")) == 2


def test_nowhere_if_neither_can(doubled, tmp_path):
    for name in ("__pycache__", "home"):
        (tmp_path / name).write_text("in the way of a folder, even for root")
    assert doubled()(2) == 4
    assert not kept(tmp_path)


@pytest.mark.parametrize("room", [0, 200, 1000])
def test_nowhere_if_the_disk_is_full(doubled, room):
    function = doubled()
    with files_no_larger_than(room):
        assert function(2) == 4
    again = doubled()
    assert again(2) == 4 and hits(again) == 0


@pytest.mark.parametrize("end", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"half", None])
def test_anew_after_a_crash_that_left_half_a_file(doubled, tmp_path, end, content):
    doubled()(2)
    (file,) = tmp_path.rglob(f"*.{end}")
    file.write_bytes(file.read_bytes()[:-20] if content is None else content)
    assert doubled()(2) == 4
    assert is_read(doubled)


def test_a_package_and_a_home_that_cannot_be_written_to(tmp_path):
    """As in containers: numba refuses to be imported there, if it is asked to keep functions."""
    package = tmp_path / "worldmodel"
    unneeded = shutil.ignore_patterns("__pycache__", "checkpoints")
    shutil.copytree(Path(worldmodel.__file__).parent, package, ignore=unneeded)
    for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").write_text("in the way of a folder, even for root")
    elsewhere = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    named = {name: value for name, value in os.environ.items() if name not in elsewhere}
    script = "from worldmodel.world import interpreter as i; print(i.__file__, i.execute.stats)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=named | {"HOME": "/dev/null", "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(package)) and "cache_path=None" in done.stdout
