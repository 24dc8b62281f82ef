import numpy as np
import pytest
import torch
from linear_model import LinearModel
from scipy.stats import mannwhitneyu
from small import VECTOR, box, generator, random_batch, vector, with_fields

from worldmodel.evaluation.termination import _rank_statistic, termination_quality
from worldmodel.types import Batch
from worldmodel.world.world import World

SPECS = vector(2), box(-1.0, 1.0)


def walk(model, size=60, steps=20) -> Batch:
    """Episodes of the linear system itself, ending where it says that they are likely to."""
    g = generator()
    state = torch.rand(size, 2, generator=g) * 4 - 2
    actions = 2 * torch.rand(size, steps, 1, generator=g) - 1
    states = World(model).rollout(state, actions)
    ended = model.termination(states[:, 1:]) > 0
    first = ended & (ended.cumsum(1) == 1)
    mask = ended.cumsum(1) - first.long() == 0
    frames = model.unscale_observations(model.emit(states).mean)
    return Batch(frames, actions, torch.zeros(size, steps), first & mask, mask)


def test_a_model_that_knows_is_right_about_every_end():
    model = LinearModel(*SPECS)
    quality = termination_quality(World(model), walk(model))
    assert quality["auc"] > 0.99 and quality["recall"] > 0.9 and quality["false_alarms"] < 0.02
    assert quality["brier"] < 0.5 * quality["brier_baseline"]


def test_a_model_that_does_not_know_is_no_better_than_the_base_rate():
    model = LinearModel(*SPECS)
    batch = walk(model)
    quality = termination_quality(World(model), batch)
    model.termination = lambda state: torch.full(state.shape[:-1], -30.0)
    blind = termination_quality(World(model), batch)
    assert blind["auc"] == 0.5 and blind["recall"] == blind["false_alarms"] == 0
    assert blind["brier"] == pytest.approx(blind["fraction"]) and blind["brier"] > quality["brier"]


def test_padding_has_no_influence():
    model = LinearModel(*SPECS)
    batch = walk(model)
    dirty = with_fields(batch, terminated=batch.terminated | ~batch.mask)
    assert termination_quality(World(model), dirty) == termination_quality(World(model), batch)


def test_without_an_end_there_is_nothing_to_foresee():
    batch = random_batch(VECTOR)
    for ended in (torch.zeros_like(batch.terminated), torch.ones_like(batch.terminated)):
        assert termination_quality(World(LinearModel()), with_fields(batch, terminated=ended)) == {}


def test_the_rank_statistic_is_that_of_mann_and_whitney():
    rng = np.random.default_rng(0)
    higher, lower = rng.integers(0, 9, 40).astype(float), rng.integers(0, 7, 60).astype(float)
    expected = mannwhitneyu(higher, lower).statistic / (40 * 60)
    assert _rank_statistic(higher, lower) == pytest.approx(expected)
