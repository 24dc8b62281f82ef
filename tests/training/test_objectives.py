import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from small import generator, random_batch, tiny_model
from torch.distributions import Normal

from worldmodel.errors import ConfigError
from worldmodel.training.losses.balanced import Balanced, BalancedConfig
from worldmodel.training.losses.constrained import Constrained, ConstrainedConfig
from worldmodel.training.losses.elbo import AnnealedELBO, ELBOConfig


@pytest.fixture
def terms():
    model, batch = tiny_model(), random_batch()
    model.calibrate(batch)
    observed = torch.ones(len(batch), batch.steps + 1, dtype=torch.bool)
    observed[0, 3:] = False
    return model.terms(batch, generator(), observed)


def distorted(terms, fraction, which=slice(None)):
    """The same terms, with this fraction of the mean observation's error in picked sequences."""
    distortion = terms.distortion.detach().clone()
    distortion[which] = fraction * terms.weight
    return dataclasses.replace(terms, distortion=distortion)


def constrained(**settings):
    """The multiplier starts at 1, its least value, unless said otherwise."""
    defaults = {"min_multiplier": 1.0, "max_multiplier": 50.0, "flatness": 0.0}
    return Constrained(ConstrainedConfig(**(defaults | settings)))


def test_the_multiplier_rises_when_violated_and_falls_when_satisfied(terms):
    objective = constrained(loose=0.1, tight=0.1, step=0.05, max_multiplier=1e9, decay=0.9)
    values = []
    for error in (1.0, 1e-6):
        for _ in range(300):
            objective.observe(distorted(terms, error), 0.0)
            values.append(objective.logs()["multiplier"])
    assert values[299] > values[0] > 1
    assert values[-1] < values[299]
    steps = [abs(math.log(b / a)) for a, b in pairwise(values)]
    assert max(steps) <= 0.05 + 1e-9
    assert math.log(values[1] / values[0]) == pytest.approx(0.05)


def test_the_multiplier_rests_where_the_constraint_is_just_met(terms):
    objective = constrained(loose=0.1, tight=0.1)
    for _ in range(50):
        objective.observe(distorted(terms, 0.1), 0.5)
    assert objective.logs()["multiplier"] == pytest.approx(1.0, abs=1e-5)
    assert objective.logs()["distortion"] == pytest.approx(0.1)


@pytest.mark.parametrize("error, bound", [(1e3, 7.0), (0.0, 0.5)])
def test_the_multiplier_is_clipped(terms, error, bound):
    objective = constrained(step=1.0, min_multiplier=0.5, max_multiplier=7.0)
    for _ in range(20):
        objective.observe(distorted(terms, error), 0.0)
    assert objective.logs()["multiplier"] == pytest.approx(bound)


def test_the_target_tightens_from_loose_to_tight_between_its_ends(terms):
    objective = constrained(loose=0.2, tight=0.02, tighten_from=0.25, tighten_to=0.65)
    targets = {}
    for progress in (0.0, 0.25, 0.35, 0.45, 0.55, 0.65, 1.0):
        objective.observe(terms, progress)
        targets[progress] = objective.logs()["distortion_target"]
        assert objective.settled(progress) == (progress >= 0.65)
    assert targets[0.0] == targets[0.25] == pytest.approx(0.2)
    assert targets[0.65] == targets[1.0] == pytest.approx(0.02)
    assert targets[0.45] == pytest.approx((0.2 * 0.02) ** 0.5)
    assert sorted(targets.values(), reverse=True) == list(targets.values())


def test_only_sequences_filtered_throughout_move_the_average(terms):
    objective = constrained()
    objective.observe(distorted(distorted(terms, 0.3), 1e9, which=0), 0.0)
    assert objective.logs()["distortion"] == pytest.approx(0.3)
    before = objective.state_dict()["distortion"]
    none = dataclasses.replace(terms, observed=torch.zeros_like(terms.observed))
    objective.observe(distorted(none, 1e9), 0.0)
    assert objective.state_dict()["distortion"] == before


def test_padding_does_not_count_as_unobserved_nor_in_the_average(terms):
    mask = torch.ones_like(terms.frame_mask)
    mask[:, 4:] = False
    padded = dataclasses.replace(
        distorted(terms, 0.3), observed=terms.observed & mask, frame_mask=mask
    )
    padded.distortion[:, 4:] = 0
    objective = constrained()
    objective.observe(padded, 0.0)
    assert objective.logs()["distortion"] == pytest.approx(0.3)


def test_before_any_whole_sequence_the_multiplier_rests(terms):
    objective = constrained()
    objective.observe(dataclasses.replace(terms, observed=torch.zeros_like(terms.observed)), 0.0)
    assert objective.logs()["multiplier"] == 1 and math.isnan(objective.logs()["distortion"])
    again = constrained()
    again.load_state_dict(objective.state_dict())
    assert again.distortion is None


def slopes(objective, distortion, terms):
    """Of the loss by what each frame errs by."""
    leaf = distortion.detach().clone().requires_grad_()
    loss = objective.loss(dataclasses.replace(terms, distortion=leaf), 10)
    return torch.autograd.grad(loss, leaf, retain_graph=True)[0] * len(leaf)


def test_huber_leaves_what_is_foretold_badly_a_say_of_its_size(terms):
    objective, blind = constrained(loose=0.05, tight=0.05, huber=True), ~terms.observed
    far = slopes(objective, distorted(terms, 0.2).distortion, terms)
    assert far[terms.observed].allclose(torch.tensor(1.0))
    assert far[blind].allclose(torch.tensor(0.5)), "four times what is allowed: a half"
    near = slopes(objective, distorted(terms, 0.04).distortion, terms)
    assert near.allclose(torch.tensor(1.0))


def test_huber_has_no_jump_and_is_ever_less_steep(terms):
    objective, blind = constrained(loose=0.05, tight=0.05, huber=True), ~terms.observed
    losses = [
        objective.loss(dataclasses.replace(terms, distortion=error * terms.weight * blind), 10)
        for error in torch.linspace(0, 1, 101)
    ]
    rise = torch.stack(losses).detach().double().diff()
    assert (rise > 0).all() and (rise.diff() < 0.01 * rise[0]).all()


def test_huber_is_finite_where_nothing_errs(terms):
    objective = constrained(huber=True)
    assert slopes(objective, torch.zeros_like(terms.distortion), terms).isfinite().all()


def heads(terms, sequences):
    rewards = -(terms.reward.sum() + terms.termination.sum()) / len(terms.rate)
    return rewards + terms.weight_kl / sequences


def test_the_constrained_loss_is_rate_plus_multiplied_distortion(terms):
    objective = constrained()
    objective.load_state_dict({"log_multiplier": math.log(3.0), "distortion": 1.0, "target": 0.1})
    fit = terms.calibration[terms.observed].sum() / len(terms.rate)
    expected = (terms.rate + 3 * terms.distortion).sum() / len(terms.rate) - fit
    torch.testing.assert_close(objective.loss(terms, 40), expected + heads(terms, 40))


@pytest.mark.parametrize("make", [constrained, lambda: AnnealedELBO(ELBOConfig())])
def test_the_state_goes_round_trip(terms, make):
    first, second = make(), make()
    for progress in (0.1, 0.2, 0.3):
        first.observe(terms, progress)
    assert first.loss(terms, 9) != second.loss(terms, 9)
    second.load_state_dict(first.state_dict())
    assert first.loss(terms, 9) == second.loss(terms, 9) and first.logs() == second.logs()
    for objective in (first, second):
        objective.observe(terms, 0.4)
    assert first.state_dict() == second.state_dict()


def test_the_annealed_bound_ends_as_the_bound(terms):
    objective = AnnealedELBO(ELBOConfig(start=0.01, anneal=0.5))
    objective.observe(terms, 0.5)
    expected = -(terms.reconstruction - terms.rate).sum() / len(terms.rate)
    torch.testing.assert_close(objective.loss(terms, 40), expected + heads(terms, 40))


@pytest.mark.parametrize(
    "start, anneal, progress", [(0.01, 0.5, 0.2), (0.3, 1.0, 0.5), (0.2, 0.0, 0.0)]
)
def test_the_inverse_temperature_rises_linearly_to_one(terms, start, anneal, progress):
    objective = AnnealedELBO(ELBOConfig(start, anneal))
    assert objective.logs()["inverse_temperature"] == start
    objective.observe(terms, progress)
    share = progress / anneal if anneal else 1
    expected = start + (1 - start) * share
    assert objective.logs()["inverse_temperature"] == pytest.approx(expected)
    objective.observe(terms, 1.0)
    assert objective.logs()["inverse_temperature"] == 1 and objective.settled(1.0)
    assert objective.settled(progress) == (progress >= anneal)


def test_the_annealed_bound_is_that_of_the_papers_appendix():
    """c ln p(x|z) - ln q(w) + c ln p(w), averaged over samples of w, against the closed form."""
    c, n, g = 0.3, 100_000, generator()
    mean, scale = torch.tensor([0.7, -1.2]), torch.tensor([0.4, 1.6])
    posterior, prior = Normal(mean, scale), Normal(torch.zeros(2), torch.ones(2))
    w = mean + scale * torch.randn(n, 2, generator=g)
    samples = (posterior.log_prob(w) - c * prior.log_prob(w)).sum(1)
    model, batch = tiny_model(), random_batch(size=1, steps=1)
    terms = model.terms(batch, generator())
    rate = torch.distributions.kl_divergence(posterior, prior).sum().expand(1, 2)
    entropy = posterior.entropy().sum().expand(1, 2)
    terms = dataclasses.replace(terms, rate=rate, entropy=entropy)
    objective = AnnealedELBO(ELBOConfig())
    objective.load_state_dict({"temperature": c})
    ours = objective.loss(terms, 40) - heads(terms, 40) + c * terms.reconstruction.sum()
    error = 4 * samples.std() / n**0.5
    assert abs(ours / 2 - samples.mean()) < error
    assert abs(rate[0, 0] - samples.mean()) > 10 * error


def test_flatness_weighs_the_unevenness_of_the_emission(terms):
    plain, flat = constrained(min_multiplier=2.0), constrained(min_multiplier=2.0, flatness=3.0)
    assert terms.unevenness > 0
    torch.testing.assert_close(
        flat.loss(terms, 40) - plain.loss(terms, 40), 2 * 3 * terms.unevenness, rtol=1e-3, atol=0
    )


def test_what_a_loss_weighs_with_zero_is_not_computed(terms):
    def dear():
        raise AssertionError("computed")

    terms = dataclasses.replace(terms, measure_unevenness=dear)
    for objective in (constrained(), AnnealedELBO(ELBOConfig())):
        objective.loss(terms, 40)
        objective.observe(terms, 0.5)
    with pytest.raises(AssertionError, match="computed"):
        constrained(flatness=1.0).loss(terms, 40)


@pytest.mark.parametrize(
    "bad",
    [
        {"tight": 0.0},
        {"tight": 0.2, "loose": 0.1},
        {"tighten_from": 0.7, "tighten_to": 0.6},
        {"min_multiplier": 0.0},
        {"max_multiplier": 1.0},
        {"decay": 1.0},
        {"flatness": -1.0},
        {"step": -0.1},
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(bad):
    name, value = next(iter(bad.items()))
    with pytest.raises(ConfigError, match=rf"{name}.*{value}"):
        ConstrainedConfig(**bad)


def test_free_nats_cost_nothing_and_the_rest_is_exchanged_at_a_fixed_price(terms):
    free, price = terms.rate.detach().median().item(), 7.0
    objective = Balanced(BalancedConfig(multiplier=price, free=free))
    per_frame = torch.maximum(terms.rate, torch.tensor(free)) + price * terms.distortion
    beside = terms.reward.sum() + terms.termination.sum()
    fit = (terms.calibration * terms.observed).sum()
    expected = (per_frame.sum() - fit - beside) / len(per_frame) + terms.weight_kl / 3
    torch.testing.assert_close(objective.loss(terms, 3), expected)
    (on_rate,) = torch.autograd.grad(objective.loss(terms, 3), terms.rate)
    assert (on_rate[terms.rate < free] == 0).all() and (on_rate[terms.rate > free] > 0).all()
    assert objective.settled(0.0) and objective.state_dict() == objective.logs() == {}


def test_a_rate_that_can_be_balanced_is(terms):
    asked = []

    def balance(fraction):
        asked.append(fraction)
        return 2 * terms.rate

    objective = Balanced(BalancedConfig(multiplier=1.0, free=0.0, balance=0.3))
    plain = objective.loss(terms, 1)
    balanced = objective.loss(dataclasses.replace(terms, balance=balance), 1)
    assert asked == [0.3]
    expected = terms.rate.sum() / len(terms.rate)
    torch.testing.assert_close(balanced - plain, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("setting", [{"free": -1.0}, {"balance": 1.5}, {"multiplier": math.inf}])
def test_exchanges_that_are_none_are_refused(setting):
    with pytest.raises(ConfigError, match="got"):
        BalancedConfig(**setting)
