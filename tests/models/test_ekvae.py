"""The extended Kalman VAE: exact where all is linear, a bound everywhere, and safe in 32 bits."""

import math

import oscillator
import pytest
import torch
from small import (
    BOX,
    PIXELS,
    as_dataset,
    box,
    generator,
    random_batch,
    small_model,
    vector,
    with_fields,
)
from torch.distributions import MultivariateNormal, Normal

from worldmodel.errors import ConfigError
from worldmodel.models.ekvae import EKVAE, EKVAEConfig
from worldmodel.models.learned import seeded
from worldmodel.types import Batch

ONE = vector(1), box(-1.0, 1.0)
FRAMES = 6
R = 0.3


@torch.no_grad()
def make_identity(network, outputs):
    """ReLU units in pairs are linear: x = relu(x) - relu(-x)."""
    for parameter in network.parameters():
        parameter.zero_()
    network[0].weight[:2, 0] = torch.tensor([1.0, -1.0])
    network[2].weight[0, :2] = torch.tensor([1.0, -1.0])
    if outputs > 1:
        network[2].bias[1] = -50.0


@torch.no_grad()
def linear_model(sensor=1e-4):
    """The oscillator, whose first component alone is seen; the auxiliary variable is the frame."""
    model = EKVAE(EKVAEConfig(2, 1, base_matrices=1, leak=0.25), *ONE).double()
    make_identity(model.reader, 2)
    make_identity(model.emission.mean, 1)
    if sensor > 1e-4:
        model.reader[2].bias[1] = math.log(math.expm1(sensor - 1e-4))
    model.emission.log_scale.fill_(math.log(sensor))
    model.log_auxiliary_noise.fill_(math.log(R - 1e-3))
    change = oscillator.F - 0.75 * torch.eye(2)
    rows = torch.cat([change.T, oscillator.B.T, torch.zeros(1, 2)])
    model.transition_model.mean.copy_(rows)
    model.transition_model.log_scale.fill_(-30)
    model.transition_model.log_noise.copy_((oscillator.NOISE.diagonal().square() - 1e-6).log() / 2)
    return model


def joint(batch, sensor=1e-4):
    """Mean and covariance of all states and then all frames, in 64 bits."""
    actions = batch.actions.double()
    count = batch.steps + 1
    maps = torch.zeros(count, 2, 2 * count, dtype=torch.float64)  # states from independent noises
    means = torch.zeros(len(batch), count, 2, dtype=torch.float64)
    for t in range(count):
        if t:
            maps[t] = oscillator.F @ maps[t - 1]
            means[:, t] = means[:, t - 1] @ oscillator.F.T + actions[:, t - 1] @ oscillator.B.T
        maps[t, :, 2 * t : 2 * t + 2] = oscillator.NOISE if t else torch.eye(2).double()
    blurred = (R**2 + sensor**2) * torch.eye(count, dtype=torch.float64)
    states, seen = maps.flatten(0, 1), maps[:, 0]
    return means, states @ states.T, states @ seen.T, seen @ seen.T + blurred


def episodes(size=20, sensor=1e-4, seed=5, frames=FRAMES):
    batch = oscillator.episodes(size, frames - 1, seed)
    noise = torch.randn(size, frames, 1, generator=generator(seed + 100))
    frames = batch.states[..., :1] + math.hypot(R, sensor) * noise
    return with_fields(batch, observations=frames)


def smoothed(model, batch):
    reading = model.read(model.scale_observations(batch.observations))
    return model.posterior(reading, batch.actions.double())[0]


def test_with_linear_dynamics_and_identity_auxiliary_it_is_the_kalman_smoother():
    """Against conditioning of the joint Gaussian."""
    model, batch = linear_model(), episodes()
    means, own, across, seen = joint(batch)
    gain = across @ seen.inverse()
    residual = batch.observations[..., 0].double() - means[..., 0]
    found = smoothed(model, batch)
    expected = means + (residual @ gain.T).unflatten(1, (FRAMES, 2))
    torch.testing.assert_close(found.mean, expected, atol=1e-5, rtol=0)
    covariance = own - gain @ across.T
    for t in range(FRAMES):
        block = covariance[2 * t : 2 * t + 2, 2 * t : 2 * t + 2].expand(len(batch), 2, 2)
        torch.testing.assert_close(found.at(t).covariance, block, atol=1e-5, rtol=0)


def test_live_it_is_the_kalman_filter():
    """Its last belief is the smoother's, which has seen just as much."""
    model, batch = linear_model(), episodes()
    live = model.filter_beliefs(batch.observations.double(), batch.actions.double())
    last = smoothed(model, batch).at(-1)
    torch.testing.assert_close(live.mean[:, -1], last.mean)
    torch.testing.assert_close(live.scale[:, -1], last.scale)


def likelihood(batch, sensor):
    means, _, _, seen = joint(batch, sensor)
    return MultivariateNormal(means[..., 0], seen).log_prob(batch.observations[..., 0].double())


@torch.no_grad()
def bound(model, batch, draws, observed=None, scale=1.0):
    """Mean and standard error of the bound of each episode."""
    many = with_fields(batch, **{n: v.repeat(draws, *[1] * (v.ndim - 1)) for n, v in batch.items()})
    seen = None if observed is None else observed.repeat(draws, 1)
    terms = model.terms(many, generator(3), seen, unobserved_scale=scale)
    samples = (terms.reconstruction - terms.rate).sum(1).view(draws, len(batch))
    return samples.mean(0), samples.std(0) / draws**0.5


def test_at_the_true_posterior_the_bound_is_the_likelihood():
    model, batch = linear_model(0.2), episodes(sensor=0.2)
    mean, error = bound(model, batch, 500)
    assert ((mean - likelihood(batch, 0.2)).abs() < 4 * error + 1e-3).all()
    assert error.max() < 0.3


@pytest.mark.parametrize("frame", [0, 2, FRAMES])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_it_stays_below_whatever_is_looked_at_and_read(frame, scale):
    model, batch = linear_model(0.2), episodes(sensor=0.2)
    observed = (torch.arange(FRAMES) < frame).expand(len(batch), -1)
    with torch.no_grad():
        model.reader[2].bias.add_(torch.tensor([0.1, 0.5]))
    mean, error = bound(model, batch, 300, observed, scale)
    gap = likelihood(batch, 0.2) - mean
    assert (gap > -4 * error).all()
    assert gap.mean() > 0.3


def test_it_is_a_bound_for_dynamics_that_are_not_linear():
    """One dimension and three frames: ln p(x) by quadrature, with the transition as it dreams."""
    config = EKVAEConfig(1, 1, base_matrices=4, transition_init=1.0)
    model = EKVAE(config, *ONE, seed=1).double()
    make_identity(model.emission.mean, 1)
    make_identity(model.reader, 2)
    with torch.no_grad():
        model.emission.log_scale.fill_(math.log(0.3))
        model.reader[2].bias[1] = math.log(math.expm1(0.3))
        model.transition_model.log_scale.fill_(-30)
        model.transition_model.mixing[2].weight.mul_(8)
        model.transition_model.log_noise.fill_(math.log(0.5))
    g = generator(2)
    frames = 1.5 * torch.randn(12, 3, 1, generator=g)
    zeros = torch.zeros(12, 2)
    actions = 2 * torch.rand(12, 2, 1, generator=g) - 1
    batch = Batch(frames, actions, zeros, zeros.bool(), ~zeros.bool())
    mean, error = bound(model, batch, 2000)
    exact = torch.stack([by_quadrature(model, batch[i : i + 1]) for i in range(12)])
    assert (mean <= exact + 4 * error).all()
    assert 0.01 < (exact - mean).mean() < 1


@torch.no_grad()
def by_quadrature(model, episode):
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    width = math.hypot(model.auxiliary_noise.item(), 0.3)
    density = Normal(0.0, 1.0).log_prob(grid).exp()
    for t, frame in enumerate(episode.observations[0, :, 0].double()):
        if t:
            action = episode.actions[:, t - 1].double().expand(len(grid), -1)
            still, moved = (
                model.transition(grid[:, None], action, torch.full((len(grid), 1), noise).double())
                for noise in (0.0, 1.0)
            )
            kernel = Normal(still, moved - still).log_prob(grid).exp()
            density = density @ kernel * (grid[1] - grid[0])
        density = density * Normal(grid, width).log_prob(frame).exp()
    return (density.sum() * (grid[1] - grid[0])).log()


def test_training_reaches_the_true_systems_likelihood(tmp_path):
    """With networks that are linear from start to end, and all else as it comes."""
    train, validation, test = (
        episodes(size, 0.52, seed, 11) for size, seed in ((1000, 0), (50, 1), (4000, 2))
    )
    model = EKVAE(EKVAEConfig(2, 1, base_matrices=1, leak=0.0, transition_init=0.05), *ONE)
    with seeded(0):
        model.reader, model.emission.mean = torch.nn.Linear(1, 2), torch.nn.Linear(1, 1)
    dataset = as_dataset(*ONE, train=train, validation=validation)
    budget = {"updates": 200, "batch_size": 64, "window": 10, "learning_rate": 0.05}
    oscillator.maximise_bound(model, dataset, tmp_path, warmup_steps=10, **budget)
    reached, _ = bound(model, test, 2)
    gap = likelihood(test, 0.52) - oscillator.in_units_of(model, reached, -11)
    # The true system is the best there is on average, and on average only.
    assert gap.mean() > -4 * gap.std() / 4000**0.5
    assert gap.mean() < 0.01 * likelihood(test, 0.52).mean().abs()


def test_the_transition_is_its_own_linear_step():
    model = small_model("ekvae", transition_init=0.5)
    g = generator()
    state, noise = (torch.randn(7, model.latent_size, generator=g) for _ in range(2))
    action = torch.rand(7, 2, generator=g)
    step = model.transition_model.step(state, model._scale_actions(action))
    expected = (step.matrix @ state.unsqueeze(2)).squeeze(2) + step.offset
    torch.testing.assert_close(model.transition(state, action), expected)
    root = torch.linalg.cholesky(step.factor @ step.factor.mT)
    kicked = expected + (root @ noise.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(model.transition(state, action, noise), kicked)
    mean = model.transition_model(state, model._scale_actions(action), noise[:, :0])
    torch.testing.assert_close(model.transition(state, action), mean)


def test_covariances_stay_positive_definite_for_a_thousand_steps_in_32_bits():
    """Sharp readings and hardly any process noise are what single precision finds hardest."""
    model = small_model("ekvae", PIXELS, transition_init=0.5)
    with torch.no_grad():
        model.reader[-1].bias[2:] = -20
        model.log_auxiliary_noise.fill_(-20)
        model.transition_model.log_noise.fill_(-20)
    batch = random_batch(PIXELS, BOX, size=2, steps=1000)
    with torch.no_grad():
        belief = model.initial(batch.observations[:, :1], batch.actions[:, :0])
        factors = []
        for t in range(1000):
            belief = model.update(belief, batch.actions[:, t], batch.observations[:, t + 1])
            factors.append(belief.factor)
        reading = model.read(model.scale_observations(batch.observations))
        whole = model.posterior(reading, model._scale_actions(batch.actions))[0]
    for factor in (torch.stack(factors, 1), whole.factor):
        covariance = factor.double() @ factor.double().mT
        assert torch.equal(covariance, covariance.mT)
        assert torch.linalg.eigvalsh(covariance).min() > 0
        assert factor.abs().max() < 100
    assert torch.isfinite(whole.mean).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"auxiliary_size": 5},
        {"leak": 1.0},
        {"transition_init": 0.0},
        {"base_matrices": 0},
    ],
)
def test_settings_that_make_no_model_are_refused(changes):
    (name,) = changes
    with pytest.raises(ConfigError, match=name):
        EKVAEConfig(**changes)
