"""Killed at any moment and started again, a run ends as it would have."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from online_worlds import CONFIG, build
from safetensors.torch import load_file

import worldmodel
from agents.policy import Policy
from worldmodel import data
from worldmodel.cli.runs import policy_of
from worldmodel.errors import FileFormatError, FolderInUse, SpecError
from worldmodel.files import locked
from worldmodel.online.learn import learn
from worldmodel.online.watching import Watcher
from worldmodel.plots.learning import read_progress
from worldmodel.training import dreaming
from worldmodel.training.growing import GrowingTrainer

STEPS = 110


class Killed(BaseException):
    """As abrupt as can be within a process."""


class Stopping(Watcher):
    """Kills the run when it begins for the nth time to do something."""

    def __init__(self, doing: str, times: int) -> None:
        self.doing, self.left = doing, times

    def phase(self, doing):
        begins = doing.startswith(self.doing)
        self.left -= begins
        if not self.left and begins:
            raise Killed


def learned(run, steps=STEPS, watcher=None):
    return learn("test/Cart-v0", run, steps, CONFIG, build, watcher=watcher)


def outcome(run):
    """All that is left of a run but times."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in read_progress(run)]
    files = run / "checkpoint" / "model.safetensors", run / "policy.safetensors"
    # The order of what a file says of itself is random.
    kept = [{k: v.numpy().tobytes() for k, v in load_file(file).items()} for file in files]
    return rows, *kept, data.load(run / "data").provenance.fingerprint


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    run = tmp_path_factory.mktemp("online") / "run"
    learned(run)
    return run


def test_rounds_are_told(uninterrupted):
    rows = read_progress(uninterrupted)
    dataset = data.load(uninterrupted / "data")
    told = int(dataset.train.lengths.sum() + dataset.validation.lengths.sum())
    assert rows[-1]["real_steps"] == told >= STEPS > rows[-2]["real_steps"]
    assert rows[-1]["evaluation_steps"] == dataset.test.lengths.sum()
    assert [row["round"] for row in rows] == list(range(len(rows)))
    assert rows[0]["observation_error"] is None and rows[1]["observation_error"] is None
    assert all(0 <= row["trust"] <= 1 for row in rows)
    assert rows[0]["clean_return"] is not None and rows[1]["clean_return"] is None
    assert rows[-1]["clean_return"] is not None, "the last round is judged whatever its number"


def test_the_return_is_that_of_what_was_written(uninterrupted):
    last = read_progress(uninterrupted)[-1]
    test = data.load(uninterrupted / "data").test
    returns = test.rewards.sum(1)[-CONFIG.evaluate_episodes :]
    assert last["clean_return"] == pytest.approx(returns.mean().item(), rel=1e-5)


def test_a_run_is_a_run_folder_like_any_other(uninterrupted):
    world = worldmodel.load(uninterrupted)
    assert world.source.env_id == "test/Cart-v0" and world.support.fitted
    policy = policy_of(uninterrupted, world)
    assert isinstance(policy, Policy)
    settings = json.loads((uninterrupted / "settings.json").read_text())
    assert settings["dataset"]["path"] == str(uninterrupted / "data")


def test_the_best_agent_is_kept_beside_the_last(uninterrupted):
    rows = [r for r in read_progress(uninterrupted) if r["clean_return"] is not None]
    best = max(rows, key=lambda row: (row["clean_return"], row["round"]))
    world = worldmodel.load(uninterrupted / "best")
    assert world.metrics["real_steps"] == best["real_steps"]
    assert isinstance(policy_of(uninterrupted / "best", world), Policy)
    settings = json.loads((uninterrupted / "best" / "settings.json").read_text())
    assert settings["dataset"]["path"] == str(uninterrupted / "data")


def test_killed_before_the_last_round_was_published_it_is_when_asked_again(tmp_path, monkeypatch):
    write = GrowingTrainer.write

    def written_and_killed(self, beside):
        write(self, beside)
        raise Killed

    learned(tmp_path, 60)
    before = worldmodel.load(tmp_path).metrics["real_steps"]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(GrowingTrainer, "write", written_and_killed)
        learned(tmp_path)
    learned(tmp_path, 60)  # which is reached already
    after = worldmodel.load(tmp_path).metrics["real_steps"]
    assert after == read_progress(tmp_path)[-1]["real_steps"] > before


@pytest.mark.parametrize(
    ("doing", "times"),
    [
        ("fitting the model", 1),
        ("evaluating", 1),
        ("improving the agent", 2),
        ("evaluating", 2),
    ],
)
def test_killed_within_a_round_it_ends_bit_for_bit_as_it_would_have(
    doing, times, uninterrupted, tmp_path
):
    with pytest.raises(Killed):
        learned(tmp_path, watcher=Stopping(doing, times))
    learned(tmp_path)
    assert outcome(tmp_path) == outcome(uninterrupted)


def test_killed_between_the_state_and_what_follows_from_it_likewise(
    uninterrupted, tmp_path, monkeypatch
):
    write = GrowingTrainer.write

    def written_and_killed(self, beside):
        write(self, beside)
        if beside["counts"]["round"] == 2:
            raise Killed

    monkeypatch.setattr(GrowingTrainer, "write", written_and_killed)
    with pytest.raises(Killed):
        learned(tmp_path)
    monkeypatch.undo()
    learned(tmp_path)
    assert outcome(tmp_path) == outcome(uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_can_be_killed(number, uninterrupted, tmp_path):
    child = Path(__file__).parents[1] / "online_worlds.py"
    process = subprocess.Popen(
        [sys.executable, child, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("acting") and len(read_progress(tmp_path)) >= 2:
            break
    process.send_signal(number)
    _, complaint = process.communicate(timeout=20)
    assert process.returncode
    if number != signal.SIGKILL:
        assert "KeyboardInterrupt" in complaint
    learned(tmp_path)
    assert outcome(tmp_path) == outcome(uninterrupted)


def test_more_steps_may_be_asked_for_later(uninterrupted, tmp_path):
    learned(tmp_path, 60)
    once = len(read_progress(tmp_path))
    world = learned(tmp_path, 60)
    assert len(read_progress(tmp_path)) == once, "there is nothing left to do"
    learned(tmp_path)
    ours, theirs = outcome(tmp_path), outcome(uninterrupted)
    assert ours[1:3] == theirs[1:3], "an evaluation more changes nothing"
    assert world.model.reward_range[0] >= worldmodel.load(tmp_path).model.reward_range[0]


def test_what_was_half_written_is_cleared(uninterrupted, tmp_path):
    """By whoever was killed at any file of the run, however short ago."""
    run = shutil.copytree(uninterrupted, tmp_path / "run")
    names = (".progress.jsonl", "best/.policy.safetensors", "data/.dataset.json")
    left = [run / f"{name}.0123456789ab.tmp" for name in names]
    for path in left:
        path.touch()
    learned(run)
    assert not any(path.exists() for path in left)
    assert outcome(run) == outcome(uninterrupted)


def test_another_run_is_not_continued(uninterrupted, tmp_path):
    learned(tmp_path, 60)
    with pytest.raises(SpecError, match=r"online\.replayed was 4, not 5"):
        learn("test/Cart-v0", tmp_path, 90, replace(CONFIG, replayed=5), build)
    with pytest.raises(SpecError, match="the observations of the dataset"):
        learn("CartPole-v1", tmp_path, 90, CONFIG, build)


def test_two_do_not_learn_in_one_folder(tmp_path):
    with locked(tmp_path), pytest.raises(FolderInUse):
        learned(tmp_path)


def test_a_corrupt_state_is_refused(tmp_path):
    learned(tmp_path, 60)
    (tmp_path / "training" / "state.pt").write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match="truncated or corrupt"):
        learned(tmp_path)
    torch.save({"update": 3}, tmp_path / "training" / "state.pt")
    with pytest.raises(FileFormatError, match="does not grow"):
        learned(tmp_path)


def test_the_noise_of_dreams_goes_on_too(tmp_path, monkeypatch):
    monkeypatch.setattr(dreaming, "_SCALES", (0.35,))
    assert learned(tmp_path / "run", 60).dream_noise == 0.35
    assert learned(tmp_path / "run", 60).dream_noise == 0.35
