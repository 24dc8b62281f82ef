import pytest
import torch
from small import generator
from torch.distributions import Independent, Normal, kl_divergence

from worldmodel.models.codec.emission import GaussianEmission
from worldmodel.models.dvbf import _central_differences
from worldmodel.models.networks import (
    Linear,
    Waves,
    mlp,
    normal_entropy,
    positive,
    standard_normal_kl,
)
from worldmodel.models.reward import RewardHead, TerminationHead


def gaussians():
    g = generator()
    return 2 * torch.randn(4, 5, 3, generator=g), torch.rand(4, 5, 3, generator=g) * 3 + 0.01


def test_the_kl_is_that_of_torch():
    mean, scale = gaussians()
    prior = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
    expected = kl_divergence(Independent(Normal(mean, scale), 1), prior.expand((4, 5)))
    torch.testing.assert_close(standard_normal_kl(mean, scale), expected)


def test_the_kl_is_zero_only_at_the_prior():
    zero = standard_normal_kl(torch.zeros(3), torch.ones(3))
    assert zero == 0
    assert (standard_normal_kl(*gaussians()) > 0).all()


def test_the_entropy_is_that_of_torch():
    mean, scale = gaussians()
    expected = Independent(Normal(mean, scale), 1).entropy()
    torch.testing.assert_close(normal_entropy(scale), expected)


def test_scales_stay_positive_for_any_input():
    raw = torch.tensor([-1e4, -30.0, 0.0, 30.0, 1e4])
    scale = positive(raw)
    assert (scale > 0).all() and torch.isfinite(scale.log()).all()
    assert (scale.diff()[1:] > 0).all()


def test_emission_likelihood_from_the_squared_error_is_the_gaussians():
    emission = GaussianEmission(mlp(3, 5, 7), 7)
    state, seen = torch.randn(4, 6, 3), torch.randn(4, 6, 7)
    with torch.no_grad():
        emission.log_scale.fill_(-0.7)
    expected = emission(state).log_prob(seen).sum(-1)
    compared = emission.compare(state, seen)
    torch.testing.assert_close(compared.reconstruction, expected)
    assert torch.equal(compared.calibration, compared.reconstruction)


def test_reward_likelihood_is_that_of_a_normal_in_standard_units():
    head = RewardHead(3, 2, 4)
    rewards = 40 + 5 * torch.randn(50, generator=generator())
    head.calibrate(rewards)
    with torch.no_grad():
        head.log_scale.fill_(-0.4)
    predicted = rewards + 1
    spread = rewards.std(correction=0)
    units = (predicted - rewards.mean()) / spread, (rewards - rewards.mean()) / spread
    expected = Normal(units[0], torch.tensor(-0.4).exp()).log_prob(units[1])
    torch.testing.assert_close(head.log_prob(predicted, rewards), expected, atol=1e-4, rtol=1e-4)


def test_a_constant_reward_is_predicted_near_itself():
    head = RewardHead(3, 2, 4)
    head.calibrate(torch.full((9,), -7.0))
    predicted = head(torch.randn(5, 3), torch.randn(5, 2), torch.randn(5, 3))
    assert torch.isfinite(predicted).all() and (predicted + 7).abs().max() < 5
    assert head.min == head.max == -7


def test_termination_is_impossible_until_one_was_seen():
    head = TerminationHead(3, 4)
    state = 100 * torch.randn(50, 3, generator=generator())
    assert (head(state).sigmoid() < 1e-9).all()
    head.seen.fill_(True)
    ended = torch.rand(50, generator=generator()) < 0.5
    chance = head(state).sigmoid()
    expected = torch.where(ended, chance, 1 - chance)
    torch.testing.assert_close(head.log_prob(state, ended).exp(), expected)


def test_a_belief_is_pushed_exactly_through_a_linear_map():
    g = generator()
    mean, scale = torch.randn(4, 3, generator=g), torch.rand(4, 3, generator=g) + 0.1
    matrix, shift = torch.randn(3, 3, generator=g), torch.randn(3, generator=g)
    arrived, moved = _central_differences(lambda z: z @ matrix.T + shift, mean, scale)
    torch.testing.assert_close(arrived, mean @ matrix.T + shift)
    covariance = matrix @ torch.diag_embed(scale.square()) @ matrix.T
    torch.testing.assert_close(moved.mT @ moved, covariance)


class Bent(torch.nn.Module):
    """Shows the first latent as z^2 / 2, hides the second, and shows the third across."""

    def forward(self, z):
        return torch.stack([z[..., 0].square() / 2, 5 * z[..., 2]], -1)


def test_unevenness_is_zero_for_a_linear_emission_and_known_for_a_bent_one():
    emission = GaussianEmission(torch.nn.Linear(3, 2), 2)
    state = torch.zeros(50, 3)
    state[:, 0] = torch.linspace(0.5, 1, 50)
    motion = torch.tensor([1.0, 7.0, 0.0]).expand(50, 3)
    assert emission.unevenness(state, motion) < 1e-6
    # x = z^2 / 2 has Jacobian z, up to half the step of the differences; what the motion does not
    # show and what shows across it have no part.
    emission.mean = Bent()
    speed = state[:, 0] + 0.025
    strength, weight = speed.square(), speed / speed.sum()
    mean = (weight * strength).sum()
    expected = (weight * (strength - mean).square()).sum() / mean.square()
    torch.testing.assert_close(emission.unevenness(state, motion), expected, rtol=1e-3, atol=0)


def test_unevenness_of_a_wide_state_takes_as_many_decodes_as_that_of_a_narrow_one():
    decoded = []

    class Counted(Bent):
        def forward(self, z):
            decoded.append(z.numel())
            return super().forward(z)

    emission = GaussianEmission(Counted(), 2)
    state, motion = torch.zeros(2, 50, 40)
    state[:, 0], motion[:, :2] = torch.linspace(0.5, 1, 50), torch.tensor([1.0, 7.0])
    strength, weight = state[:, 0].square(), state[:, 0] / state[:, 0].sum()
    mean = (weight * strength).sum()
    expected = (weight * (strength - mean).square()).sum() / mean.square()
    torch.testing.assert_close(emission.unevenness(state, motion), expected)
    assert decoded == [state.numel()] * 2


@pytest.mark.parametrize("size", [3, 40])
def test_unevenness_teaches_the_emission(size):
    emission = GaussianEmission(torch.nn.Sequential(torch.nn.Linear(size, 2), torch.nn.Tanh()), 2)
    g = torch.Generator().manual_seed(0)
    emission.unevenness(*torch.randn(2, 20, size, generator=g)).backward()
    assert emission.mean[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("size", [3, 40])
def test_unevenness_is_finite_where_nothing_moves(size):
    emission = GaussianEmission(torch.nn.Linear(size, 2), 2)
    state = torch.randn(5, size, generator=torch.Generator().manual_seed(0))
    for still in (torch.zeros(5, size), torch.zeros(0, size)):
        value = emission.unevenness(state[: len(still)], still)
        value.backward()
        assert value == 0


@pytest.mark.parametrize("inputs", [3, 40])
def test_a_linear_layer_is_that_of_torch(inputs):
    g = torch.Generator().manual_seed(0)
    ours, theirs = Linear(inputs, 4).double(), torch.nn.Linear(inputs, 4).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, inputs, generator=g, dtype=torch.float64, requires_grad=True)
    found = [
        (layer(x), *torch.autograd.grad(layer(x).sin().sum(), [x, *layer.parameters()]))
        for layer in (ours, theirs)
    ]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize(("inputs", "expected"), [(1, 1.0), (2, 2**0.5), (8, 2**0.5), (50, 2**0.5)])
def test_waves_are_as_long_however_many_inputs_there_are(inputs, expected):
    """What their phase turns by, as a root mean square, in a random step of unit variance."""
    turned = Waves(inputs, 4000).phase.weight.square().sum(1).mean().sqrt().item()
    assert turned == pytest.approx(expected, rel=0.1)


def test_waves_stand_beside_what_they_are_made_of():
    """Some of them turn over within a unit: a step of a hundredth is felt more than in a line."""
    waves, inputs = Waves(3, 64), torch.randn(5, 7, 3, generator=generator())
    outputs = waves(inputs)
    assert outputs.shape == (5, 7, 67) and torch.equal(outputs[..., :3], inputs)
    angles = inputs @ waves.phase.weight.T + waves.phase.bias
    torch.testing.assert_close(outputs[..., 3:], angles.sin())
    assert waves.phase.bias.max() > 5
