"""Killed at random moments and started again, all ends as if nothing had happened."""

import os
import random
import shutil
from functools import partial

import numpy as np
import pytest
import recordings
import torch
from online_worlds import CONFIG as ONLINE
from online_worlds import build
from PIL import Image
from small import PIXELS, random_dataset, tiny_model
from torture import ROUNDS, killed, lasting

from worldmodel import data
from worldmodel.data import importing
from worldmodel.data.writers import minari as to_minari
from worldmodel.online.learn import learn
from worldmodel.plots.film import write_gif, write_mp4
from worldmodel.plots.learning import read_progress
from worldmodel.training import trainer as training
from worldmodel.training.config import TrainConfig
from worldmodel.training.state import read_history
from worldmodel.training.trainer import Trainer
from worldmodel.world.world import World, load

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
KILLS = 6 * ROUNDS
CONFIG = TrainConfig(
    updates=40, batch_size=8, window=5, validate_every=6, warmup_steps=5, tensorboard=False
)


def train(folder):
    """With a checkpoint after every update, so that kills come while one is written."""
    training._SECONDS = 0.0
    Trainer(tiny_model(PIXELS), random_dataset(PIXELS), CONFIG, folder).fit(progress=False)


def test_training(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_SECONDS", 0.0)
    # Not forked: torch refuses to differentiate where the parent did so on a device.
    most = lasting(partial(train, tmp_path / "straight"), start="forkserver")
    straight = load(tmp_path / "straight")
    rng, run, more = random.Random(ROUNDS), tmp_path / "run", KILLS
    while more:
        saved = done = False
        while more and not done:
            done = killed(partial(train, run), rng.uniform(0, most), start="forkserver")
            more -= not done
            saved = saved or (run / "checkpoint").exists()
            if saved:
                load(run)  # a checkpoint is never lost
            read_history(run)
        if not done:
            train(run)
        weights = load(run).model.state_dict()
        for name, value in straight.model.state_dict().items():
            assert torch.equal(weights[name], value), name
        assert read_history(run) == read_history(tmp_path / "straight")
        assert {p.name for p in run.iterdir()} == {"checkpoint", "settings.json", "training"}
        assert {p.name for p in (run / "training").iterdir()} == {".lock", "state.pt"}
        shutil.rmtree(run)


def collect(path, seed):
    splits = {name: data.SplitConfig(60, 14) for name in ("train", "test")}
    data.collect("worldmodel/Pendulum-v0", splits=splits, seed=seed, num_envs=30, out=path)
    return data.load(path).provenance.fingerprint


def test_recording(tmp_path):
    """In place of other data: those or the new ones, never anything between."""
    path = tmp_path / "data"
    known, most = [collect(path, seed) for seed in (1, 0)], lasting(partial(collect, path, 0))
    rng, turn, more = random.Random(ROUNDS), 0, KILLS
    while more:
        more -= not killed(partial(collect, path, turn % 2), rng.uniform(0, most))
        turn += 1
        left = data.load(path)
        left.verify()
        assert left.provenance.fingerprint in known
    assert [collect(path, seed) for seed in (1, 0)] == known
    assert sorted(inner.name.partition("-")[0] for inner in path.iterdir()) == [
        ".lock",
        "dataset.json",
        "parts",
    ]


def test_checkpoints(tmp_path):
    """Old or new, never anything between."""
    worlds = [World(tiny_model(PIXELS, seed=seed)) for seed in range(2)]
    known = [{k: v.clone() for k, v in w.model.state_dict().items()} for w in worlds]
    rng, folder, turn, more = random.Random(ROUNDS), tmp_path / "checkpoint", 0, 2 * KILLS
    most = lasting(partial(worlds[0].save, folder))
    while more:
        more -= not killed(partial(worlds[turn % 2].save, folder), rng.uniform(0, most))
        turn += 1
        weights = load(folder).model.state_dict()
        assert any(all(torch.equal(weights[k], v) for k, v in one.items()) for one in known)
    worlds[1].save(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def rows(run):
    """What each round has told, but for times."""
    told = read_progress(run) if (run / "progress.jsonl").exists() else []
    return [{k: v for k, v in row.items() if k != "seconds"} for row in told]


def learned(run):
    learn("test/Cart-v0", run, 110, ONLINE, build)


def test_learning_online(tmp_path):
    """Acting, appending, refitting, improving: at whatever it is killed, it ends the same."""
    most = lasting(partial(learned, tmp_path / "straight"), start="forkserver")
    straight, rng, run = rows(tmp_path / "straight"), random.Random(ROUNDS), tmp_path / "run"
    more = KILLS
    while more:
        done = False
        while more and not done:
            done = killed(partial(learned, run), rng.uniform(0, most), start="forkserver")
            more -= not done
            told = rows(run)
            assert told == straight[: len(told)]
            if (run / "checkpoint").exists():
                load(run)
            if list(run.glob("data/parts/[0-9]*")):
                data.load(run / "data").verify()
        if not done:
            learned(run)
        assert rows(run) == straight
        one, other = (load(path).model.state_dict() for path in (run, tmp_path / "straight"))
        assert all(torch.equal(one[name], other[name]) for name in other)
        kept = [{p.name for p in path.iterdir()} for path in (run, tmp_path / "straight")]
        assert kept[0] == kept[1]
        assert not [path for path in run.rglob(".*") if path.name != ".lock"]
        shutil.rmtree(run)


def imported(source, out):
    return importing.write(importing.Import(source, importing.Choices()), out)


def test_importing(tmp_path):
    """Nothing, or all of it; and whatever was left stands in nobody's way."""
    rng, out, source = random.Random(ROUNDS), tmp_path / "data", tmp_path / "recorded.npz"
    lengths = tuple(rng.randrange(5, 20) for _ in range(150))
    np.savez(source, **recordings.flat(recordings.made(np.random.default_rng(0), lengths)))
    most = lasting(partial(imported, source, tmp_path / "straight"))
    straight = data.load(tmp_path / "straight").provenance.fingerprint
    more = KILLS
    while more:
        done = killed(partial(imported, source, out), rng.uniform(0, most))
        more -= not done
        if (out / "dataset.json").exists():
            found = data.load(out)
            found.verify()
            assert found.provenance.fingerprint == straight
            shutil.rmtree(out)
        assert not done or not out.exists()
    assert imported(source, out).provenance.fingerprint == straight
    kept = [
        sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("straight", "data")
    ]
    assert kept[0] == kept[1]


def test_exporting(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari", reason="needs worldmodel[minari]")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    held, rng, name = random_dataset(size=40), random.Random(ROUNDS), "killed/x-v0"
    place = tmp_path / "minari" / "killed" / "x-v0"
    most = lasting(partial(to_minari.write, held, "killed/straight-v0"))
    shutil.rmtree(place.parent)
    more = KILLS
    while more:
        more -= not killed(partial(to_minari.write, held, name), rng.uniform(0, most))
        listed = minari.list_local_datasets()
        assert set(listed) == ({name} if place.exists() else set())
        if listed:
            assert minari.load_dataset(name).total_episodes == 80
            shutil.rmtree(place)
    for left in place.parent.rglob("*"):
        os.utime(left, (0, 0))  # long ago: nobody is writing there any more
    to_minari.write(held, name)
    assert minari.load_dataset(name).total_episodes == 80
    assert [path.name for path in place.parent.iterdir()] == ["x-v0"]


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_films(tmp_path, kind):
    """A film is there in full, or the one before."""
    if kind == "mp4":
        pytest.importorskip("imageio_ffmpeg", reason="needs worldmodel[mp4]")
    rng, path = random.Random(ROUNDS), tmp_path / f"film.{kind}"
    films = [np.random.default_rng(n).integers(0, 256, (n, 32, 48, 3), np.uint8) for n in (20, 30)]
    write = write_gif if kind == "gif" else write_mp4
    turn, more, most = 0, KILLS, lasting(partial(write, films[1], path))
    while more:
        more -= not killed(partial(write, films[turn % 2], path), rng.uniform(0, most))
        turn += 1
        if path.exists():
            assert frames(path) in (20, 30)
    for left in tmp_path.glob(".*"):
        os.utime(left, (0, 0))
    write(films[0], path)
    assert frames(path) == 20 and [p.name for p in tmp_path.iterdir()] == [path.name]


def frames(path):
    if path.suffix == ".gif":
        with Image.open(path) as film:
            return film.n_frames
    from imageio_ffmpeg import count_frames_and_secs

    return count_frames_and_secs(path)[0]
