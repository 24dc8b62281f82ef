"""The linear-Gaussian model: its terms are the exact likelihood, its filter the exact one."""

import numpy as np
import oscillator
import pytest
import torch
from small import BOX, PIXELS, generator, with_fields

from worldmodel.errors import SpecError
from worldmodel.models.linear_gaussian import LinearGaussian, LinearGaussianConfig
from worldmodel.types import Belief

FRAMES = 11


def true_model():
    """The oscillator itself, in the model's form."""
    model = LinearGaussian(LinearGaussianConfig(2), *oscillator.SPECS).double()
    with torch.no_grad():
        model.matrix.copy_(oscillator.F)
        model.control.copy_(oscillator.B)
        model.log_noise.copy_((oscillator.NOISE.diagonal() - 1e-3).log())
        model.emission.mean.weight.copy_(oscillator.H)
        model.emission.mean.bias.zero_()
        model.emission.log_scale.fill_(oscillator.SENSOR - 1e-3).log_()
    return model


def bound(model, batch, **how):
    terms = model.terms(batch, generator(), **how)
    return (terms.reconstruction - terms.rate).sum(1).double()


def cut(batch, frame):
    return (torch.arange(batch.steps + 1) < frame).expand(len(batch), -1)


def test_the_bound_is_the_likelihood():
    model, batch = true_model(), oscillator.episodes(20, FRAMES - 1, 5)
    torch.testing.assert_close(bound(model, batch), oscillator.log_likelihood(batch))


def test_of_padded_episodes_too():
    model, batch = true_model(), oscillator.episodes(20, FRAMES - 1, 5)
    mask = torch.arange(FRAMES - 1).expand(20, -1) < 6
    short = bound(model, with_fields(batch, mask=mask))
    torch.testing.assert_close(short, oscillator.log_likelihood(batch.window(0, 6)))


@pytest.mark.parametrize("frame", [0, 1, 7])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_frames_that_are_not_looked_at_lower_it_in_every_episode(frame, scale):
    """The bound is an expectation in closed form: without an exception, not on average."""
    model, batch = true_model(), oscillator.episodes(20, FRAMES - 1, 5)
    how = {"observed": cut(batch, frame), "unobserved_scale": scale}
    assert (bound(model, batch, **how) < oscillator.log_likelihood(batch)).all()


def test_expectations_are_the_means_over_sampled_states():
    model, batch = true_model(), oscillator.episodes(1, FRAMES - 1, 5)
    many = with_fields(batch, **{k: v.expand(5_000, *v.shape[1:]) for k, v in batch.items()})
    observed = cut(many, 6)
    terms = model.terms(many, generator(), observed)
    sampled = model.emission.compare(terms.states, model.scale_observations(many.observations))
    for name in ("distortion", "reconstruction"):
        draws = getattr(sampled, name)
        error = draws.std(0) / 5_000**0.5
        assert ((draws.mean(0) - getattr(terms, name)[0]).abs() < 5 * error).all(), name


def test_live_it_filters_exactly():
    """Its last belief is the smoother's, which has seen just as much."""
    model, batch = true_model(), oscillator.episodes(20, FRAMES - 1, 5)
    live = model.filter_beliefs(batch.observations.double(), batch.actions.double())
    exact = model.posterior(batch.observations.double(), batch.actions.double())
    torch.testing.assert_close(live.mean[:, -1], exact.mean[:, -1])
    torch.testing.assert_close(live.scale[:, -1], exact.scale[:, -1])


def dense(model, batch, seen):
    """ln p of the frames that were seen, and mean and covariance of the last state given them.

    Of one episode, without any recursion: all states are one linear map of all noise.
    """
    steps = model.step(model._scale_actions(batch.actions.double()))
    frames, latent = batch.steps + 1, model.latent_size
    maps = [torch.cat([torch.eye(latent).double(), torch.zeros(latent, latent * batch.steps)], 1)]
    means = [torch.zeros(latent).double()]
    for t in range(batch.steps):
        mapped = model.matrix @ maps[-1]
        mapped[:, latent * (t + 1) : latent * (t + 2)] += model.noise_scale.diag()
        maps.append(mapped)
        means.append(model.matrix @ means[-1] + steps.offset[0, t])
    reading = model.emission.matrix
    rows = torch.cat([reading @ maps[t] for t in range(frames) if seen[0, t]])
    expected = torch.cat(
        [reading @ means[t] + model.emission.mean.bias for t in range(frames) if seen[0, t]]
    )
    noise = model.emission.scale.square().repeat(int(seen.sum())).diag()
    covariance = rows @ rows.T + noise
    values = model.scale_observations(batch.observations.double())[0][seen[0]].flatten()
    density = torch.distributions.MultivariateNormal(expected, covariance).log_prob(values)
    gain = maps[-1] @ rows.T @ covariance.inverse()
    mean = means[-1] + gain @ (values - expected)
    return density, mean, maps[-1] @ maps[-1].T - gain @ rows @ maps[-1].T


@pytest.mark.parametrize("lost", [(4,), (2, 3, 7), (5, 6, FRAMES - 1)])
def test_through_gaps_bound_and_filter_are_exact(lost):
    model, batch = true_model(), oscillator.episodes(1, FRAMES - 1, 5)
    seen = torch.ones(1, FRAMES, dtype=torch.bool)
    seen[0, list(lost)] = False
    with torch.no_grad():
        density, mean, covariance = dense(model, batch, seen)
    reached = bound(model, with_fields(batch, seen=seen))
    density = density - int(seen.sum()) * model.codec.log_volume
    torch.testing.assert_close(reached.double()[0], density, rtol=1e-4, atol=1e-3)
    live = model.filter_beliefs(batch.observations.double(), batch.actions.double(), 1, seen)
    torch.testing.assert_close(live.mean[0, -1], mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(live.scale[0, -1], covariance.diag().sqrt(), rtol=1e-5, atol=1e-6)


def test_training_reaches_the_true_systems_likelihood(tmp_path):
    dataset, test = oscillator.dataset(), oscillator.episodes(1000, FRAMES - 1, 7)
    # One dimension more than there is: nothing tells a user how many there are.
    model = LinearGaussian(LinearGaussianConfig(3), *oscillator.SPECS)
    budget = {"updates": 240, "window": FRAMES - 1, "learning_rate": 0.06, "validate_every": 100}
    oscillator.maximise_bound(model, dataset, tmp_path, **budget)
    with torch.no_grad():
        reached = bound(model, test)
    exact = oscillator.in_units_of(model, oscillator.log_likelihood(test), FRAMES)
    gap = exact - reached
    # The true system is the best there is on average, and on average only.
    assert gap.mean() > -4 * gap.std() / 1000**0.5
    assert gap.mean() < 0.01 * exact.mean().abs()


def test_pictures_are_refused():
    with pytest.raises(SpecError, match=r"takes vectors, got 8 . 8 . 1 pixels"):
        LinearGaussian(LinearGaussianConfig(), PIXELS, BOX)


def test_beliefs_that_begin_anew_beside_others_keep_their_covariances():
    model, batch = true_model(), oscillator.episodes(5, FRAMES - 1, 5)
    frames, actions = batch.observations.double(), batch.actions.double()
    old, fresh = (
        model.initial(frames[:, :4], actions[:, :3]),
        model.initial(frames[:, :1], actions[:, :0]),
    )
    mask = np.array([False, True, False, False, True])
    some = Belief(fresh.mean[mask], fresh.scale[mask], fresh.factor[mask])
    mixed = old.with_rows(mask, some)
    after = [model.update(b, actions[:, 0], frames[:, 1]) for b in (mixed, old, fresh)]
    for name in ("mean", "scale"):
        got, kept, anew = (getattr(b, name) for b in after)
        assert torch.equal(got, torch.where(torch.tensor(mask)[:, None], anew, kept))
    assert not torch.equal(after[1].scale, after[2].scale)
