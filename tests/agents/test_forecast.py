"""Dreamt episodes against the model's own steps, and intervals against what happens."""

import numpy as np
import pytest
import torch
from linear_model import LinearModel, fit_support
from small import generator

from agents.forecast import COVERAGE, Forecast, dream_on, forecast


class Pushing:
    """Counts how often it acted: what it remembers has to come back to it."""

    def predict(self, observation, state=0, deterministic=True):
        return np.full((len(observation), 1), 0.1 * (state % 3), np.float32), state + 1


def starts(n=50):
    return 0.4 * torch.randn(n, 2, generator=generator(3))


def test_returns_are_those_of_the_models_steps(world):
    told = dream_on(world, Pushing(), starts(), 7, generator(5)).returns
    model, state, noise = world.model, starts(), generator(5)
    collected = torch.zeros(50)
    for t in range(7):
        action = torch.full((50, 1), 0.1 * (t % 3))
        drawn = torch.randn(1, 2, 50, generator=noise)[0].T
        arrived = model.transition(state, action, drawn)
        paid = model.reward(state, action, arrived)
        collected += paid.clamp(*model.reward_range)
        state = arrived
    np.testing.assert_allclose(told, collected.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_nothing_is_collected_after_an_imagined_end():
    world = fit_support(LinearModel(), 5.0)
    first = torch.tensor([[2.5, 0.0], [-2.0, 0.0]])
    dreamt = dream_on(world, Pushing(), first, 5, generator())
    assert dreamt.alive[0].tolist() == [True] + [False] * 4
    assert dreamt.returns[0] >= -4 > dreamt.returns[1]


def test_a_dream_that_is_not_finite_is_paid_the_least_from_then_on(world, monkeypatch):
    step = type(world.model).transition

    def bursts(self, state, action, noise=None):
        following = step(self, state, action, noise)
        return torch.where(state[:, :1] > 0.5, torch.nan, following)

    monkeypatch.setattr(type(world.model), "transition", bursts)
    first = torch.tensor([[0.6, 0.0], [-0.1, 0.0]])
    dreamt = dream_on(world, Pushing(), first, 4, generator())
    assert dreamt.returns[0] == pytest.approx(4 * world.model.reward_range[0])
    assert np.isfinite(dreamt.returns).all() and dreamt.returns[1] > dreamt.returns[0]


def test_trust_is_the_share_of_steps_among_the_data(world):
    near, far = torch.zeros(20, 2), torch.full((20, 2), 30.0)
    assert dream_on(world, Pushing(), near, 3, generator()).trust == 1
    assert dream_on(world, Pushing(), far, 3, generator()).trust == 0
    assert dream_on(world, Pushing(), torch.cat([near, far]), 1, generator()).trust == 0.5


def test_intervals_hold_what_happens_as_often_as_they_say():
    rng, hits, told = np.random.default_rng(0), [], 0
    for _ in range(300):
        past = []
        for _ in range(12):
            truth = rng.normal(100, 20)
            dreamt = truth + rng.normal(0, 15) + rng.normal(0, 10, 128)
            happened = float(rng.normal(truth, 10, 10).mean())
            said = forecast(dreamt, 10, past, (-1e9, 1e9))
            if past:
                hits.append(said.holds(happened))
                told += 1
            past.append((said.mean, happened))
    assert COVERAGE - 0.02 <= np.mean(hits) <= 0.97


def test_before_the_first_miss_all_that_is_possible_may_happen():
    told = forecast(np.array([3.0, 5.0]), 10, [], (-10.0, 10.0))
    assert told == Forecast(4.0, -10.0, 10.0)


def test_misses_that_are_long_ago_count_little():
    dreamt = np.full(128, 50.0)
    late, soon = ([(50.0, 50.0 + m) for m in misses] for misses in ([40, 1, 1, 1], [1, 1, 1, 40]))
    widths = [
        (said.high - said.low)
        for said in (forecast(dreamt, 10, past, (-1e9, 1e9)) for past in (late, soon))
    ]
    assert widths[0] < 0.6 * widths[1]


def test_what_is_impossible_is_not_forecast():
    said = forecast(np.full(128, 480.0), 10, [(100.0, 400.0)], (1.0, 500.0))
    assert (said.low, said.high) == (1.0, 500.0) and said.mean == pytest.approx(480)
