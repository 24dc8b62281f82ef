"""What exploration adds, against its law."""

import numpy as np
import pytest
import torch
from small import BOX, box, discrete, generator

from agents.exploration import Exploring
from agents.policy import Policy


def policy(actions, low, high):
    zeros, ones = torch.zeros(3), torch.ones(3)
    return Policy(zeros, ones, actions, torch.tensor(low), torch.tensor(high), 4, stochastic=True)


def exploring_by(actor, *settings):
    return Exploring(actor, actor.actions, (actor.low, actor.high), *settings)


def test_noise_has_its_deviation_in_half_ranges_and_its_correlation():
    actor = policy(box(-100.0, 100.0), [-100.0], [100.0])
    exploring = exploring_by(actor, 0.05, 0.8, generator())
    states = np.zeros((500, 3), np.float32)
    taken = np.stack([exploring(states) for _ in range(40)])[..., 0]
    noise = taken - actor.predict(states)[0][:, 0]
    assert noise.std() == pytest.approx(5.0, rel=0.03)
    assert (noise[1:] * noise[:-1]).mean() / noise.var() == pytest.approx(0.8, abs=0.03)


def test_actions_stay_within_their_bounds():
    actor = policy(BOX, [-2.0, 0.0], [2.0, 1.0])
    exploring = exploring_by(actor, 5.0, 0.5, generator())
    taken = exploring(np.zeros((200, 3), np.float32))
    assert (taken >= [-2, 0]).all() and (taken <= [2, 1]).all()
    assert taken.min(0) == pytest.approx([-2, 0]) and taken.max(0) == pytest.approx([2, 1])


def test_choices_are_replaced_that_often_by_any():
    actor = policy(discrete(4), [0.0] * 4, [1.0] * 4)
    last = actor.network[-1]
    torch.nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([50.0, 0.0, 0.0, 0.0])
    taken = exploring_by(actor, 0.4, 0.8, generator())(np.zeros((20_000, 3), np.float32))
    shares = np.bincount(taken, minlength=4) / len(taken)
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.1, 0.1], atol=0.01)


def test_the_same_generator_gives_the_same():
    actor = policy(BOX, [-2.0, 0.0], [2.0, 1.0])
    states = np.ones((2, 3), np.float32)
    first, again = (exploring_by(actor, 0.3, 0.8, generator(4)) for _ in range(2))
    for _ in range(3):
        np.testing.assert_array_equal(first(states), again(states))
