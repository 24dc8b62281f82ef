"""What is the recurrent model's own; what it shares with all others is tested in contracts/."""

import math

import pytest
import torch
from small import BOX, PIXELS, VECTOR, generator, random_batch, small_model, with_fields
from torch.distributions import Independent, Normal, OneHotCategorical, kl_divergence

from worldmodel.errors import ConfigError
from worldmodel.models.rssm import RSSM, RSSMConfig
from worldmodel.models.stochastic import LEAST, CategoricalLatents, GaussianLatents
from worldmodel.types import Belief
from worldmodel.world.world import World

KINDS = ["gaussian", "categorical"]


def recurrent(stochastic="gaussian", observations=VECTOR, **changes):
    model = small_model("rssm", observations, stochastic=stochastic, **changes)
    batch = random_batch(observations)
    model.calibrate(batch)
    return model, batch


def h_of(model, states):
    return states[..., : model.config.deterministic_size]


def z_of(model, states):
    return states[..., model.config.deterministic_size :]


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_of_z_alone_and_h_follows_from_the_state_before(kind):
    model, batch = recurrent(kind)
    assert model.noise_size == model.latent_size - model.config.deterministic_size
    state, action = model.initial_prior(5, generator()), batch.actions[:, 0]
    noise = torch.randn(2, 5, model.noise_size, generator=generator(1))
    one, other = (model.transition(state, action, w) for w in noise)
    assert torch.equal(h_of(model, one), h_of(model, other))
    assert not torch.equal(z_of(model, one), z_of(model, other))
    assert not torch.equal(h_of(model, one), h_of(model, state))
    assert (h_of(model, one).abs() < 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_belief_knows_h_and_doubts_z(kind):
    model, batch = recurrent(kind)
    belief = model.initial(batch.observations[:, :1], batch.actions[:, :0])
    for step in (model.predict, lambda b, a: model.update(b, a, batch.observations[:, 1])):
        after = step(belief, batch.actions[:, 0])
        assert (h_of(model, after.scale) == 0).all() and (z_of(model, after.scale) > 0).all()


def test_without_a_frame_the_belief_is_the_dreams():
    """Mean and spread of many dreams of the next z, of which a prediction is the distribution."""
    model, batch = recurrent()
    belief = model.initial(batch.observations[:1, :1], batch.actions[:1, :0])
    predicted = model.predict(belief, batch.actions[:1, 0])
    noise = torch.randn(20_000, model.noise_size, generator=generator(2))
    start, action = belief.mean.repeat(20_000, 1), batch.actions[:1, 0].repeat(20_000, 1)
    dreams = model.transition(start, action, noise)
    torch.testing.assert_close(dreams.mean(0), predicted.mean[0], atol=0.03, rtol=0.03)
    torch.testing.assert_close(
        z_of(model, dreams).std(0), z_of(model, predicted.scale)[0], atol=0.03, rtol=0.03
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_terms_are_those_of_the_paper_step_by_step(kind):
    """From the filter's own functions, and the library's distributions."""
    model, batch = recurrent(kind)
    model.double()
    terms = model.terms(batch, generator(), prefix=1)
    states, frames = terms.states, model.scale_observations(batch.observations)
    controls, part = model._scale_actions(batch.actions), model.recurrence
    h = h_of(model, states)
    for t in range(batch.steps):
        reached = part.step(h[:, t], z_of(model, states[:, t]), controls[:, t])
        torch.testing.assert_close(reached, h[:, t + 1])
    posterior = part.infer(
        part.context(model.encoder(frames[:, 1:])).flatten(0, 1), h[:, 1:].flatten(0, 1)
    )
    pair = (distribution(model, raw) for raw in (posterior, part.prior(h[:, 1:].flatten(0, 1))))
    torch.testing.assert_close(
        kl_divergence(*pair).unflatten(0, (len(batch), -1)), terms.rate[:, 1:]
    )
    expected = model.emit(states).log_prob(frames).sum(-1) - model.codec.log_volume
    torch.testing.assert_close(terms.reconstruction, expected)


def distribution(model, raw):
    c = model.config
    if c.stochastic == "gaussian":
        mean, spread = raw.chunk(2, -1)
        scale = torch.nn.functional.softplus(spread) + 1e-4 + LEAST
        return Independent(Normal(mean, scale), 1)
    logits = raw.unflatten(-1, (c.stochastic_size, c.classes))
    return Independent(OneHotCategorical(logits=logits), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_unseen_frames_have_no_influence_and_cost_nothing(kind):
    model, batch = recurrent(kind)
    seen = torch.ones(len(batch), batch.steps + 1, dtype=torch.bool)
    seen[:, 3] = False
    wild = batch.observations.clone()
    wild[:, 3] = torch.nan
    ours, theirs = (
        model.terms(with_fields(batch, seen=seen, observations=o), generator())
        for o in (batch.observations, wild)
    )
    assert torch.equal(ours.states, theirs.states) and torch.equal(ours.rate, theirs.rate)
    assert (ours.rate[:, 3] == 0).all() and (ours.rate[:, 4] > 0).all()


def test_what_is_not_looked_at_is_dreamt():
    model, batch = recurrent()
    observed = torch.ones(len(batch), batch.steps + 1, dtype=torch.bool)
    observed[:, 3:] = False
    terms = model.terms(batch, generator(), observed, unobserved_scale=1e-6)
    dreamt = World(model).rollout(terms.states[:, 2], batch.actions[:, 2:])
    torch.testing.assert_close(terms.states[:, 2:], dreamt, atol=1e-4, rtol=1e-4)


def test_a_categorical_draw_has_the_chances_of_its_logits():
    latents = CategoricalLatents(2, 3)
    raw = torch.tensor([[1.0, 0.0, -1.0, 0.0, 0.0, 2.0]])
    noise = torch.randn(50_000, 6, generator=generator())
    drawn = latents.draw(raw.expand(50_000, -1), noise)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert (drawn.unflatten(-1, (2, 3)).sum(-1) == 1).all()
    chance = raw.unflatten(-1, (2, 3)).softmax(-1).flatten(-2)
    torch.testing.assert_close(drawn.mean(0), chance[0], atol=0.01, rtol=0.0)
    torch.testing.assert_close(drawn.std(0), latents.scale(raw)[0], atol=0.01, rtol=0.0)
    likeliest = latents.draw(raw, None)
    assert likeliest.tolist() == [[1, 0, 0, 0, 0, 1]]
    assert torch.equal(likeliest, latents.draw(raw, torch.zeros(1, 6)))


def test_a_categorical_draws_gradient_is_that_of_its_chances():
    latents = CategoricalLatents(2, 3)
    raw = torch.randn(4, 6, generator=generator(), requires_grad=True)
    weights = torch.randn(4, 6, generator=generator(1))
    noise = torch.randn(4, 6, generator=generator(2))
    (ours,) = torch.autograd.grad((weights * latents.draw(raw, noise)).sum(), raw)
    chance = raw.unflatten(-1, (2, 3)).softmax(-1).flatten(-2)
    (expected,) = torch.autograd.grad((weights * chance).sum(), raw)
    torch.testing.assert_close(ours, expected)
    assert ours.abs().max() > 0.01


@pytest.mark.parametrize("latents", [GaussianLatents(3), CategoricalLatents(2, 3)], ids=KINDS)
def test_no_doubt_costs_nothing(latents):
    raw = torch.randn(5, latents.raw_size, generator=generator())
    assert latents.kl(raw, raw).abs().max() < 1e-6
    other = torch.randn(5, latents.raw_size, generator=generator(1))
    assert (latents.kl(raw, other) > 0).all()


def test_entropies_are_the_librarys():
    raw = torch.randn(5, 6, generator=generator())
    mean, spread = raw.chunk(2, -1)
    normal = Normal(mean, torch.nn.functional.softplus(spread) + 1e-4 + LEAST)
    torch.testing.assert_close(GaussianLatents(3).entropy(raw), normal.entropy().sum(-1))
    logits = OneHotCategorical(logits=raw.unflatten(-1, (2, 3)))
    torch.testing.assert_close(CategoricalLatents(2, 3).entropy(raw), logits.entropy().sum(-1))


def test_balance_shares_the_rates_gradient_between_prior_and_posterior():
    model, batch = recurrent()
    plain = gradients(model, batch, lambda terms: terms.rate)
    ends = [gradients(model, batch, lambda terms, f=f: terms.balance(f)) for f in (0.0, 1.0)]
    shared = gradients(model, batch, lambda terms: terms.balance(0.8))
    assert (ends[0]["prior.2.bias"] == 0).all() and plain["prior.2.bias"].abs().max() > 0
    assert all(end["posterior.bias"].abs().max() > 0 for end in ends)
    for name, whole in plain.items():
        to_posterior, to_prior = (end[name] for end in ends)
        close = dict(atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(to_prior + to_posterior, whole, **close)
        torch.testing.assert_close(shared[name], 0.8 * to_prior + 0.2 * to_posterior, **close)


def gradients(model, batch, rate):
    """Of the last frame's rate, which the posteriors before it have a part in as well."""
    terms = model.terms(batch, generator())
    torch.testing.assert_close(rate(terms), terms.rate)
    model.zero_grad()
    rate(terms)[:, -1].sum().backward()
    parts = {"prior.2.bias": model.recurrence.prior[2].bias}
    parts["posterior.bias"] = model.recurrence.posterior.bias
    return {name: weight.grad.clone() for name, weight in parts.items()}


def test_an_update_goes_on_from_the_mean():
    model, batch = recurrent(observations=PIXELS)
    belief = model.initial(batch.observations[:, :1], batch.actions[:, :0])
    doubtful = Belief(belief.mean, 2 * belief.scale)
    frame, action = batch.observations[:, 1], batch.actions[:, 0]
    ours, theirs = model.update(belief, action, frame), model.update(doubtful, action, frame)
    assert torch.equal(ours.mean, theirs.mean) and torch.equal(ours.scale, theirs.scale)


@pytest.mark.parametrize(
    "setting, said",
    [
        ({"deterministic_size": 0}, "deterministic_size must be at least 1, got 0"),
        ({"classes": 1}, "classes must be at least 2, got 1"),
    ],
)
def test_settings_that_make_no_model_are_refused(setting, said):
    with pytest.raises(ConfigError, match=said):
        RSSMConfig(**setting)


def test_the_latent_state_is_h_and_z():
    assert RSSMConfig(deterministic_size=20, stochastic_size=3).latent_size == 23
    config = RSSMConfig(20, "categorical", stochastic_size=3, classes=4)
    assert config.latent_size == 32 and RSSM(config, VECTOR, BOX).noise_size == 12
    assert math.isclose(LEAST, 0.1)
