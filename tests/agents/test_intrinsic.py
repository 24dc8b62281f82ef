"""What is paid for beside the task: against where the data are, and against the estimator."""

import numpy as np
import pytest
import torch
from linear_model import LinearModel, fit_support
from small import discrete, generator

from agents.empowerment import GaussianEmpowerment, dynamics_of
from agents.intrinsic import (
    Disagreement,
    empowerment,
    seeking,
    silent,
    usual_reward,
    with_bonus,
)
from worldmodel.data import from_episodes
from worldmodel.errors import SpecError
from worldmodel.world.dynamics import Dynamics, SupportRule
from worldmodel.world.members import Transitions, filtered_transitions


def transitions(n=600):
    g = generator(2)
    states = torch.rand(n, 2, generator=g) - 1  # in the lower left quadrant
    actions = 2 * torch.rand(n, 1, generator=g) - 1
    return Transitions(states, actions, LinearModel().transition(states, actions).detach())


@pytest.fixture(scope="module")
def disagreement():
    return Disagreement(transitions(), 300, 0)


def asked(centre, n=200):
    return torch.tensor(centre) + 0.2 * torch.randn(n, 2, generator=generator(4))


def test_it_is_about_one_on_the_data_and_much_more_elsewhere(disagreement):
    still = torch.zeros(200, 1)
    near = disagreement(asked([-0.5, -0.5]), still, still).mean()
    far = disagreement(asked([3.0, 3.0]), still, still).mean()
    assert 0.5 < near < 2 and far > 4 * near


def test_it_grows_with_the_distance_and_has_a_finite_gradient(disagreement):
    states = torch.tensor([[-0.5, -0.5], [1.0, 1.0], [3.0, 3.0]], requires_grad=True)
    told = disagreement(states, torch.zeros(3, 1), states)
    assert told[0] < told[1] < told[2]
    told.sum().backward()
    assert states.grad is not None and states.grad.isfinite().all() and states.grad[1].norm() > 0


def test_the_same_seed_gives_the_same():
    inputs = asked([0.0, 0.0], 5), torch.zeros(5, 1), asked([0.0, 0.0], 5)
    first, again, other = (Disagreement(transitions(50), 10, s)(*inputs) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_what_never_varies_is_no_news():
    known = transitions(100)
    held = Transitions(
        torch.cat([known.states, torch.ones(100, 1)], 1),
        known.actions,
        torch.cat([known.next_states, torch.ones(100, 1)], 1),
    )
    assert Disagreement(held, 20, 0)(held.states, held.actions, held.next_states).isfinite().all()


def episodes(model, lengths=(6, 4)):
    rng = np.random.default_rng(0)
    shape = model.observation_spec.space().shape
    dataset = from_episodes(
        [
            {
                "observations": rng.integers(0, 255, (n + 1, *shape), np.uint8),
                "actions": rng.uniform(-1, 1, (n, 1)).astype(np.float32),
                "rewards": np.zeros(n, np.float32),
            }
            for n in lengths
        ],
        observation_space=model.observation_spec.space(),
        action_space=model.action_spec.space(),
    )
    return dataset.train.padded()


def test_empowerment_is_that_of_the_state_arrived_at(world):
    bonus = empowerment(world, 0)
    states = world.support.states[:100]
    told = bonus(torch.zeros(100, 2), torch.zeros(100, 1), states)
    nats = GaussianEmpowerment(dynamics_of(world), 10)(states).detach()
    spread = nats.std()
    if spread > 1e-3:
        assert np.corrcoef(told, nats)[0, 1] > 0.9
    assert (told > -1).all()


def test_of_choices_there_is_no_empowerment():
    world = fit_support(LinearModel(action_spec=discrete(3)), 0.7)
    batch = episodes(LinearModel())
    with pytest.raises(SpecError, match="Box actions"):
        seeking("empowerment", world, batch, 1.0, 0)


def test_nothing_is_added_for_nothing(world):
    assert seeking("none", world, episodes(world.model), 1.0, 0) is None
    assert seeking("empowerment", world, episodes(world.model), 0.0, 0) is None


def test_the_bonus_is_added_in_units_of_the_reward_and_has_a_limit(world):
    states, actions = asked([0.0, 0.0], 4), torch.zeros(4, 1)
    told = torch.tensor([0.0, 2.0, 1e6, -3.0])
    goal = with_bonus(world, lambda state, action, following: told, 0.5, 0.1)
    step = Dynamics(world, SupportRule(radius=torch.inf), goal).step(states, actions, None)
    plain = Dynamics(world, SupportRule(radius=torch.inf)).step(states, actions, None)
    added = (step.reward - plain.reward).detach()
    torch.testing.assert_close(added, torch.tensor([0.0, 0.1, 0.5, 0.0]))


def test_rewards_vary_as_usual_though_one_is_rare(world):
    batch = episodes(world.model)
    batch.rewards[batch.mask] = torch.tensor([0.0, 1.0] * 5)
    assert usual_reward(batch) == pytest.approx(0.5)
    batch.rewards[batch.mask] = 3.0
    assert usual_reward(batch) == pytest.approx(3.0), "nothing varies: their size"
    batch.rewards[batch.mask] = 0.0
    assert usual_reward(batch) == 1.0


def test_rewards_that_never_vary_and_episodes_that_never_end_tell_nothing(world):
    batch = episodes(world.model, (4,) * 8)
    batch.rewards[:] = -1.0
    assert silent(batch)
    batch.rewards[:4, 2] = 0.0
    assert silent(batch), "four of them may be chance"
    batch.rewards[4, 1] = 0.0
    assert not silent(batch)
    batch.rewards[:] = 1.0
    batch.terminated[:, -1] = True
    assert not silent(batch)


def test_rewards_that_vary_in_every_episode_tell_however_few_these_are(world):
    batch = episodes(world.model, (4,) * 8)[:3]
    batch.terminated[:] = False
    batch.rewards[:] = torch.arange(12.0).reshape(3, 4)
    assert not silent(batch)
    batch.rewards[0] = batch.rewards.median()
    assert silent(batch)


def test_transitions_are_what_the_filter_believed(world):
    batch = episodes(world.model)
    known = filtered_transitions(world.model, batch)
    means = world.model.filter_beliefs(batch.observations, batch.actions, 1).mean
    assert len(known.states) == 10
    expected = torch.cat([means[i, :n] for i, n in enumerate(batch.mask.sum(1).tolist())])
    torch.testing.assert_close(known.states, expected)
