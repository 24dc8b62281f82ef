import pytest
import torch
from small import BOX, PIXELS, generator, random_batch, tiny_config, tiny_model

from worldmodel.errors import ConfigError
from worldmodel.models.bounded import Bounded
from worldmodel.models.transition import LocallyLinear
from worldmodel.world.world import World


@pytest.fixture
def inner():
    return LocallyLinear(3, 2, 3, 4, 8, 0.5, 0.0, "factorial", 0.05, generator())


def test_states_are_cut_off_at_the_bound_and_otherwise_as_they_were(inner):
    state, action = torch.randn(200, 3, generator=generator(1)), torch.zeros(200, 2)
    noise = torch.zeros(200, 3)
    free, bounded = inner(state, action, noise), Bounded(inner, 0.5)(state, action, noise)
    inside = free.abs() <= 0.5
    assert inside.any() and not inside.all()
    assert torch.equal(bounded[inside], free[inside])
    assert torch.equal(bounded[~inside], 0.5 * free[~inside].sign())


def test_weights_and_gain_are_the_inner_ones(inner):
    state, action = torch.randn(5, 3), torch.randn(5, 2)
    bounded, weights = Bounded(inner, 0.5), inner.draw(generator())
    assert torch.equal(bounded.draw(generator()), weights)
    assert torch.equal(bounded.gain(state, action, weights), inner.gain(state, action, weights))
    assert torch.equal(bounded.weight_kl(), inner.weight_kl())


def test_a_state_that_is_stretched_is_held_in_training_filter_and_dream():
    model = tiny_model(PIXELS, BOX, bound=3.0)
    with torch.no_grad():
        model.transition_model.inner.mean.mul_(1e4)
    batch = random_batch(PIXELS, BOX)
    terms = model.terms(batch, generator())
    terms.distortion.sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(g).all() for g in gradients)
    beliefs = model.filter_beliefs(batch.observations, batch.actions).mean
    dream = World(model).rollout(beliefs[:, 0], batch.actions, generator())
    for states in (terms.states, beliefs, dream):
        assert (states[:, 1:].abs() <= 3).all()


@pytest.mark.parametrize("bound", [-1.0, float("inf"), float("nan")])
def test_a_senseless_bound_is_refused(bound):
    with pytest.raises(ConfigError, match="bound must be finite and >= 0, got"):
        tiny_config(bound=bound)
