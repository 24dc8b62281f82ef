"""The terms of the bound: what they are, and what must not have an influence on them."""

import pytest
import torch
from small import (
    BOX,
    PIXELS,
    VECTOR,
    generator,
    random_batch,
    tiny_config,
    tiny_model,
    with_fields,
)
from torch.distributions import Normal, kl_divergence

from worldmodel.errors import ConfigError
from worldmodel.types import Batch

PER_FRAME = ("distortion", "reconstruction", "calibration", "rate", "entropy", "observed")
PER_STEP = ("reward", "termination")


@pytest.fixture(params=[PIXELS, VECTOR], ids=["pixels", "vector"])
def case(request):
    model, batch = tiny_model(request.param, BOX), random_batch(request.param, BOX)
    model.calibrate(batch)
    return model, batch


def cut_at(batch, frame):
    """Observed before ``frame`` only, in every second sequence."""
    observed = torch.ones(len(batch), batch.steps + 1, dtype=torch.bool)
    observed[::2, frame:] = False
    return observed


def garbage_after(batch: Batch, steps: int, seed: int = 9) -> Batch:
    """The same episodes, whose frames, actions and rewards after ``steps`` are others'."""
    other = random_batch(PIXELS if batch.observations.ndim > 3 else VECTOR, BOX, seed=seed)
    changes = {}
    for name, value in batch.items():
        keep = steps + (name in ("observations", "states"))
        changes[name] = torch.cat([value[:, :keep], getattr(other, name)[:, keep:]], 1)
    return with_fields(batch, **changes)


def test_terms_are_those_of_the_distributions(case):
    model, batch = case
    terms = model.terms(batch, generator())
    frames = model.scale_observations(batch.observations)
    emission = model.emit(terms.states)
    natural = emission.log_prob(frames).sum(-1) - model.codec.log_volume
    torch.testing.assert_close(terms.reconstruction, natural, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(terms.calibration, terms.reconstruction + model.codec.log_volume)
    squared = (frames - emission.mean).square().sum(-1)
    torch.testing.assert_close(terms.distortion, squared, atol=1e-4, rtol=1e-4)
    of_the_mean = (frames - frames.flatten(0, 1).mean(0)).square().sum(-1).mean()
    assert terms.weight == pytest.approx(of_the_mean.item(), rel=1e-4)
    assert (terms.rate > 0).all()


def test_rewards_and_endings_are_judged_on_arrival(case):
    model, batch = case
    terms = model.terms(batch, generator())
    before, after = terms.states[:, :-1], terms.states[:, 1:]
    head, rewards = model.reward_head, batch.rewards
    normal = Normal(model.reward(before, batch.actions, after), head.std * head.log_scale.exp())
    # What the last step of an episode pays is not the head's to learn.
    expected = (normal.log_prob(rewards) + head.std.log()) * ~batch.terminated
    torch.testing.assert_close(terms.reward, expected, atol=1e-4, rtol=1e-4)
    chance = model.termination(after).sigmoid()
    expected = torch.where(batch.terminated, chance, 1 - chance).log()
    torch.testing.assert_close(terms.termination, expected, atol=1e-4, rtol=1e-4)


def test_without_a_termination_in_the_data_its_term_is_zero(case):
    model, batch = case
    batch = with_fields(batch, terminated=torch.zeros_like(batch.terminated))
    model.calibrate(batch)
    assert not model.can_terminate
    assert (model.terms(batch, generator()).termination == 0).all()


def test_unobserved_frames_cost_nothing_and_tell_nothing(case):
    model, batch = case
    observed = cut_at(batch, 3)
    terms = model.terms(batch, generator(), observed, prefix=1)
    assert (terms.rate[~observed] == 0).all() and (terms.entropy[~observed] == 0).all()
    assert (terms.rate[observed] > 0).all()
    assert torch.equal(terms.observed, observed)
    frames = batch.observations.clone()
    frames[~observed] = random_batch(model.observation_spec, BOX, seed=4).observations[~observed]
    changed = model.terms(with_fields(batch, observations=frames), generator(), observed, prefix=1)
    assert torch.equal(changed.states, terms.states)
    assert torch.equal(changed.rate, terms.rate)
    assert not torch.equal(changed.reconstruction, terms.reconstruction)


def test_unobserved_noise_is_the_prior(case):
    model, batch = case
    batch = with_fields(batch, **{n: v[:1].repeat_interleave(4000, 0) for n, v in batch.items()})
    observed = torch.zeros(4000, batch.steps + 1, dtype=torch.bool)
    observed[:, 0] = True
    with torch.no_grad():
        model.transition_model.log_scale.fill_(-30)
        states = model.terms(batch, generator(), observed).states
        last, action = states[:, 0], batch.actions[:, 0]
        still = model.transition(last, action)
        units = [model.transition(last, action, e.expand_as(last)) - still for e in torch.eye(3)]
        noise = torch.linalg.solve(torch.stack(units, 2), (states[:, 1] - still).unsqueeze(2))
    assert noise.mean(0).abs().max() < 4.5 / 4000**0.5
    torch.testing.assert_close(noise.squeeze(2).T.cov(), torch.eye(3), atol=0.1, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_unobserved_frames_cost_how_far_their_noise_is_from_the_prior(case, scale):
    model, batch = case
    mask = (torch.arange(batch.steps) < 4).expand_as(batch.mask).clone()
    padded, observed = with_fields(batch, mask=mask), cut_at(batch, 2)
    terms = model.terms(padded, generator(), observed, unobserved_scale=scale)
    unobserved = padded.frame_mask & ~observed
    narrow, prior = Normal(0.0, torch.full((3,), scale)), Normal(0.0, torch.ones(3))
    expected = kl_divergence(narrow, prior).sum()
    paid = terms.rate[unobserved]
    torch.testing.assert_close(paid, expected.expand_as(paid), atol=1e-6, rtol=1e-5)
    assert (expected == 0) == (scale == 1)
    assert len(paid) and (terms.rate[~padded.frame_mask] == 0).all()
    whole = model.terms(padded, generator(), observed)
    assert torch.equal(terms.rate[:, :2], whole.rate[:, :2]), "observed frames pay as ever"


def test_a_narrower_draw_scales_the_noise_of_unobserved_frames(case):
    model, batch = case
    observed = cut_at(batch, 0)
    scales = (1.0, 0.5, 0.25)
    drawn = [model.terms(batch, generator(), observed, unobserved_scale=s).states for s in scales]
    for scale, states in zip(scales, drawn, strict=True):
        torch.testing.assert_close(states[::2, 0], scale * drawn[0][::2, 0])
        assert torch.equal(states[1::2], drawn[0][1::2]), "sequences that are observed stay"
    with torch.no_grad():
        model.transition_model.log_scale.fill_(-30)
    cut = cut_at(batch, 1)
    states = [model.terms(batch, generator(), cut, unobserved_scale=s).states for s in scales]
    still = model.transition(states[0][::2, 0], batch.actions[::2, 0])
    moved = [s[::2, 1] - still for s in states]
    for scale, step in zip(scales, moved, strict=True):
        torch.testing.assert_close(step, scale * moved[0], atol=1e-5, rtol=1e-4)


def test_a_first_frame_that_is_unobserved_is_drawn_from_the_prior(case):
    model, batch = case
    observed = torch.zeros(len(batch), batch.steps + 1, dtype=torch.bool)
    terms = model.terms(batch, generator(), observed)
    assert (terms.rate == 0).all()
    frames = random_batch(model.observation_spec, BOX, seed=4).observations
    changed = model.terms(with_fields(batch, observations=frames), generator(), observed)
    assert torch.equal(changed.states, terms.states)


def test_filtering_sees_no_further_than_the_frame_it_arrives_at(case):
    model, batch = case
    terms = model.terms(batch, generator(), prefix=1)
    beliefs = model.filter_beliefs(batch.observations, batch.actions)
    for t in range(batch.steps):
        later = garbage_after(batch, t)
        changed = model.terms(later, generator(), prefix=1).states
        assert torch.equal(changed[:, : t + 1], terms.states[:, : t + 1])
        assert not torch.equal(changed[:, t + 1], terms.states[:, t + 1])
        mean = model.filter_beliefs(later.observations, later.actions).mean
        assert torch.equal(mean[:, : t + 1], beliefs.mean[:, : t + 1])
        assert not torch.equal(mean[:, t + 1], beliefs.mean[:, t + 1])


def owners(model):
    """Names of the parts that have received a gradient."""
    return {
        name.split(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }


def test_calibration_moves_the_emissions_scale_alone(case):
    model, batch = case
    model.terms(batch, generator()).calibration.sum().backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == {"emission.log_scale"}


def test_the_bound_reaches_every_other_part(case):
    model, batch = case
    terms = model.terms(batch, generator())
    (terms.rate - terms.reconstruction).sum().backward()
    expected = {"initial_network", "recognition", "transition_model", "emission"}
    assert owners(model) == expected


def test_one_generator_rules_every_draw(case):
    model, batch = case
    torch.manual_seed(1)
    untouched = torch.get_rng_state()
    first = model.terms(batch, generator(5), cut_at(batch, 2))
    assert torch.equal(torch.get_rng_state(), untouched)
    torch.manual_seed(2)
    second = model.terms(batch, generator(5), cut_at(batch, 2))
    third = model.terms(batch, generator(6), cut_at(batch, 2))
    assert torch.equal(first.states, second.states) and torch.equal(first.rate, second.rate)
    assert not torch.equal(first.states, third.states)


def test_a_constant_component_does_not_blow_up_what_little_it_varies():
    model, batch = tiny_model(), random_batch()
    batch.observations[..., 1] = 5.0
    model.calibrate(batch)
    new = batch.observations[:1].clone()
    new[..., 1] += 0.01
    assert model.scale_observations(new).abs().max() < 10
    restored = model.unscale_observations(model.scale_observations(new))
    torch.testing.assert_close(restored, new)


def test_vectors_are_standardised_over_recorded_frames_only():
    model, batch = tiny_model(), random_batch(size=50)
    mask = (torch.arange(batch.steps) < 3).expand_as(batch.mask).clone()
    padded = with_fields(garbage_after_all(batch), mask=mask)
    model.calibrate(padded)
    scaled = model.scale_observations(batch.observations)[:, :4].flatten(0, 1)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)


def garbage_after_all(batch):
    frames = batch.observations.clone()
    frames[:, 4:] = 1e6
    rewards = batch.rewards.clone()
    rewards[:, 3:] = -1e6
    return with_fields(batch, observations=frames, rewards=rewards)


def test_reward_range_and_endings_come_from_recorded_steps_only():
    model, batch = tiny_model(), random_batch(size=50)
    mask = (torch.arange(batch.steps) < 3).expand_as(batch.mask).clone()
    ended = torch.zeros_like(batch.terminated)
    ended[:, 3:] = True
    model.calibrate(with_fields(garbage_after_all(batch), mask=mask, terminated=ended))
    recorded = batch.rewards[:, :3]
    assert model.reward_range == pytest.approx((recorded.min().item(), recorded.max().item()))
    assert not model.can_terminate


def test_the_emission_sees_the_visible_dimensions_alone():
    model = tiny_model(PIXELS, BOX, visible_size=2)
    state = torch.randn(4, 3, generator=generator())
    hidden, visible = state.clone(), state.clone()
    hidden[:, 2] += 1
    visible[:, 1] += 1
    assert torch.equal(model.emit(state).mean, model.emit(hidden).mean)
    assert not torch.equal(model.emit(state).mean, model.emit(visible).mean)
    assert torch.isfinite(model.terms(random_batch(PIXELS, BOX), generator()).distortion).all()


@pytest.mark.parametrize("size", [0, 4, -1])
def test_a_number_of_visible_dimensions_that_cannot_be_is_refused(size):
    with pytest.raises(ConfigError, match=f"from 1 to latent_size 3, got {size}"):
        tiny_config(visible_size=size)
