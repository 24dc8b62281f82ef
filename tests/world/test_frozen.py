import pytest
import torch
from small import BOX, DISCRETE, generator, random_batch, tiny_model

from worldmodel.world.dynamics import Dynamics
from worldmodel.world.frozen import FrozenDVBF, freeze

ACTIONS = pytest.mark.parametrize("actions", [BOX, DISCRETE], ids=["box", "discrete"])


def trained(actions=BOX, **changes):
    """A model whose reward and action scalings are not the identity."""
    model = tiny_model(actions=actions, leak=0.3, **changes)
    model.calibrate(random_batch(actions=actions))
    return model.requires_grad_(False)


def draws(model, n=17, seed=1):
    """States, actions in the environment's units (some beyond their bounds), and noise."""
    g = generator(seed)
    action = 3 * torch.randn(n, model.action_spec.size, generator=g)
    state, noise = torch.randn(2, n, model.latent_size, generator=g)
    return state, action, noise


@ACTIONS
@pytest.mark.parametrize("gate", ["smooth", "switching", "factorial"])
@pytest.mark.parametrize("latent", [1, 3])
@pytest.mark.parametrize("n", [1, 17])
def test_it_is_the_model(actions, gate, latent, n):
    model = trained(actions, latent_size=latent, gate=gate)
    if gate != "smooth":
        model.transition_model.log_sharpness.fill_(0.05)
    frozen = freeze(model)
    assert isinstance(frozen, FrozenDVBF)
    state, action, noise = draws(model, n)
    for w in (noise, None):
        arrived = model.transition(state, action, w)
        torch.testing.assert_close(frozen.transition(state, action, w), arrived)
    torch.testing.assert_close(
        frozen.reward(state, action, arrived), model.reward(state, action, arrived)
    )


@pytest.mark.parametrize("gate", ["smooth", "factorial"])
def test_a_floor_under_the_noise_is_part_of_it(gate):
    model = trained(noise_floor=0.3, gate=gate)
    frozen, (state, action, noise) = freeze(model), draws(model)
    assert isinstance(frozen, FrozenDVBF)
    for w in (noise, None):
        expected = model.transition(state, action, w)
        torch.testing.assert_close(frozen.transition(state, action, w), expected)


def test_memory_order_does_not_matter():
    model = trained()
    frozen = freeze(model)
    rows = draws(model)
    columns = [t.T.contiguous().T for t in rows]
    assert torch.equal(frozen.transition(*rows), frozen.transition(*columns))
    assert torch.equal(frozen.reward(*rows), frozen.reward(*columns))


@pytest.mark.parametrize("which", ["transition", "reward"])
def test_gradients_are_the_models(which):
    model = trained()
    dynamics = Dynamics(model)
    with torch.inference_mode():
        dynamics.step(*draws(model))  # must leave nothing behind that autograd refuses
    frozen = dynamics.frozen
    for batch in (17, 4):
        inputs = [t.requires_grad_() for t in draws(model, batch)]
        ours, theirs = (
            torch.autograd.grad(getattr(source, which)(*inputs).square().sum(), inputs)
            for source in (frozen, model)
        )
        for a, b in zip(ours, theirs, strict=True):
            assert b.abs().max() > 1e-3
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_training_on_does_not_reach_it():
    model = trained()
    frozen, inputs = freeze(model), draws(model)
    before = frozen.transition(*inputs), frozen.reward(*inputs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert torch.equal(before[0], frozen.transition(*inputs))
    assert torch.equal(before[1], frozen.reward(*inputs))
    assert not torch.allclose(before[0], freeze(model).transition(*inputs))


def test_freezing_leaves_the_model_alone():
    model = trained()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    freeze(model).transition(*draws(model))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_other_models_stand_for_themselves(model):
    assert freeze(model) is model
    mlp = trained(transition="mlp")
    assert freeze(mlp) is mlp
    state, action, noise = draws(mlp)
    mlp.support.fit(torch.randn(4000, 3, generator=generator()), torch.randn(1000, 3))
    step = Dynamics(mlp).step(state, action, noise)
    torch.testing.assert_close(step.next_state, mlp.transition(state, action, noise))
