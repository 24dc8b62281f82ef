"""A run that is killed and started again ends where it would have ended."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from full_disk import files_no_larger_than
from interrupted import CONFIG, make_trainer
from small import PIXELS, random_dataset, tiny_model

from worldmodel.errors import FileFormatError, FolderInUse, SpecError
from worldmodel.training import schedules
from worldmodel.training.settings import read_settings
from worldmodel.training.state import read_history
from worldmodel.training.trainer import Trainer
from worldmodel.world.world import World, load


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    trainer = make_trainer(tmp_path_factory.mktemp("straight"))
    trainer.fit(progress=False)
    return trainer


def same_weights(ours, theirs):
    assert ours.keys() == theirs.keys()
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


def assert_same_end(trainer, straight):
    assert trainer.update == straight.update
    assert same_weights(trainer.model.state_dict(), straight.model.state_dict())
    assert same_weights(trainer.best["model"], straight.best["model"])
    assert trainer.best["value"] == straight.best["value"]
    assert trainer.best["update"] == straight.best["update"]
    assert json.dumps(trainer.history) == json.dumps(straight.history)  # NaN equals NaN there
    assert trainer.objective.state_dict() == straight.objective.state_dict()
    last, expected = (
        torch.load(t.folder / "training" / "state.pt", weights_only=True)
        for t in (trainer, straight)
    )
    assert same_weights(last["model"], expected["model"])
    assert torch.equal(last["generator"], expected["generator"])
    ours, theirs = last["optimizer"]["state"], expected["optimizer"]["state"]
    assert all(same_weights(ours[index], theirs[index]) for index in theirs)
    assert last["usual_norm"] == expected["usual_norm"] > 0


def other_process(folder):
    """Trains there without end, until it is killed."""
    here = Path(__file__).parent
    paths = [str(here.parents[1]), str(here.parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, str(here / "interrupted.py"), str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )


def wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_same_seed_is_the_same_run_and_the_global_generator_has_no_part(straight, tmp_path):
    torch.manual_seed(12345)
    again = make_trainer(tmp_path)
    before = torch.get_rng_state()
    again.fit(progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_end(again, straight)
    saved = load(tmp_path).model.state_dict()
    assert same_weights(saved, straight.model.state_dict())


def test_another_seed_is_another_run(tmp_path):
    config = dataclasses.replace(CONFIG, seed=1, updates=3)
    other = make_trainer(tmp_path, config)
    other.fit(progress=False)
    reference = make_trainer(tmp_path / "b", dataclasses.replace(config, seed=0))
    reference.fit(progress=False)
    assert not same_weights(other.model.state_dict(), reference.model.state_dict())


def test_a_killed_process_resumes_exactly(straight, tmp_path):
    process = other_process(tmp_path)
    wait_for(tmp_path / "training" / "state.pt", process)
    time.sleep(random.uniform(0, 0.8))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended by itself: see its stderr"
    trainer = make_trainer(tmp_path, seed=5)  # whose initial weights must not matter
    assert 0 < trainer.update < CONFIG.updates
    trainer.fit(progress=False)
    assert_same_end(trainer, straight)


@pytest.mark.parametrize("moment", ["amid", "between the files", "at the end"])
def test_an_interruption_resumes_exactly(straight, tmp_path, monkeypatch, moment):
    trainer = make_trainer(tmp_path)
    name = {"between the files": "save"}.get(moment, "step")
    calls = {"amid": 23, "between the files": 3, "at the end": None}[moment]
    owner = World if name == "save" else trainer
    original, count = getattr(owner, name), 0

    def interrupt(*args):
        nonlocal count
        count += 1
        if count == calls:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(owner, name, interrupt)
    if calls is None:
        trainer.fit(progress=False)
    else:
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(progress=False)
    again = make_trainer(tmp_path)
    expected = {"amid": 18, "between the files": 18, "at the end": 40}
    assert again.update == expected[moment]
    again.fit(progress=False)
    assert_same_end(again, straight)


@pytest.mark.parametrize("part", ["train", "model", "data"])
def test_a_folder_of_another_run_is_refused(straight, part):
    folder, data = straight.folder, random_dataset(PIXELS)
    config, model = CONFIG, tiny_model(PIXELS)
    if part == "train":
        config = dataclasses.replace(CONFIG, batch_size=9)
    elif part == "model":
        model = tiny_model(PIXELS, codec={"hidden": 11})
    else:
        data = random_dataset(PIXELS, size=13)
    before = (folder / "training" / "state.pt").read_bytes()
    told = {
        "train": r"settings: train\.batch_size was 8, not 9; choose",
        "model": r"settings: model\.codec\.hidden was 10, not 11; choose",
        "data": r"settings: data was '[0-9a-f]+', not '[0-9a-f]+'; choose",
    }
    with pytest.raises(SpecError, match=told[part]):
        Trainer(model, data, config, folder)
    assert (folder / "training" / "state.pt").read_bytes() == before


@pytest.mark.parametrize("damage", ["empty", "half", "foreign", "json"])
def test_a_corrupt_training_state_is_said(straight, tmp_path, damage):
    path = tmp_path / "training" / "state.pt"
    path.parent.mkdir()
    whole = (straight.folder / "training" / "state.pt").read_bytes()
    if damage == "foreign":
        torch.save({"weights": torch.zeros(2)}, path)
    else:
        half = whole[: len(whole) // 2]
        path.write_bytes({"empty": b"", "half": half, "json": b'{"a": 1}'}[damage])
    with pytest.raises(FileFormatError, match=r"state\.pt is truncated or corrupt"):
        make_trainer(tmp_path)


@pytest.mark.parametrize("missing", ["model", "optimizer", "history", "generator", "best"])
def test_a_training_state_without_a_part_is_said(straight, tmp_path, missing):
    path = tmp_path / "training" / "state.pt"
    path.parent.mkdir()
    state = torch.load(straight.folder / "training" / "state.pt", weights_only=True)
    del state[missing]
    torch.save(state, path)
    with pytest.raises(FileFormatError, match=r"state\.pt is truncated or corrupt"):
        make_trainer(tmp_path)


def test_a_finished_run_goes_on_with_more_updates(tmp_path):
    make_trainer(tmp_path, dataclasses.replace(CONFIG, updates=12)).fit(progress=False)
    longer = dataclasses.replace(CONFIG, updates=20, patience=5)
    trainer = make_trainer(tmp_path, longer)
    assert trainer.update == 12
    trainer.fit(progress=False)
    assert trainer.update == 20
    assert [logs["update"] for logs in trainer.history] == [6, 12, 18, 20]
    # By the schedule of the longer run.
    assert trainer.history[-1]["learning_rate"] == make_trainer_at(20, longer)
    with pytest.raises(SpecError, match=r"of 20 updates already.* than the 19"):
        make_trainer(tmp_path, dataclasses.replace(CONFIG, updates=19))


def make_trainer_at(update, config):
    trainer = Trainer(tiny_model(PIXELS), random_dataset(PIXELS), config, "unused")
    trainer.update = update
    return schedules.learning_rate(config, update, trainer._progress)


def test_a_checkpoint_is_written_every_few_minutes_too(tmp_path, straight, monkeypatch):
    """Killed before the first validation, a run loses no more than those minutes."""
    monkeypatch.setattr("worldmodel.training.trainer._SECONDS", 0.0)
    trainer, step = make_trainer(tmp_path), Trainer.step

    def killed(self):
        if self.update == 4:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(progress=False)
    monkeypatch.setattr(Trainer, "step", step)
    again = make_trainer(tmp_path)
    assert again.update == 4
    again.fit(progress=False)
    assert_same_end(again, straight)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("update", [3, 18, 40])
def test_a_signal_ends_training_with_a_checkpoint(tmp_path, straight, number, update):
    trainer, seen = make_trainer(tmp_path), []

    def watch(trainer):
        if trainer.update == update:
            signal.raise_signal(number)
            assert not seen, "it waits"

    def handle(got, frame):
        seen.append(got)

    before = signal.signal(number, handle)
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(progress=False, watch=watch)
        assert signal.getsignal(number) is handle
    finally:
        signal.signal(number, before)
    assert seen == [number]
    again = make_trainer(tmp_path)
    assert again.update == update
    again.fit(progress=False)
    assert_same_end(again, straight)


def test_a_second_signal_does_not_wait(tmp_path):
    trainer = make_trainer(tmp_path)

    def watch(trainer):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RuntimeError("at once")

    with pytest.raises(RuntimeError, match="at once"):
        trainer.fit(progress=False, watch=watch)
    assert not (tmp_path / "training" / "state.pt").exists()


def test_a_folder_has_one_trainer_and_any_number_of_readers(straight, tmp_path):
    process = other_process(tmp_path)
    wait_for(tmp_path / "checkpoint" / "config.json", process)
    second = make_trainer(tmp_path)
    with pytest.raises(FolderInUse, match=rf"training is in use by process {process.pid} on \S+"):
        second.fit(progress=False)
    while process.poll() is None and make_trainer(tmp_path).update < 24:
        load(tmp_path), read_history(tmp_path), read_settings(tmp_path)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended by itself: see its stderr"
    for left in ("training/.state.pt.0123456789ab.tmp", ".settings.json.0123456789ab.tmp"):
        (tmp_path / left).write_bytes(b"half")
    trainer = make_trainer(tmp_path)  # the lock of a process that is gone is none
    trainer.fit(progress=False)
    assert_same_end(trainer, straight)
    assert sorted(path.name for path in (tmp_path / "training").iterdir()) == [".lock", "state.pt"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("room", [0, 2_000, 30_000])
def test_a_disk_that_is_full_loses_nothing(straight, tmp_path, room):
    """Of what there was: it is said which file does not fit, and training goes on later."""
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path).fit(progress=False, watch=stopped_at(13))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(OSError, match=str(tmp_path)), files_no_larger_than(room):
        make_trainer(tmp_path).fit(progress=False)
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    lock = tmp_path / "training" / ".lock"
    assert after | {lock: b""} == before | {lock: b""}
    trainer = make_trainer(tmp_path)
    assert trainer.update == 13
    trainer.fit(progress=False)
    assert_same_end(trainer, straight)


def stopped_at(update):
    def watch(trainer):
        if trainer.update == update:
            signal.raise_signal(signal.SIGINT)

    return watch
