import numpy as np
import pytest
import torch
from small import random_batch, tiny_model

from worldmodel.data import Source, Wrapping
from worldmodel.data.probes import probes_for
from worldmodel.data.record import record
from worldmodel.evaluation.trust import (
    Judged,
    auroc,
    joined,
    record_probes,
    summary,
    trust_report,
)
from worldmodel.types import Batch
from worldmodel.world.world import World


def judged(error, bound, distance=None):
    error, bound = np.array(error, float), np.array(bound, float)
    away = np.zeros_like(error) if distance is None else np.array(distance, float)
    return Judged(error, bound, error, bound, away)


def test_auroc_is_the_chance_that_the_bad_one_ranks_higher():
    score, bad = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    pairs = [(b > g) + 0.5 * (b == g) for b in score[bad] for g in score[~bad]]
    assert auroc(score, bad) == np.mean(pairs) == 0.75
    assert auroc(np.ones(4), bad) == 0.5
    assert auroc(score, np.ones(4, bool)) is None
    assert auroc(np.array([1.0, np.inf]), np.array([False, True])) == 1


def test_a_summary_counts_what_it_says():
    error = [[0.01, 0.5], [0.02, 0.05], [0.03, np.nan], [0.04, 0.3]]
    bound = [[0.02, 0.6], [0.01, 0.2], [0.05, 0.1], [0.05, 0.1]]
    found = summary(judged(error, bound, [[0, 2], [0, 0], [0, 0], [0, 2]]), 0.1)
    assert found["horizons"] == [1]
    assert found["covered"] == [0.75] and found["bad"] == [0.0] and found["auroc"] == [None]
    assert found["error"] == [pytest.approx(0.025)]
    assert found["sharpness"] == [pytest.approx(0.035 / 0.025)]
    # The median bound is 0.035, then 0.15.
    assert found["believable"] == 1
    assert found["error_by_step"]["median"][1] == pytest.approx(0.3)


def test_in_and_outside_the_support_are_told_apart():
    error, away = np.full((4, 5), 0.2), np.zeros((4, 5))
    error[:2, 4], away[:2, 2:] = 0.8, 1.5
    found = summary(judged(error, error + 0.1, away), 0.5)
    assert found["horizons"] == [1, 5]
    assert found["inside"] == [pytest.approx(0.2)] * 2
    assert found["outside"] == [None, pytest.approx(0.8)]
    assert found["auroc_distance"] == [None, 1.0]


def test_reliability_has_the_fraction_that_holds_by_tenths_of_the_bound():
    bound = np.linspace(1, 2, 1000)[:, None]
    error = np.where(np.arange(1000)[:, None] < 500, 0.5, 3.0)
    covered = summary(judged(error, bound), 0.1)["reliability"]["covered"]
    assert covered == [1.0] * 5 + [0.0] * 5


def test_a_model_without_bounds_has_a_report_without_them():
    world, batch = World(tiny_model()), random_batch(size=12, steps=6)
    world.model.calibrate(batch)
    world.support.fit(
        *[world.model.initial(batch.observations[:, :1], batch.actions[:, :0]).mean] * 2
    )
    report = trust_report(world, {"test": batch}, looks=2)
    found = report["all"]
    assert report["coverage"] is None and found["covered"] == [None] * len(found["horizons"])
    assert found["believable"] == 0 and found["bound_by_step"] == [None] * 5


def test_dreams_begin_after_as_many_frames_of_every_probe():
    """Bounds are of dreams after so many looks; short episodes alone would be given fewer."""
    world, long = World(tiny_model()), random_batch(size=30, steps=12)
    world.model.calibrate(long)
    world.support.fit(
        *[world.model.initial(long.observations[:, :1], long.actions[:, :0]).mean] * 2
    )
    short = random_batch(size=10, steps=12)
    short.mask[:, 6:] = False
    report = trust_report(world, {"long": long, "short": short})
    for name in ("long", "short"):
        assert len(report["probes"][name]["error_by_step"]["median"]) == 12 + 1 - 5
    brief = random_batch(size=10, steps=12)
    brief.mask[:, 2:] = False
    report = trust_report(world, {"long": long, "brief": brief})
    assert len(report["probes"]["long"]["error_by_step"]["median"]) == 12 + 1 - 2


def test_recordings_are_joined_in_order():
    first, second = random_batch(size=3, seed=1), random_batch(size=2, seed=2)
    whole = joined({"a": first, "b": second})
    assert isinstance(whole, Batch) and len(whole) == 5
    assert (whole.actions[3:] == second.actions).all()


def test_probes_of_pictures_take_one_renderer_and_are_those_of_several(monkeypatch):
    source = Source("Pendulum-v1", {}, Wrapping(pixels=True, resize=16))
    made, make = [], Source.make_vec
    monkeypatch.setattr(Source, "make_vec", lambda self, n: made.append(n) or make(self, n))
    world = World(tiny_model())
    found, unable = record_probes(source, world, episodes=3, steps=4, seed=7)
    assert not unable
    processes, _ = probes_for(world.model.action_spec)
    assert made == [1] * len(processes)
    for i, (name, process) in enumerate(processes.items()):
        env = make(source, 3)
        several = record(env, 3, 4, process, 7 + i)
        env.close()
        assert torch.equal(found[name].observations, several.observations)
        assert torch.equal(found[name].actions, several.actions)
