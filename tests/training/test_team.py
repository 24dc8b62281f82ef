"""Processes that train together end where one process would."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small import random_batch, random_dataset, small_model
from together import CASES, make

from worldmodel.draws import SharedGenerator
from worldmodel.errors import ConfigError
from worldmodel.models.registry import MODELS
from worldmodel.training.team import Alone
from worldmodel.training.windows import Windows

HERE = Path(__file__).parent
# What C++ says when gloo's threads abort a process that exits, once in a while: then torchrun stops
# the others, and whoever trains starts the same command again.
ABORTED = "terminate called without an active exception"


def together(*arguments: object) -> subprocess.CompletedProcess:
    """Two processes; torchrun gives them a free port."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    line += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    line += [str(HERE / "together.py"), *map(str, arguments)]
    paths = [str(HERE.parents[1]), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=250)


def finished(*arguments: object) -> str:
    """What they said that came to the end."""
    ended, said = together(*arguments), ""
    if ABORTED in ended.stderr:
        ended, said = together(*arguments), ended.stdout
    assert ended.returncode == 0, ended.stderr
    return said + ended.stdout


def state(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "training" / "state.pt", weights_only=True)


def furthest(ours, theirs) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[k].double() - theirs[k].double()).abs().max()) for k in theirs)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    finished(folder, "", *CASES)
    return folder


def test_two_processes_of_which_one_is_killed_go_on_bit_for_bit(shared, tmp_path):
    """Checkpoints come every four updates, and the second process dies after six of eight."""
    died = together(tmp_path, "die", "dvbf-vectors")
    silence = time.time() - (tmp_path / "dvbf-vectors" / "died").stat().st_mtime
    assert silence < 60
    assert died.returncode != 0 and state(tmp_path / "dvbf-vectors")["update"] == 4
    assert "rank" in died.stderr and "Signal 9 (SIGKILL)" in died.stderr
    said = finished(tmp_path, "", "dvbf-vectors")
    assert "process 1 begins dvbf-vectors at update 4" in said
    # All of it: weights, moments, multiplier, draws, validations, the best so far.
    ours, theirs = state(tmp_path / "dvbf-vectors"), state(shared / "dvbf-vectors")
    assert ours.pop("identity") == theirs.pop("identity")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    assert [logs["update"] for logs in ours["history"]] == [4, 8]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_with_the_checkpoint_of_one(case, shared, tmp_path):
    make(case, tmp_path, Alone()).fit(progress=False)
    assert furthest(state(shared / case)["model"], state(tmp_path / case)["model"]) < 1e-10
    ours, theirs = (
        load_file(f / case / "checkpoint/model.safetensors") for f in (shared, tmp_path)
    )
    # Members learn for a thousand updates, by which what was rounded grows.
    assert ("members" in case) == any(name.startswith("members") for name in ours)
    assert furthest(ours, theirs) < (1e-6 if case == "members" else 1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_each_process_draws_its_rows_of_what_one_would(name):
    """Terms of two halves, by every model, are those of the whole."""
    model = small_model(name).double()
    batch = random_batch(size=6)
    model.calibrate(batch)

    def terms(rows, rank, ranks):
        generator = SharedGenerator.seeded(torch.device("cpu"), 3, rank, ranks)
        found = model.terms(batch[rows], generator, prefix=3)
        return found, generator.get_state()

    whole, state = terms(slice(0, 6), 0, 1)
    halves = [terms(slice(3 * rank, 3 * rank + 3), rank, 2) for rank in range(2)]
    for field in ("states", "rate", "reconstruction", "entropy", "reward"):
        joint = torch.cat([getattr(half, field) for half, _ in halves])
        torch.testing.assert_close(joint, getattr(whole, field), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(other, state) for _, other in halves)


def test_windows_are_shared_and_each_process_reads_its_own_rows(monkeypatch):
    dataset, model = random_dataset(size=40), small_model("dvbf")
    model.calibrate(dataset.train)
    stored = Windows.of(dataset.train, model, most=0)
    read, original = [], type(dataset.train).windows

    def windows(self, episodes, *rest, **kwargs):
        read.append(len(episodes))
        return original(self, episodes, *rest, **kwargs)

    monkeypatch.setattr(type(dataset.train), "windows", windows)
    parts = [
        stored.draw(8, 4, SharedGenerator.seeded(torch.device("cpu"), 0, rank, ranks))
        for rank, ranks in ((0, 1), (0, 2), (1, 2))
    ]
    assert read == [8, 4, 4]
    joint = torch.cat([part.observations for part in parts[1:]])
    assert torch.equal(joint, parts[0].observations)


def test_processes_that_do_not_divide_a_batch_are_refused(tmp_path):
    class Three(Alone):
        size = 3

    with pytest.raises(ConfigError, match=r"batches of 8 sequences .* 3 processes"):
        make("dvbf-vectors", tmp_path, Three())
