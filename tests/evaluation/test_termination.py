import numpy as np
import pytest
import torch
from linear_model import LinearModel
from scipy.stats import mannwhitneyu
from small import VECTOR, box, generator, random_batch, vector, with_fields

from worldmodel.evaluation.termination import (
    _rank_statistic,
    calibration_error,
    predicted_ends,
    termination_quality,
)
from worldmodel.types import Batch
from worldmodel.world.ends import Ends, fit_ends
from worldmodel.world.world import World

SPECS = vector(2), box(-1.0, 1.0)


def walk(model, size=60, steps=20, drawn=False) -> Batch:
    """Episodes of the linear system itself, ending where it says, or as often as it says."""
    g = generator()
    state = torch.rand(size, 2, generator=g) * 4 - 2
    actions = 2 * torch.rand(size, steps, 1, generator=g) - 1
    states = World(model).rollout(state, actions, g if drawn else None)
    least = torch.rand(size, steps, generator=g).logit() if drawn else 0
    ended = model.termination(states[:, 1:]) > least
    first = ended & (ended.cumsum(1) == 1)
    mask = ended.cumsum(1) - first.long() == 0
    frames = model.unscale_observations(model.emit(states).mean)
    return Batch(frames, actions, torch.zeros(size, steps), first & mask, mask)


def test_a_model_that_knows_is_right_about_every_end():
    model = LinearModel(*SPECS)
    quality = termination_quality(World(model), walk(model))
    assert quality["auc"] > 0.99 and quality["recall"] > 0.6 and quality["false_alarms"] < 0.1
    assert quality["brier"] < 0.5 * quality["brier_baseline"]


def test_chances_that_are_right_are_calibrated():
    model = LinearModel(*SPECS)
    quality = termination_quality(World(model), walk(model, size=4000, drawn=True))
    assert quality["calibration_error"] < 0.01
    assert quality["ends_predicted"] == pytest.approx(quality["ends"], rel=0.05)
    # Of ends that are drawn with chances p, sum(p p) / sum(p) are drawn again.
    assert quality["precision"] == pytest.approx(quality["recall"], abs=0.03)


@pytest.mark.parametrize(("slope", "shift"), [(0.4, 2.0), (3.0, -1.5)])
def test_held_out_ends_correct_a_head_that_is_off(slope, shift):
    model = LinearModel(*SPECS)
    batch, world = walk(model, size=4000, drawn=True), World(model)
    right = termination_quality(world, batch)
    true = model.termination
    model.termination = lambda state: (true(state) - shift) / slope
    off = termination_quality(world, batch)
    assert off["calibration_error"] > 3 * right["calibration_error"]
    world.ends = fit_ends(*predicted_ends(world, batch))
    assert world.ends.slope == pytest.approx(slope, rel=0.15)
    assert world.ends.shift == pytest.approx(shift, abs=0.3)
    corrected = termination_quality(world, batch)
    assert corrected["brier"] == pytest.approx(right["brier"], rel=0.01)


def test_few_ends_and_none_correct_little():
    logit = torch.tensor([[-8.0] * 50 + [8.0]])
    ended = torch.arange(51) == 50
    assert 1 <= fit_ends(logit, ended).slope < 10
    assert fit_ends(logit, ended & False) == fit_ends(logit, ended | True) == Ends()


def test_the_calibration_error_is_that_of_its_ranges():
    chance = np.array([0.05, 0.05, 0.95, 0.85, 1.0])
    happened = np.array([True, False, True, False, True])
    # Ranges: 0 to 0.1 is off by 0.9 in sum, 0.8 to 0.9 by 0.85, 0.9 to 1 by 0.05.
    assert calibration_error(chance, happened) == pytest.approx((0.9 + 0.85 + 0.05) / 5)


def test_a_model_that_does_not_know_is_no_better_than_the_base_rate():
    model = LinearModel(*SPECS)
    batch = walk(model)
    quality = termination_quality(World(model), batch)
    model.termination = lambda state: torch.full(state.shape[:-1], -30.0)
    blind = termination_quality(World(model), batch)
    assert blind["auc"] == 0.5 and blind["recall"] == pytest.approx(0, abs=1e-9)
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
