"""The Deep Kalman Filter: its rate, and what teaches its transition and its live filter."""

import pytest
import torch
from small import BOX, PIXELS, VECTOR, generator, random_batch, small_model
from torch.distributions import Normal, kl_divergence

from worldmodel.errors import ConfigError
from worldmodel.models.distilled import DistilledFilter
from worldmodel.models.dkf import DKFConfig
from worldmodel.world.world import World


@pytest.fixture(params=[PIXELS, VECTOR], ids=["pixels", "vector"])
def case(request):
    model, batch = small_model("dkf", request.param, BOX), random_batch(request.param, BOX)
    model.calibrate(batch)
    return model, batch


def cut(batch, frame):
    return (torch.arange(batch.steps + 1) < frame).expand(len(batch), -1)


def fed(model, term):
    """Names of the parts that a gradient of the term reaches."""
    model.zero_grad()
    term.sum().backward()
    return {
        name.split(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }


def test_its_rate_is_the_kl_from_the_transition_and_first_from_a_standard_normal(case):
    model, batch = case
    terms = model.terms(batch, generator())
    frames = model.encoder(model.scale_observations(batch.observations))
    controls = model._scale_actions(batch.actions)
    inferred = Normal(*model.smoother(frames, controls, batch.frame_mask))
    prior = Normal(*model.transition_model(terms.states[:, :-1], controls))
    later = Normal(inferred.mean[:, 1:], inferred.stddev[:, 1:])
    expected = kl_divergence(later, prior).sum(-1)
    torch.testing.assert_close(terms.rate[:, 1:], expected, atol=1e-4, rtol=1e-4)
    first = Normal(inferred.mean[:, 0], inferred.stddev[:, 0])
    start = kl_divergence(first, Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(terms.rate[:, 0], start, atol=1e-4, rtol=1e-4)


def test_its_states_are_drawn_from_the_smoother(case):
    model, batch = case
    with torch.no_grad():
        drawn = torch.stack([model.terms(batch, generator(i)).states for i in range(200)])
        frames = model.encoder(model.scale_observations(batch.observations))
        means, scales = model.smoother(
            frames, model._scale_actions(batch.actions), batch.frame_mask
        )
    off = (drawn.mean(0) - means) / scales * 200**0.5
    assert off.abs().max() < 4.5
    torch.testing.assert_close(drawn.std(0), scales, atol=0, rtol=0.25)


def test_no_reconstruction_teaches_the_transition_unless_frames_are_dropped(case):
    model, batch = case
    whole = model.terms(batch, generator()).reconstruction
    assert "transition_model" not in fed(model, whole)
    blind = model.terms(batch, generator(), cut(batch, 2)).reconstruction
    assert "transition_model" in fed(model, blind)
    assert "transition_model" in fed(model, model.terms(batch, generator()).rate)


def test_the_live_filter_is_taught_alone_and_teaches_nobody(case):
    model, batch = case
    terms = model.terms(batch, generator(), cut(batch, 4), prefix=2)
    assert (terms.filtering[:, 4:] == 0).all()
    assert fed(model, terms.filtering) == {"live"}


def test_a_distilled_filter_becomes_the_kalman_filter():
    """z' = 0.9 z + 0.5 u + 0.6 w, x = z + 0.8 e: states are samples of their own posterior."""
    steps, noise, process = 10, 0.8, 0.6
    torch.manual_seed(0)
    learned = DistilledFilter(1, 1, 1, hidden=32, recurrent=16)
    optimizer = torch.optim.Adam(learned.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    g = generator()

    def predict(state, action):
        return 0.9 * state + 0.5 * action

    def episodes(n):
        actions = torch.randn(n, steps, 1, generator=g)
        states = [torch.randn(n, 1, generator=g)]
        for t in range(steps):
            pushed = predict(states[-1], actions[:, t])
            states.append(pushed + process * torch.randn(n, 1, generator=g))
        states = torch.stack(states, 1)
        return actions, states, states + noise * torch.randn(states.shape, generator=g)

    mask = torch.ones(256, steps + 1, dtype=torch.bool)
    for _ in range(400):
        actions, states, frames = episodes(256)
        loss = -learned.log_prob(frames, actions, states, 1, mask, predict).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    actions, _, frames = episodes(500)
    with torch.no_grad():
        belief = learned.initial(frames[:, :1], actions[:, :0])
        mean, variance = torch.zeros(500, 1), torch.tensor(1.0)
        for t in range(steps + 1):
            if t:
                predicted = predict(belief[0], actions[:, t - 1])
                belief = learned.update(*belief, predicted, actions[:, t - 1], frames[:, t])
                mean = predict(mean, actions[:, t - 1])
                variance = 0.81 * variance + process**2
            gain = variance / (variance + noise**2)
            mean, variance = mean + gain * (frames[:, t] - mean), (1 - gain) * variance
            apart = (belief[0] - mean).square().mean().sqrt()
            assert apart < 0.25 * variance.sqrt(), t
            torch.testing.assert_close(belief[1].mean(), variance.sqrt(), atol=0, rtol=0.1)


def test_no_dream_grows_without_end(case):
    model, batch = case
    actions = batch.actions[:, :1].expand(-1, 400, -1)
    states = World(model).rollout(1e4 * torch.ones(len(batch), 3), actions)
    assert states[:, -1].abs().max() < 100


@pytest.mark.parametrize("setting", [{"latent_size": 0}, {"leak": 1.0}])
def test_sizes_that_cannot_be_are_refused(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        DKFConfig(**setting)
