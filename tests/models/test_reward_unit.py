"""A reward head whose unit grows says what it said before."""

import pytest
import torch
from small import generator

from worldmodel.models.reward import RewardHead


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = RewardHead(3, 1, 8)
    head.calibrate(torch.linspace(-1, 1, 50))
    head.log_scale.data.fill_(-0.7)
    return head


def drawn():
    g = generator()
    return torch.randn(20, 3, generator=g), torch.randn(20, 1, generator=g), torch.randn(20, 3)


def test_a_rare_reward_becomes_the_unit_and_predictions_stay(head):
    inputs, before = drawn(), head.std.clone()
    said = head(*inputs)
    density = head.log_prob(said, said + 0.2) - head.std.log()
    paid = torch.tensor([0.0] * 99 + [100.0])
    head.adapt(paid)
    assert head.std.item() == pytest.approx(paid.double().std(correction=0).item())
    assert head.std > before and head.max == 100
    torch.testing.assert_close(head(*inputs), said, rtol=1e-4, atol=1e-6)
    told = head.log_prob(said, said + 0.2) - head.std.log()
    torch.testing.assert_close(told, density, rtol=1e-3, atol=1e-4)


def test_what_varies_about_as_much_only_widens_the_range(head):
    before = head.std.clone()
    head.adapt(torch.tensor([-2.0, 2.0]))
    assert head.std == before and (head.min, head.max) == (-2, 2)


@pytest.mark.parametrize("unit", [1e-8, 1e-3, 1e6])
def test_rewards_of_any_unit_are_the_same_to_learn_from(unit):
    """Nothing tells cents from millions but the unit of what is foretold."""
    one, other = RewardHead(3, 2, 8), RewardHead(3, 2, 8)
    other.load_state_dict(one.state_dict())
    g = torch.Generator().manual_seed(0)
    rewards, inputs = torch.randn(300, generator=g), torch.randn(300, 8, generator=g).split(3, -1)
    state, after, action = inputs
    one.calibrate(rewards), other.calibrate(unit * rewards)
    told, scaled = one(state, action, after), other(state, action, after)
    torch.testing.assert_close(scaled / unit, told, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        other.log_prob(scaled, unit * rewards), one.log_prob(told, rewards), rtol=1e-4, atol=1e-4
    )
    assert other.std == pytest.approx(unit * one.std.item(), rel=1e-4)
