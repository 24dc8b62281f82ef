"""Kalman filter and smoother against the joint Gaussian, and against filterpy."""

import numpy as np
import pytest
import torch
from filterpy.kalman import KalmanFilter
from small import generator
from torch.distributions import MultivariateNormal

from worldmodel.models.kalman import (
    Gaussian,
    Linear,
    backwards,
    forwards,
    gaussian_entropy,
    gaussian_kl,
    kalman_filter,
    sample,
    smooth,
)

BATCH, FRAMES, STATE, READING = 3, 6, 3, 2


def triangle(*shape, seed):
    full = normal(*shape, shape[-1], seed=seed) / shape[-1] ** 0.5
    return full.tril() + 0.5 * torch.eye(shape[-1], dtype=torch.float64)


def covariance_of(link):
    return link.factor @ link.factor.mT


def normal(*shape, seed):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@pytest.fixture(params=range(3))
def system(request):
    """Prior, steps, readings and values, all of them different at every step."""
    s = 10 * request.param
    prior = Gaussian(normal(BATCH, STATE, seed=s), triangle(BATCH, STATE, seed=s + 1))
    lead = (BATCH, FRAMES - 1)
    matrices = 0.6 * normal(*lead, STATE, STATE, seed=s + 2)
    steps = Linear(matrices, normal(*lead, STATE, seed=s + 3), triangle(*lead, STATE, seed=s + 4))
    lead = (BATCH, FRAMES)
    matrices = normal(*lead, READING, STATE, seed=s + 5)
    reading = Linear(
        matrices, normal(*lead, READING, seed=s + 6), triangle(*lead, READING, seed=s + 7)
    )
    return prior, steps, reading, 2 * normal(*lead, READING, seed=s + 8)


MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 1, 1], [1, 1, 0, 1, 0, 0]]).bool()


def filtered(system, mask=None):
    prior, steps, reading, values = system
    return kalman_filter(prior, lambda t, _: steps.at(t), reading, values, mask)


def joint(system, i, mask, upto=FRAMES):
    """States given the readings of sequence i before ``upto``, by inverting their covariance.

    Returns:
        Mean and covariance of all states in one vector, and the readings' log-likelihood.
    """
    prior, steps, reading, values = system
    size = FRAMES * STATE
    # States are a linear map of independent noises: of the first state, then of every step.
    maps = torch.zeros(FRAMES, STATE, size, dtype=torch.float64)
    means = torch.zeros(FRAMES, STATE, dtype=torch.float64)
    maps[0, :, :STATE] = prior.factor[i]
    means[0] = prior.mean[i]
    for t in range(FRAMES - 1):
        maps[t + 1] = steps.matrix[i, t] @ maps[t]
        block = slice((t + 1) * STATE, (t + 2) * STATE)
        maps[t + 1, :, block] = steps.factor[i, t]
        means[t + 1] = steps.matrix[i, t] @ means[t] + steps.offset[i, t]
    maps, means = maps.reshape(size, size), means.reshape(size)
    seen = [t for t in range(upto) if mask[i, t]]
    emission = torch.zeros(len(seen) * READING, size, dtype=torch.float64)
    for k, t in enumerate(seen):
        block = slice(t * STATE, (t + 1) * STATE)
        emission[k * READING : (k + 1) * READING, block] = reading.matrix[i, t]
    covariance = maps @ maps.T
    noise = torch.block_diag(*(covariance_of(reading)[i, t] for t in seen))
    total = emission @ covariance @ emission.T + noise
    expected = emission @ means + reading.offset[i, seen].flatten()
    gain = covariance @ emission.T @ torch.linalg.inv(total)
    residual = values[i, seen].flatten() - expected
    likelihood = MultivariateNormal(torch.zeros_like(residual), total).log_prob(residual)
    return means + gain @ residual, covariance - gain @ emission @ covariance, likelihood


@pytest.mark.parametrize("mask", [torch.ones_like(MASK), MASK])
def test_smoother_and_likelihood_are_those_of_the_joint_gaussian(system, mask):
    found = filtered(system, mask)
    smoothed = smooth(found.filtered.at(-1), backwards(found))
    for i in range(BATCH):
        mean, covariance, likelihood = joint(system, i, mask)
        torch.testing.assert_close(smoothed.mean[i].flatten(), mean)
        for t in range(FRAMES):
            block = slice(t * STATE, (t + 1) * STATE)
            torch.testing.assert_close(smoothed.covariance[i, t], covariance[block, block])
        torch.testing.assert_close(found.log_likelihood[i].sum(), likelihood)
        assert (found.log_likelihood[i, ~mask[i]] == 0).all()


def test_the_filter_is_the_joint_gaussian_of_what_came_before(system):
    found = filtered(system, MASK)
    for i, t in [(0, 0), (0, 3), (1, 2), (2, 5)]:
        block = slice(t * STATE, (t + 1) * STATE)
        if MASK[i, : t + 1].any():
            mean, covariance, _ = joint(system, i, MASK, upto=t + 1)
            torch.testing.assert_close(found.filtered.mean[i, t], mean[block])
            torch.testing.assert_close(found.filtered.covariance[i, t], covariance[block, block])


def test_posterior_trajectories_have_the_joint_gaussians_moments(system):
    found = filtered(system, MASK)
    mean, covariance, _ = joint(system, 1, MASK)
    draws = 40_000
    last, backward = found.filtered.at(-1), backwards(found)
    one = Gaussian(*(v[1:2].expand(draws, *v.shape[1:]) for v in last))
    links = Linear(*(v[1:2].expand(draws, *v.shape[1:]) for v in backward))
    paths = sample(one, links, normal(draws, FRAMES, STATE, seed=3)).flatten(1)
    # Five standard errors of 18 means and 324 covariances of a few units at most.
    assert ((paths.mean(0) - mean).abs() < 5 * (covariance.diagonal() / draws).sqrt()).all()
    sizes = covariance.diagonal().sqrt()
    assert ((paths.T.cov() - covariance).abs() < 5 * (2 / draws) ** 0.5 * sizes.outer(sizes)).all()


def test_forwards_and_backwards_describe_one_posterior(system):
    found = filtered(system)
    backward = backwards(found)
    smoothed = smooth(found.filtered.at(-1), backward)
    onward = forwards(smoothed, backward)
    for i in range(BATCH):
        _, covariance, _ = joint(system, i, torch.ones_like(MASK))
        t = 2
        here, after = (slice(k * STATE, (k + 1) * STATE) for k in (t, t + 1))
        gain = covariance[after, here] @ torch.linalg.inv(covariance[here, here])
        torch.testing.assert_close(onward.matrix[i, t], gain)
        left = covariance[after, after] - gain @ covariance[here, after]
        torch.testing.assert_close(covariance_of(onward)[i, t], left)
        moved = onward.at(t).mean(smoothed.mean[:, t])
        torch.testing.assert_close(moved, smoothed.mean[:, t + 1])


def test_filterpy_finds_the_same(system):
    prior, steps, reading, values = system
    found = filtered(system, MASK)
    smoothed = smooth(found.filtered.at(-1), backwards(found))
    for i in range(BATCH):
        theirs = KalmanFilter(dim_x=STATE, dim_z=READING, dim_u=STATE)
        theirs.x, theirs.P = prior.mean[i].numpy(), prior.covariance[i].numpy()
        means, covariances, matrices, noises = [], [], [], []
        for t in range(FRAMES):
            if t:
                matrices.append(steps.matrix[i, t - 1].numpy())
                noises.append(covariance_of(steps)[i, t - 1].numpy())
                control = steps.offset[i, t - 1].numpy()
                theirs.predict(u=control, B=np.eye(STATE), F=matrices[-1], Q=noises[-1])
            if MASK[i, t]:
                value = (values[i, t] - reading.offset[i, t]).numpy()
                noise = covariance_of(reading)[i, t].numpy()
                theirs.update(value, R=noise, H=reading.matrix[i, t].numpy())
            means.append(theirs.x.copy()), covariances.append(theirs.P.copy())
        np.testing.assert_allclose(found.filtered.mean[i], means, rtol=1e-9)
        np.testing.assert_allclose(found.filtered.covariance[i], covariances, rtol=1e-8, atol=1e-10)
        # Its smoother knows no control: where the controls led is taken off the means first.
        drift = np.zeros((FRAMES, STATE))
        for t in range(FRAMES - 1):
            drift[t + 1] = matrices[t] @ drift[t] + steps.offset[i, t].numpy()
        shift = [np.eye(STATE), *matrices], [np.eye(STATE), *noises]
        x, P, *_ = theirs.rts_smoother(np.array(means) - drift, np.array(covariances), *shift)
        np.testing.assert_allclose(smoothed.mean[i], x + drift, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(smoothed.covariance[i], P, rtol=1e-8, atol=1e-10)


def a_thousand_steps(dtype):
    """A slow rotation that hardly any noise disturbs, seen sharply and in one dimension only."""
    n, frames = 4, 1001
    angle = torch.tensor(0.05, dtype=dtype)
    turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]], dtype=dtype)
    eye = torch.eye(n, dtype=dtype)
    matrix = torch.block_diag(turn, turn @ turn)
    step = Linear(matrix.expand(2, n, n), eye.new_zeros(2, n), 1e-4 * eye.expand(2, n, n))
    shown = torch.tensor([1.0, 0, 1, 0], dtype=dtype)
    reading = Linear(
        shown.expand(2, frames, 1, n),
        eye.new_zeros(2, frames, 1),
        torch.full((2, frames, 1, 1), 1e-2, dtype=dtype),
    )
    prior = Gaussian(eye.new_zeros(2, n), 10 * eye.expand(2, n, n))
    values = torch.randn(2, frames, 1, generator=generator()).to(dtype)
    mask = torch.rand(2, frames, generator=generator(1)) < 0.9
    found = kalman_filter(prior, lambda t, _: step, reading, values, mask)
    return found.predicted, found.filtered, smooth(found.filtered.at(-1), backwards(found))


def test_32_bits_keep_covariances_positive_definite_for_a_thousand_steps():
    """Variances from 100 at first to 1e-8 per step of process noise."""
    both = a_thousand_steps(torch.float32), a_thousand_steps(torch.float64)
    for narrow, wide in zip(*both, strict=True):
        assert torch.equal(narrow.covariance, narrow.covariance.mT)
        assert torch.isfinite(narrow.mean).all()
        settled = narrow.covariance[:, 100:].double()
        assert (torch.linalg.eigvalsh(settled) > 0).all()
        sizes = torch.linalg.svdvals(narrow.factor.double()), torch.linalg.svdvals(wide.factor)
        torch.testing.assert_close(*sizes, rtol=2e-3, atol=0.0)
        torch.testing.assert_close(narrow.mean.double(), wide.mean, rtol=1e-3, atol=1e-3)


def test_divergence_and_entropy_agree_with_torchs_own():
    q = Gaussian(normal(4, 3, seed=1), triangle(4, 3, seed=2))
    p = Gaussian(normal(4, 3, seed=3), triangle(4, 3, seed=4))
    theirs = [MultivariateNormal(g.mean, g.covariance) for g in (q, p)]
    torch.testing.assert_close(gaussian_kl(q, p), torch.distributions.kl_divergence(*theirs))
    torch.testing.assert_close(gaussian_entropy(q.factor), theirs[0].entropy())
    spread = triangle(4, 3, seed=5)
    moved = [
        gaussian_kl(q._replace(mean=q.mean + sign * root), p)
        for root in (3**0.5 * spread).unbind(-1)
        for sign in (1, -1)
    ]
    torch.testing.assert_close(gaussian_kl(q, p, spread), torch.stack(moved).mean(0))


def test_a_filter_may_choose_its_steps_by_where_it_is(system):
    prior, steps, reading, values = system
    seen = []

    def step(t, mean):
        seen.append(mean)
        return steps.at(t)._replace(offset=mean.sin())

    found = kalman_filter(prior, step, reading, values)
    torch.testing.assert_close(torch.stack(seen, 1), found.filtered.mean[:, :-1])
    fixed = found.steps
    again = kalman_filter(prior, lambda t, _: fixed.at(t), reading, values)
    torch.testing.assert_close(again.filtered.mean, found.filtered.mean)
