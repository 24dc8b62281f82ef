"""Real and dreamt transitions beside each other, with a tiny budget."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from worldmodel import data

EXAMPLE = Path(__file__).parents[2] / "examples" / "beside_reality"


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("stable_baselines3")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        yield import_module("beside_reality")
        del sys.modules["beside_reality"]


def tiny(example):
    return example.Settings(
        dreamt=0.75,
        updates_per_step=1,
        seed_steps=400,
        refit_every=200,
        first_fit=3,
        refit=2,
        dreams=8,
        branch=2,
        rounds=2,
        evaluate_every=300,
        evaluate_episodes=1,
    )


@pytest.fixture
def counted(example, monkeypatch):
    """Batches that were drawn: rows, and how many of them were dreamt."""
    drawn = []
    sample = example.Mixed.sample

    def counting(self, size, env=None):
        batch = sample(self, size, env)
        drawn.append((len(batch.rewards), self.dreamt is not None))
        return batch

    monkeypatch.setattr(example.Mixed, "sample", counting)
    return drawn


def test_dreams_are_learned_from_beside_reality(example, tmp_path, counted):
    rows = example.learn("Pendulum-v1", tmp_path / "run", 620, tiny(example), 0)
    assert [row["real_steps"] for row in rows] == [300, 600]
    assert all(-2000 < row["clean_return"] < 0 for row in rows)
    assert {size for size, _ in counted} == {256}
    assert counted[-1][1], "dreams are there by then"
    dataset = data.load(tmp_path / "run" / "data")
    assert int(dataset.train.lengths.sum() + dataset.validation.lengths.sum()) == 600
    assert (tmp_path / "run" / "sac.zip").is_file()


def test_without_dreams_it_is_plain_sac(example, tmp_path, counted):
    example.learn("Pendulum-v1", tmp_path / "run", 410, replace(tiny(example), dreamt=0.0), 0)
    assert not any(dreamt for _, dreamt in counted)
    assert not (tmp_path / "run" / "data").exists()


def test_a_batch_is_real_and_dreamt_in_its_shares(example):
    space, act = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Box(-1, 1, (1,))
    real, dreamt = example.Mixed(100, space, act), example.ReplayBuffer(100, space, act)
    for buffer, value in ((real, 0.0), (dreamt, 1.0)):
        for _ in range(20):
            paid = np.full(1, value)
            seen = np.zeros((1, 1), np.float32)
            buffer.add(seen, seen, seen, paid, np.zeros(1), [{}])
    assert real.sample(40).rewards.sum() == 0
    real.dreamt, real.fraction = dreamt, 0.75
    assert real.sample(40).rewards.sum() == 30 and len(real.sample(40).dones) == 40
