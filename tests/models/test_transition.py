import pytest
import torch
from small import generator, tiny_config
from torch.distributions import Normal

from worldmodel.errors import ConfigError
from worldmodel.models.transition import LocallyLinear, MLPTransition

LEAK = 0.3


def locally_linear(seed=0, init_scale=0.3, coupling=0.0, gate="smooth", leak=LEAK):
    torch.manual_seed(seed)  # of the mixing network, which torch initialises
    return LocallyLinear(3, 2, 3, 4, 6, init_scale, coupling, gate, leak, generator(seed))


def inputs(batch=5, seed=1):
    g = generator(seed)
    return (
        torch.randn(batch, 3, generator=g),
        torch.randn(batch, 2, generator=g),
        torch.randn(batch, 3, generator=g),
    )


def mixing_weights(transition, state, action, noise):
    """Read off by setting one base matrix at a time to the identity on the noise."""
    columns = []
    for m in range(len(transition.mean)):
        weights = torch.zeros_like(transition.mean)
        weights[m, 5:8] = torch.eye(3)
        added = transition(state, action, noise, weights) - (1 - LEAK) * state
        columns.append(added[:, :1] / noise[:, :1])
    return torch.cat(columns, 1)


@pytest.mark.parametrize("drawn", [False, True])
def test_next_state_is_the_mixture_of_the_base_matrices(drawn):
    transition = locally_linear()
    state, action, noise = inputs()
    weights = transition.draw(generator()) if drawn else None
    base = transition.mean if weights is None else weights
    alpha = mixing_weights(transition, state, action, noise)
    parts = base.split([3, 2, 3, 1], 1)
    a, b, c, d = (torch.einsum("bm,mio->bio", alpha, part) for part in parts)
    expected = (
        (1 - LEAK) * state
        + torch.einsum("bio,bi->bo", a, state)
        + torch.einsum("bio,bi->bo", b, action)
        + torch.einsum("bio,bi->bo", c, noise)
        + d.squeeze(1)
    )
    actual = transition(state, action, noise, weights)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_mixing_weights_are_a_distribution_that_depends_on_the_state_and_not_on_the_noise():
    transition = locally_linear()
    state, action, noise = inputs()
    alpha = mixing_weights(transition, state, action, noise)
    assert (alpha > 0).all()
    torch.testing.assert_close(alpha.sum(1), torch.ones(5))
    other = mixing_weights(transition, state, action, noise + 1)
    torch.testing.assert_close(alpha, other, atol=1e-4, rtol=1e-4)
    assert (alpha[0] - alpha[1]).abs().max() > 1e-3


def test_the_draw_is_the_posterior():
    transition = locally_linear()
    with torch.no_grad():
        transition.log_scale.fill_(-0.5)
    g = generator()
    draws = torch.stack([transition.draw(g) for _ in range(2000)])
    z = (draws.mean(0) - transition.mean) / (torch.tensor(-0.5).exp() / 2000**0.5)
    assert z.abs().max() < 4.5
    assert abs((draws - transition.mean).std() - torch.tensor(-0.5).exp()) < 0.01


def test_the_weights_kl_agrees_with_sampling_and_its_prior_is_optimal():
    transition = locally_linear()
    g = generator(2)
    with torch.no_grad():
        transition.log_scale.uniform_(-3, -1, generator=g)
    posterior = Normal(transition.mean, transition.log_scale.exp())
    optimal = (posterior.mean.square() + posterior.variance).mean().sqrt()

    def sampled(prior_scale):
        v = posterior.mean + posterior.stddev * torch.randn(
            4000, *posterior.mean.shape, generator=g
        )
        ratios = posterior.log_prob(v) - Normal(0.0, prior_scale).log_prob(v)
        return ratios.flatten(1).sum(1)

    with torch.no_grad():
        ratios = sampled(optimal)
        error = 4 * ratios.std() / len(ratios) ** 0.5
        assert abs(ratios.mean() - transition.weight_kl()) < error
        for factor in (0.8, 1.25):
            assert sampled(factor * optimal).mean() > transition.weight_kl() + error


@pytest.mark.parametrize("leak", [0.0, 0.4])
def test_without_weights_all_that_happens_is_the_leak(leak):
    state, action, noise = inputs()
    network = MLPTransition(3, 2, 3, 6, 1e-4, leak, generator())
    with torch.no_grad():
        for parameter in network.network.parameters():
            parameter.zero_()
    for transition in (locally_linear(0, 1e-4, leak=leak), network):
        after = transition(state, action, noise)
        torch.testing.assert_close(after, (1 - leak) * state, atol=2e-3, rtol=0)


def test_the_mlp_is_affine_in_the_noise_and_free_of_weight_cost():
    transition = MLPTransition(3, 2, 3, 6, 1.0, LEAK, generator())
    state, action, noise = inputs()
    zero = torch.zeros_like(noise)
    still = transition(state, action, zero)
    once = transition(state, action, noise) - still
    twice = transition(state, action, 2 * noise) - still
    assert once.abs().max() > 0.01
    torch.testing.assert_close(twice, 2 * once)
    assert transition.weight_kl() == 0 and transition.draw(generator()) is None


def test_coupling_is_a_random_part_that_all_base_matrices_share():
    alone, coupled = locally_linear().mean, locally_linear(coupling=0.5).mean
    shared = (coupled - alone).detach()
    torch.testing.assert_close(shared, shared[:1].expand_as(shared))
    assert 0.3 < shared[0].std() < 0.7
    torch.testing.assert_close(locally_linear(coupling=1.0).mean - alone, 2 * shared)


def test_a_switching_gate_has_sharper_weights_and_the_same_matrices():
    state, action, noise = inputs()
    shares = []
    for gate in ("smooth", "switching"):
        transition = locally_linear(gate=gate)
        torch.testing.assert_close(transition.mean, locally_linear().mean)
        shares.append(mixing_weights(transition, state, action, noise).amax(1).mean())
    assert shares[1] > 1.3 * shares[0]


def test_the_sharpness_of_a_switching_gate_is_learned():
    transition = locally_linear(gate="switching")
    state, action, noise = inputs()
    before = mixing_weights(transition, state, action, noise)
    assert locally_linear().log_sharpness is None
    transition(state, action, noise).square().sum().backward()
    assert transition.log_sharpness.grad.abs() > 0
    with torch.no_grad():
        transition.log_sharpness.fill_(0.1 * torch.tensor(3.0).log())
    after = mixing_weights(transition, state, action, noise)
    expected = before**3 / (before**3).sum(1, keepdim=True)
    torch.testing.assert_close(after, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("init_scale", 0.0),
        ("init_scale", torch.inf),
        ("coupling", -0.1),
    ],
)
def test_scales_that_cannot_be_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"{name} must be finite.*got {value}"):
        tiny_config(transition={name: value})


def test_a_factorial_gate_adds_matrices_to_one_that_always_counts():
    transition = locally_linear(gate="factorial", leak=0.1, coupling=0.5)
    state, action, noise = inputs()
    known = torch.cat([state, action], 1)
    gates = transition.mixing(known)[:, 1:].sigmoid()
    assert gates.mean() < 0.4
    base = transition.mean[0] + torch.einsum("bm,mil->bil", gates, transition.mean[1:])
    row = torch.cat([known, noise, torch.ones(len(state), 1)], 1)
    expected = 0.9 * state + torch.einsum("bi,bil->bl", row, base)
    torch.testing.assert_close(transition(state, action, noise), expected)
    gain = transition.gain(state, action)
    torch.testing.assert_close(gain, base[:, known.shape[1] : -1])
    alone = locally_linear(gate="factorial", leak=0.1).mean
    assert torch.equal(alone[1:], transition.mean[1:])
    assert 0.3 < (transition.mean - alone)[0].std() < 0.7
