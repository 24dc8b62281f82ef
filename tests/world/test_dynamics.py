import pytest
import torch

from worldmodel.errors import SpecError
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.world import resolve


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_step_is_the_model_and_nothing_else(world):
    state, action, noise = torch.randn(5, 2) * 0.2, torch.rand(5, 1), torch.randn(5, 2) * 0.1
    step = Dynamics(world).step(state, action, noise)
    torch.testing.assert_close(step.next_state, world.transition(state, action, noise))
    torch.testing.assert_close(
        step.reward, world.model.reward(state, action, step.next_state).clamp_max(0)
    )
    assert step.inside.all() and not step.terminated.any()


def test_gradients_flow_through_many_steps(world):
    dynamics = Dynamics(world)
    action = torch.zeros(3, 1, requires_grad=True)
    state, total = torch.full((3, 2), 0.3), 0.0
    for _ in range(5):
        step = dynamics.step(state, action, torch.zeros(3, 2))
        state, total = step.next_state, total + step.reward.sum()
    (gradient,) = torch.autograd.grad(total, action)
    assert (gradient.abs() > 0.01).all()


def test_leaving_the_support_pays_the_worst_recorded_reward(world):
    dynamics = Dynamics(world)
    step = dynamics.step(torch.tensor([[50.0, 0.0], [0.1, 0.0]]), torch.zeros(2, 1), None)
    assert step.inside.tolist() == [False, True]
    assert step.reward.tolist() == pytest.approx([-4.0, -0.01], abs=1e-5)


def test_leaving_the_support_pays_nothing_where_every_recorded_reward_is_positive(world):
    world.model.reward_range = 1.0, 3.0
    step = Dynamics(world).step(torch.tensor([[50.0, 0.0], [0.1, 0.0]]), torch.zeros(2, 1), None)
    assert step.inside.tolist() == [False, True]
    assert step.reward.tolist() == [0.0, 1.0]


def test_without_a_recorded_range_leaving_never_pays(world):
    world.model.reward_range = -torch.inf, torch.inf
    world.model.reward = lambda state, action, next_state: next_state[:, 0]
    step = Dynamics(world).step(
        torch.tensor([[50.0, 0.0], [-50.0, 0.0], [0.5, 0.0]]), torch.zeros(3, 1), None
    )
    cosine = torch.tensor(0.3).cos().item()
    assert step.reward.tolist() == pytest.approx([0.0, -50 * cosine, 0.5 * cosine])


def test_rewards_are_clipped_to_what_was_recorded(world):
    world.model.reward = lambda state, action, next_state: 100 * next_state[:, 0]
    state = torch.tensor([[0.5, 0.0], [-0.5, 0.0]])
    assert Dynamics(world).step(state, torch.zeros(2, 1), None).reward.tolist() == [0.0, -4.0]


def test_termination_needs_a_trained_head(world):
    state = torch.tensor([[1.6, 0.0], [1.0, 0.0]])
    assert Dynamics(world).step(state, torch.zeros(2, 1), None).terminated.tolist() == [True, False]
    world.model.can_terminate = False
    assert not Dynamics(world).step(state, torch.zeros(2, 1), None).terminated.any()


def test_episodes_begin_in_recorded_states_inside_the_support_that_are_no_ends(linear):
    world = linear(prior_scale=1e4)
    known = world.support.states.clone()
    world.support.states[:3] = torch.tensor([[50.0, 0.0], [1.6, 0.0], [0.5, 0.1]])
    assert world.termination(world.support.states[:3]).gt(0).tolist() == [True, True, False]
    states = Dynamics(world).reset(4000, generator())
    begun = {tuple(state) for state in states.tolist()}
    assert (50.0, 0.0) not in begun and (1.6, 0.0) not in begun
    assert tuple(world.support.states[2].tolist()) in begun
    assert begun <= {tuple(state) for state in world.support.states.tolist()}
    assert len(begun & {tuple(state) for state in known.tolist()}) > 0.5 * len(known)


def test_where_no_data_are_known_episodes_begin_as_the_prior_says(linear):
    world = linear(support=None)
    expected = world.model.initial_prior(9, generator(3))
    torch.testing.assert_close(Dynamics(world).reset(9, generator(3)), expected)


def test_reset_repeats_under_the_same_seed(world):
    dynamics = Dynamics(world)
    assert torch.equal(dynamics.reset(9, generator(3)), dynamics.reset(9, generator(3)))
    assert not torch.equal(dynamics.reset(9, generator(3)), dynamics.reset(9, generator(4)))


def test_the_model_is_put_into_evaluation_mode(world):
    world.model.train()
    assert not Dynamics(world).model.training


def test_an_unfitted_support_has_no_box(linear):
    with pytest.raises(SpecError, match="fit it first"):
        latent_box(linear(support=None))


def test_missing_checkpoint_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        resolve(str(tmp_path / "nowhere"))
