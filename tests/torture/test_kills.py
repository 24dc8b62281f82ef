"""Killed at random moments and started again, all ends as if nothing had happened."""

import os
import random
from functools import partial

import pytest
import torch
from small import PIXELS, random_dataset, tiny_model
from torture import ROUNDS, killed

from worldmodel import data
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
    train(tmp_path / "straight")
    straight = load(tmp_path / "straight")
    rng, run, saved = random.Random(ROUNDS), tmp_path / "run", False
    for _ in range(KILLS):
        # Not forked: torch refuses to differentiate where the parent did so on a device.
        if killed(partial(train, run), rng.uniform(0, 1), start="forkserver"):
            break
        saved = saved or (run / "checkpoint").exists()
        if saved:
            load(run)  # a checkpoint is never lost
        read_history(run)
    train(run)
    weights = load(run).model.state_dict()
    for name, value in straight.model.state_dict().items():
        assert torch.equal(weights[name], value), name
    assert read_history(run) == read_history(tmp_path / "straight")
    assert {p.name for p in run.iterdir()} == {"checkpoint", "settings.json", "training"}
    assert {p.name for p in (run / "training").iterdir()} == {".lock", "state.pt"}


def collect(path, seed):
    splits = {name: data.SplitConfig(60, 14) for name in ("train", "test")}
    data.collect("worldmodel/Pendulum-v0", splits=splits, seed=seed, num_envs=30, out=path)
    return data.load(path).provenance.fingerprint


def test_recording(tmp_path):
    """In place of other data: those or the new ones, never anything between."""
    path = tmp_path / "data"
    known = [collect(path, seed) for seed in (1, 0)]
    rng = random.Random(ROUNDS)
    for turn in range(KILLS):
        killed(lambda turn=turn: collect(path, turn % 2), rng.uniform(0, 0.2))
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
    rng, folder = random.Random(ROUNDS), tmp_path / "checkpoint"
    worlds[0].save(folder)
    for turn in range(2 * KILLS):
        killed(lambda turn=turn: worlds[turn % 2].save(folder), rng.uniform(0, 0.02))
        weights = load(folder).model.state_dict()
        assert any(all(torch.equal(weights[k], v) for k, v in one.items()) for one in known)
    worlds[1].save(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
