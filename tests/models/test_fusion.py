import math

import pytest
import torch
from small import BOX, VECTOR, generator, random_batch, tiny_model
from torch.distributions import MultivariateNormal

from worldmodel.errors import ConfigError
from worldmodel.models.dvbf_config import RecognitionConfig
from worldmodel.models.fusion import Fusion
from worldmodel.models.networks import mlp, raw_scale
from worldmodel.models.transition import LocallyLinear, MLPTransition
from worldmodel.types import Belief

FUSED = {"recognition": {"kind": "fusion"}, "transition": {"init_scale": 1.0}}


@pytest.fixture
def meeting():
    """A reading m +- s, a prediction p, and how the noise moves it."""
    g = generator()
    reading = torch.cat([torch.randn(6, 4, generator=g), torch.rand(6, 4, generator=g) + 0.2], 1)
    gain = torch.randn(6, 3, 4, generator=g)
    return reading, torch.randn(6, 4, generator=g), gain


def test_the_mean_is_that_of_the_joint_gaussian(meeting):
    """w and m = p + w G + s e are jointly Gaussian; condition on m by their covariance."""
    reading, predicted, gain = meeting
    mean, _ = Fusion(5, 4, 8, 0.7)(reading, predicted, gain)
    m, s = reading.chunk(2, 1)
    covariance = gain.mT @ gain + torch.diag_embed(s.square())
    expected = gain @ covariance.inverse() @ (m - predicted).unsqueeze(2)
    torch.testing.assert_close(mean, expected.squeeze(2), atol=1e-4, rtol=1e-4)


def test_the_scale_is_the_best_that_a_diagonal_gaussian_can_have(meeting):
    reading, predicted, gain = meeting
    mean, scale = Fusion(5, 4, 8, 0.7)(reading, predicted, gain)
    s = reading.chunk(2, 1)[1]
    exact = torch.eye(3) - gain @ (
        (gain.mT @ gain + torch.diag_embed(s.square())).inverse() @ gain.mT
    )
    posterior = MultivariateNormal(mean, exact)

    def divergence(factor):
        own = MultivariateNormal(mean, torch.diag_embed((factor * scale).square()))
        return torch.distributions.kl_divergence(own, posterior)

    best = divergence(torch.ones(3))
    for i in range(3):
        for off in (0.9, 1.1):
            assert (divergence(torch.ones(3).index_fill(0, torch.tensor(i), off)) > best).all()


def test_a_sharp_reading_is_arrived_at_and_a_blunt_one_ignored(meeting):
    reading, predicted, _ = meeting
    gain = torch.eye(4).expand(6, 4, 4) * 0.3
    target = reading[:, :4]
    for scale, arrival in ((1e-3, target), (1e3, predicted)):
        context = torch.cat([target, torch.full_like(target, scale)], 1)
        mean, _ = Fusion(5, 4, 8, 0.7)(context, predicted, gain)
        reached = predicted + (mean.unsqueeze(1) @ gain).squeeze(1)
        torch.testing.assert_close(reached, arrival, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["locally-linear", "mlp"])
def test_the_gain_is_how_noise_moves_the_next_state(kind):
    torch.manual_seed(0)
    if kind == "mlp":
        transition = MLPTransition(3, 2, 3, 8, 1.0, 0.2, generator())
    else:
        transition = LocallyLinear(3, 2, 3, 4, 8, 0.5, 0.0, "smooth", 0.2, generator())
    state, action, noise = torch.randn(5, 3), torch.randn(5, 2), torch.randn(5, 3)
    weights = transition.draw(generator(1))
    still = transition(state, action, torch.zeros(5, 3), weights)
    moved = still + (noise.unsqueeze(1) @ transition.gain(state, action, weights)).squeeze(1)
    torch.testing.assert_close(transition(state, action, noise, weights), moved)


def test_a_filter_that_strayed_comes_back():
    """With a sharp reading one frame is enough, wherever the belief was."""
    model = tiny_model(VECTOR, BOX, **FUSED)
    model.recognition.reading = Sharp(mlp(3, 4, 3))
    batch = random_batch(VECTOR, BOX)
    action, frame = batch.actions[:, 0], batch.observations[:, 1]
    with torch.no_grad():
        near, far = (
            model.update(Belief(torch.full((5, 3), start), torch.full((5, 3), 0.1)), action, frame)
            for start in (0.0, 5.0)
        )
    torch.testing.assert_close(near.mean, far.mean, atol=0.02, rtol=0)


def test_the_live_filter_is_kalmans():
    """In one dimension, where a diagonal is the whole covariance, over a whole episode."""
    model, reading_scale = tiny_model(VECTOR, BOX, latent_size=1, **FUSED), 0.8
    model.recognition.reading = Vague(mlp(3, 4, 1), reading_scale)
    batch = random_batch(VECTOR, BOX)
    model.emission.log_scale.data.fill_(10)  # says nothing
    # One base matrix and no other mixture: the transition is linear.
    with torch.no_grad():
        model.transition_model.mean.copy_(model.transition_model.mean[:1].clone())
        beliefs = model.filter_beliefs(batch.observations, batch.actions)
        mean, variance = beliefs.mean[:, 0, 0], beliefs.scale[:, 0, 0].square()
        zero, one = torch.zeros(5, 1), torch.ones(5, 1)
        for t in range(batch.steps):
            action = batch.actions[:, t]
            still = model.transition(zero, action)[:, 0]
            slope = model.transition(one, action)[:, 0] - still
            noise = model.transition(zero, action, one)[:, 0] - still
            frame = model.encoder(model.scale_observations(batch.observations[:, t + 1]))
            seen = model.recognition.embed(frame, action)[:, 0]
            mean, variance = slope * mean + still, slope.square() * variance + noise.square()
            gain = variance / (variance + reading_scale**2)
            mean, variance = mean + gain * (seen - mean), (1 - gain) * variance
            torch.testing.assert_close(beliefs.mean[:, t + 1, 0], mean, atol=1e-4, rtol=1e-3)
            spread = beliefs.scale[:, t + 1, 0].square()
            torch.testing.assert_close(spread, variance, atol=1e-5, rtol=1e-3)


def test_what_is_not_seen_is_less_and_less_known_and_frames_then_count_for_more():
    model = tiny_model(VECTOR, BOX, **FUSED)
    model.recognition.reading = Vague(mlp(3, 4, 3), 0.8)
    batch = random_batch(VECTOR, BOX)
    with torch.no_grad():
        model.transition_model.leak = 0.0
        belief = Belief(torch.zeros(5, 3), torch.full((5, 3), 0.05))
        action, frame = batch.actions[:, 0], batch.observations[:, 1]
        later = belief
        for _ in range(20):
            later = model.predict(later, action)
        assert (later.scale > belief.scale).all()
        seen = model.recognition.embed(
            model.encoder(model.scale_observations(frame)), model._scale_actions(action)
        )[:, :3]
        sure, unsure = (
            model.update(Belief(later.mean, scale), action, frame).mean
            for scale in (belief.scale, later.scale)
        )
        assert ((unsure - seen).norm(dim=1) < (sure - seen).norm(dim=1)).all()


class Vague(torch.nn.Module):
    """Reads some state off a frame, and says how wrong it may be."""

    def __init__(self, mean, scale):
        super().__init__()
        self.mean, self.raw = mean, float(raw_scale(scale))

    def forward(self, frame):
        mean = self.mean(frame)
        return torch.cat([mean, torch.full_like(mean, self.raw)], -1)


class Sharp(torch.nn.Module):
    """Reads some state off a frame, and is sure of it."""

    def __init__(self, mean):
        super().__init__()
        self.mean = mean

    def forward(self, frame):
        mean = self.mean(frame)
        return torch.cat([mean, torch.full_like(mean, -20.0)], -1)


@pytest.mark.parametrize("scale", [0.05, 0.7])
def test_readings_begin_as_sharp_as_asked(scale):
    torch.manual_seed(0)
    _, spread = Fusion(3, 2, 64, scale).embed(torch.zeros(1, 3), torch.zeros(1, 1)).chunk(2, 1)
    assert (spread.log() - torch.tensor(scale).log()).abs().max() < 0.7


def test_sharp_readings_in_few_directions_leave_a_finite_posterior():
    """In 32 bits: rounding must not make what hardly matters negative."""
    generator = torch.Generator().manual_seed(0)
    fusion = Fusion(4, 8, 16, 0.1)
    gain = torch.randn(512, 8, 1, generator=generator) * torch.randn(512, 1, 8, generator=generator)
    gain = 20 * gain + 0.01 * torch.randn(512, 8, 8, generator=generator)
    mean = torch.randn(512, 8, generator=generator)
    context = torch.cat([mean, torch.full((512, 8), 1e-3)], 1)
    moved, scale = fusion(context, torch.zeros(512, 8), gain)
    assert torch.isfinite(moved).all() and torch.isfinite(scale).all() and (scale > 0).all()


def practised(weight):
    """A fusion whose readings also learn to say what was inferred, and a batch."""
    recognition = {"kind": "fusion", "reading_weight": weight}
    return tiny_model(VECTOR, BOX, recognition=recognition), random_batch(VECTOR, BOX)


def test_readings_learn_the_likelihood_of_what_was_inferred_on_frames_that_were_seen():
    model, batch = practised(0.25)
    observed = torch.rand(batch.frame_mask.shape, generator=generator(3)) < 0.6
    terms = model.terms(batch, generator(1), observed)
    features = model.encoder(model.scale_observations(batch.observations))[:, 1:]
    mean, scale = model.recognition.embed(features, batch.actions).chunk(2, -1)
    apart = (terms.states[:, 1:] - mean) / scale
    later = -(apart.square() / 2 + scale.log() + math.log(2 * math.pi) / 2).sum(-1)
    expected = torch.cat([torch.zeros(len(later), 1), later], 1)
    torch.testing.assert_close(terms.filtering, 0.25 * expected * (observed & batch.frame_mask))


def test_no_state_feels_what_readings_practise():
    model, batch = practised(1.0)
    model.terms(batch, generator(1)).filtering.sum().backward()
    felt = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert felt == {"recognition"}


def test_what_nobody_practises_is_no_term():
    model, batch = practised(0.0)
    assert model.terms(batch, generator(1)).filtering is None


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ConfigError, match=r"reading_weight must be .*, got"):
        RecognitionConfig("fusion", reading_weight=weight)
