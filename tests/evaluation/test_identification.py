import numpy as np
import pytest
from scipy import stats

from worldmodel.errors import DivergenceError, ShapeError
from worldmodel.evaluation.identification import (
    r_squared,
    regress,
    state_targets,
)


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(400, 3)).astype(np.float32)
    noise = rng.normal(size=(400, 2)) * [0.3, 2.0]
    targets = latents @ rng.normal(size=(3, 2)) + [5.0, -1.0] + noise
    return latents, targets


def test_r2_is_the_squared_correlation_of_fit_and_truth(samples):
    latents, targets = samples
    fit = regress(latents, targets)
    for i in range(2):
        correlation = stats.pearsonr(fit.prediction[:, i], targets[:, i]).statistic
        assert fit.r2[i] == pytest.approx(correlation**2, rel=1e-9)
    assert 0.5 < fit.r2[0] < 1


def test_r2_of_one_latent_agrees_with_scipy(samples):
    latents, targets = samples
    line = stats.linregress(latents[:, 0].astype(float), targets[:, 1])
    fit = regress(latents[:, :1], targets[:, 1:])
    assert fit.r2[0] == pytest.approx(line.rvalue**2, rel=1e-9)
    assert fit.coefficients[:, 0] == pytest.approx([line.slope, line.intercept], rel=1e-6)


def test_log_likelihood_is_the_greatest_that_a_normal_gives_the_residuals(samples):
    latents, targets = samples
    fit = regress(latents, targets)
    residual = targets - fit.prediction
    for i in range(2):
        mean, scale = stats.norm.fit(residual[:, i])
        expected = stats.norm.logpdf(residual[:, i], mean, scale).sum()
        assert fit.log_likelihood[i] == pytest.approx(expected, rel=1e-9)


def test_log_likelihood_is_a_sum_as_in_the_papers_table():
    """R^2 0.961 of sin at 7,500 samples is 3990.8 nats there, if sin has variance about 1/2."""
    rng = np.random.default_rng(1)
    truth = np.sqrt(2) * rng.normal(size=(7500, 1)) / 2
    latents = truth + np.sqrt(0.5 * (1 / 0.961 - 1)) * rng.normal(size=truth.shape)
    fit = regress(latents, truth)
    assert fit.r2[0] == pytest.approx(0.961, abs=0.003)
    assert fit.log_likelihood[0] == pytest.approx(3990.8, rel=0.1)


def test_predict_applies_the_same_fit_to_other_latents(samples):
    latents, targets = samples
    fit = regress(latents, targets)
    np.testing.assert_allclose(fit.predict(latents), fit.prediction, atol=1e-9)
    assert fit.predict(latents.reshape(20, 20, 3)).shape == (20, 20, 2)


def test_exact_fits_and_constant_truth_stay_finite():
    latents = np.random.default_rng(2).normal(size=(50, 2))
    targets = np.column_stack([2 * latents[:, 0] + 1, np.full(50, 7.0)])
    fit = regress(latents, targets)
    assert fit.r2 == pytest.approx([1.0, 0.0])
    assert np.isfinite(fit.log_likelihood).all()


def test_r_squared_of_a_bad_prediction_is_negative():
    truth = np.array([[1.0], [2.0], [3.0]])
    assert r_squared(truth, truth.mean(0, keepdims=True).repeat(3, 0)) == pytest.approx([0.0])
    assert r_squared(truth, truth[::-1]) == pytest.approx([-3.0])


@pytest.mark.parametrize(("latents", "targets"), [((10, 2), (9, 1)), ((4, 3), (4, 1))])
def test_too_few_samples_are_refused(latents, targets):
    with pytest.raises(ShapeError, match=rf"\({latents[0]}, {latents[1]}\)"):
        regress(np.zeros(latents), np.zeros(targets))


def test_a_filter_that_diverged_is_named():
    latents = np.random.default_rng(0).normal(size=(20, 2))
    latents[[3, 7], 1] = np.inf, np.nan
    with pytest.raises(DivergenceError, match="2 of 20 latent states are not finite"):
        regress(latents, np.ones((20, 1)))


def test_states_are_named_by_their_place():
    states = np.array([[[np.pi / 2, 3.0]]])
    assert {k: v.item() for k, v in state_targets(states).items()} == pytest.approx(
        {"state_0": np.pi / 2, "state_1": 3.0}
    )


@pytest.mark.filterwarnings("error")
def test_what_was_never_seen_leaves_nothing_to_explain():
    nothing = np.zeros((0, 2))
    np.testing.assert_array_equal(r_squared(nothing, nothing), [0, 0])
