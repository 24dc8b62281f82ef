"""Ctrl-C while the command line is still being imported, which takes seconds: one line."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STOP = "import signal\nsignal.raise_signal(signal.SIGINT)\n"
# As libraries import what they may lack.
SWALLOWED = "try:\n    import stopped\nexcept BaseException:\n    pass\nprint('imported')\n"
AFTER = "import os\nos.write(1, b'went on')\nos._exit(3)\n"


def started(folder, **options):
    """The installed command, with another torch."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, name = told["worldmodel"].split(":")
    (folder / "stopped.py").write_text(STOP)
    return subprocess.run(
        [sys.executable, "-c", f"from {module} import {name}; {name}()", "--version"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
        **options,
    )


@pytest.mark.parametrize("torch", [STOP, SWALLOWED])
def test_ctrl_c_is_one_line_while_it_starts(torch, tmp_path):
    (tmp_path / "torch.py").write_text(torch)
    done = started(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system ignores no signals for children")
def test_who_ignores_it_is_not_stopped(tmp_path):
    """As what a shell runs in the background."""
    (tmp_path / "torch.py").write_text(STOP + AFTER)
    done = started(tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert (done.returncode, done.stdout) == (3, "went on")
