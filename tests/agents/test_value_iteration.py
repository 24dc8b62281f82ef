"""Value iteration on sampled states against the same on a finite problem, written out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.rollout import Agent
from agents.value_iteration import Lookahead, iterate_values
from worldmodel.errors import ConfigError, ShapeError, SpecError

LINE = torch.arange(12.0).unsqueeze(1)
MOVES = torch.tensor([[-1.0], [0.0], [1.0]])


def on_a_line(rewards, samples=1, step=lambda state, action: state + action):
    def arrive(state, action):
        arrived = step(state, action)
        return arrived, ((arrived > -0.5) & (arrived < 11.5)).squeeze(1)

    return Lookahead(arrive, MOVES, LINE, rewards, samples)


def tabular(rewards, discount, sweeps=3000):
    """Values as mean rewards per step; beyond the ends the least value is paid for ever."""
    values = rewards.copy()
    for _ in range(sweeps):
        ahead = (1 - discount) * rewards + discount * values
        padded = np.concatenate([[values.min()], ahead, [values.min()]])
        values = np.max([padded[:-2], padded[1:-1], padded[2:]], 0)
    return values


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.9])
def test_values_are_those_of_the_finite_problem(discount):
    rewards = torch.rand(12, generator=torch.Generator().manual_seed(3))
    solved = iterate_values(on_a_line(rewards), discount, tolerance=1e-6)
    # Ours are of arriving: the reward, and the best that follows it.
    follows = tabular(rewards.double().numpy(), discount)
    expected = (1 - discount) * rewards + discount * torch.tensor(follows).float()
    torch.testing.assert_close(solved.values, expected, atol=1e-4, rtol=1e-4)


def test_it_leaves_a_near_optimum_for_a_far_one():
    """Where a gradient would climb the small hill at 2, a patient agent crosses to 10."""
    rewards = torch.zeros(12)
    rewards[2], rewards[10] = 0.5, 1.0
    start = torch.tensor([[2.0], [1.0], [10.0], [11.0]])
    patient = iterate_values(on_a_line(rewards), 0.95)
    assert patient(start).squeeze(1).tolist() == [1, 1, 0, -1]
    hasty = iterate_values(on_a_line(rewards), 0.5)
    assert hasty(start).squeeze(1).tolist() == [0, 1, 0, -1]


def test_between_the_sampled_states_it_acts_as_at_the_nearest():
    rewards = torch.linspace(0, 1, 12)
    solved = iterate_values(on_a_line(rewards), 0.9)
    assert isinstance(solved, Agent)
    actions, _ = solved.predict(np.array([[3.4], [7.6], [10.9]], np.float32))
    assert actions.squeeze(1).tolist() == [1, 1, 0]


def test_who_leaves_the_support_is_paid_the_least():
    rewards = torch.zeros(12)
    rewards[11] = 1.0
    solved = iterate_values(on_a_line(rewards), 0.9)
    near, weights = solved.arrivals(torch.tensor([[11.0]]))
    assert weights.sum(2).squeeze(1).tolist() == pytest.approx([1, 1, 0], abs=1e-5)
    assert near.shape == (3, 1, 4)
    assert solved(torch.tensor([[11.0]])).item() == 0


def test_chance_is_averaged_over():
    """Moving right fails half of the time; values are those of going right nevertheless."""
    draws = torch.Generator().manual_seed(0)

    def slippery(state, action):
        slips = torch.rand(len(state), 1, generator=draws) < 0.5
        return torch.where(slips & (action > 0), state, state + action)

    rewards = torch.linspace(0, 1, 12)
    slipping = iterate_values(on_a_line(rewards, 100, slippery), 0.9).values
    expected = rewards
    for _ in range(200):
        onwards = torch.cat([expected[1:], expected[-1:]])
        expected = 0.1 * rewards + 0.9 * (expected + onwards) / 2
    torch.testing.assert_close(slipping, expected, atol=0.03, rtol=0)
    sure = iterate_values(on_a_line(rewards), 0.9).values
    assert (sure[:6] - slipping[:6] > 0.1).all()


def test_what_cannot_be_is_refused():
    rewards = torch.zeros(12)
    with pytest.raises(ConfigError, match=r"discount .* got 1"):
        iterate_values(on_a_line(rewards), 1.0)
    rewards[3] = torch.nan
    with pytest.raises(SpecError, match="finite"):
        iterate_values(on_a_line(rewards))
    few = replace(on_a_line(rewards), states=LINE[:3], values=rewards[:3])
    with pytest.raises(ShapeError, match="got 3"):
        iterate_values(few)
