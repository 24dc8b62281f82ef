"""Embed to Control: its loss as published, and what it can know of a first frame."""

import pytest
import torch
from small import BOX, PIXELS, VECTOR, generator, random_batch, small_model, with_fields
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from worldmodel.errors import ConfigError
from worldmodel.models.e2c import E2CConfig
from worldmodel.models.networks import kl_to_diagonal


@pytest.fixture(params=[PIXELS, VECTOR], ids=["pixels", "vector"])
def case(request):
    model, batch = small_model("e2c", request.param, BOX), random_batch(request.param, BOX)
    model.calibrate(batch)
    return model, batch


def cut(batch, frame):
    return (torch.arange(batch.steps + 1) < frame).expand(len(batch), -1)


def encoded(model, batch):
    return model.encode(model.encoder(model.scale_observations(batch.observations)))


def test_the_kl_to_a_diagonal_is_the_kl():
    g = generator()
    root = torch.randn(5, 3, 3, generator=g)
    covariance = root @ root.mT + 0.1 * torch.eye(3)
    mean, other, scale = (torch.randn(5, 3, generator=g) for _ in range(3))
    scale = scale.abs() + 0.1
    expected = kl_divergence(
        MultivariateNormal(mean, covariance), MultivariateNormal(other, torch.diag_embed(scale**2))
    )
    torch.testing.assert_close(kl_to_diagonal(mean, covariance, other, scale), expected)


def test_its_step_is_affine_about_a_state_with_the_matrix_that_it_names(case):
    model, batch = case
    states, controls = model.terms(batch, generator()).states[:, 1], batch.actions[:, 1]
    step = model.transition_model(states, controls)
    jacobian = torch.autograd.functional.jacobian(
        lambda z: model.transition_model(z, controls, about=states).mean.sum(0), states
    )
    torch.testing.assert_close(jacobian.movedim(1, 0), step.matrix)
    ranks = torch.linalg.matrix_rank(step.matrix - torch.eye(3), tol=1e-5)
    assert (ranks == 1).all()


def test_its_rate_is_the_published_one_over_four(case):
    model, batch = case
    terms = model.terms(batch, generator())
    means, scales = encoded(model, batch)
    prior = kl_divergence(Normal(means, scales), Normal(0.0, 1.0)).sum(-1)
    controls = model._scale_actions(batch.actions)[:, 1:]
    about = terms.states[:, 1:-1]
    step = model.transition_model(means[:, :-1], controls, about=about)
    noise = torch.diag(model.transition_model.scale**2)
    wide = step.matrix @ torch.diag_embed(scales[:, :-1] ** 2) @ step.matrix.mT + noise
    apart = kl_divergence(
        MultivariateNormal(step.mean, wide),
        MultivariateNormal(means[:, 1:], torch.diag_embed(scales[:, 1:] ** 2)),
    )
    torch.testing.assert_close(4 * terms.rate[:, 1], prior[:, 0], atol=1e-4, rtol=1e-4)
    expected = prior[:, 1:] + 0.25 * apart
    torch.testing.assert_close(4 * terms.rate[:, 2:], expected, atol=1e-3, rtol=1e-3)


def test_its_reconstruction_is_the_mean_of_four(case):
    """With a transition that is exact and all but still, both codes are the same."""
    model, batch = case
    with torch.no_grad():
        for parameter in model.transition_model.network.parameters():
            parameter.zero_()
        model.transition_model.log_scale.fill_(-20)
    still = with_fields(batch, observations=batch.observations[:, :1].expand_as(batch.observations))
    terms = model.terms(still, generator())
    frames = model.scale_observations(still.observations)
    own = [
        decoder(terms.states[:, 1:]).log_prob(frames[:, 1:]).sum(-1)
        for decoder in (model.emission, model.past)
    ]
    mean = sum(own) / 2 - model.codec.log_volume
    torch.testing.assert_close(terms.reconstruction[:, 1], mean[:, 0], atol=1e-3, rtol=1e-4)
    # The prediction of a still transition is the code of the frame before.
    both = (mean[:, 1:] + mean[:, :-1]) / 2
    torch.testing.assert_close(terms.reconstruction[:, 2:], both, atol=1e-2, rtol=1e-3)


def test_a_first_frame_is_context_alone_and_later_ones_see_one_frame_back(case):
    model, batch = case
    terms = model.terms(batch, generator())
    assert not terms.frame_mask[:, 0].any() and terms.frame_mask[:, 1:].all()
    for name in ("distortion", "reconstruction", "rate", "entropy", "filtering"):
        assert (getattr(terms, name)[:, 0] == 0).all(), name
    frames = batch.observations.clone()
    frames[:, 4:] = random_batch(model.observation_spec, BOX, seed=4).observations[:, 4:]
    changed = model.terms(with_fields(batch, observations=frames), generator(), prefix=1)
    kept = model.terms(batch, generator(), prefix=1)
    assert torch.equal(changed.states[:, :4], kept.states[:, :4])
    assert not torch.equal(changed.states[:, 4], kept.states[:, 4])


def test_unobserved_states_follow_the_transition_and_tell_nothing(case):
    model, batch = case
    observed = cut(batch, 3)
    with torch.no_grad():
        model.transition_model.log_scale.fill_(-20)
    terms = model.terms(batch, generator(), observed)
    moved = model.transition(terms.states[:, 2], batch.actions[:, 2])
    torch.testing.assert_close(terms.states[:, 3], moved)
    assert (terms.rate[:, 3:] == 0).all() and (terms.entropy[:, 3:] == 0).all()
    frames = batch.observations.clone()
    frames[:, 3:] = random_batch(model.observation_spec, BOX, seed=4).observations[:, 3:]
    changed = model.terms(with_fields(batch, observations=frames), generator(), observed, prefix=1)
    torch.testing.assert_close(changed.states[:, 1:], terms.states[:, 1:])


def test_a_single_step_and_a_single_stack_will_do(case):
    model, batch = case
    terms = model.terms(batch.window(0, 1), generator())
    assert terms.rate.shape == (len(batch), 2) and torch.isfinite(terms.reconstruction).all()


def test_it_does_not_claim_a_bound(case):
    model, _ = case
    assert not model.is_bound


@pytest.mark.parametrize("setting", [{"latent_size": 0}, {"consistency": 0.0}])
def test_settings_that_cannot_be_are_refused(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        E2CConfig(**setting)
