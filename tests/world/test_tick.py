import numpy as np
import pytest
import torch
from small import BOX, DISCRETE, generator, random_batch, tiny_model

from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.tick import FusedTick, TensorTick, make_tick


def dynamics(actions=BOX, **changes) -> Dynamics:
    """Of a model with reward and action scalings, and a support that holds half of the states."""
    model = tiny_model(actions=actions, **({"leak": 0.3} | changes)).requires_grad_(False)
    model.calibrate(random_batch(actions=actions))
    if changes.get("gate", "smooth") != "smooth":
        model.transition_model.log_sharpness.fill_(0.05)
    states = 0.5 * torch.randn(2000, model.latent_size, generator=generator())
    model.support.fit(states, states[:200])
    return Dynamics(model)


def inputs(core: Dynamics, n: int, seed: int = 1):
    """States, model actions and noise as a tick takes them."""
    g, model = generator(seed), core.model
    actions = torch.rand(n, model.action_spec.size, generator=g).numpy()
    return (
        torch.randn(model.latent_size, n, generator=g).numpy(),
        actions,
        torch.randn(model.noise_size, n, generator=g),
    )


def both(core: Dynamics, n: int) -> tuple[FusedTick, TensorTick]:
    box = latent_box(core.model)
    fused = make_tick(core, box, n)
    assert isinstance(fused, FusedTick)
    return fused, TensorTick(core, box)


@pytest.mark.parametrize("n", [1, 7, 256, 600])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gate": "switching", "mixing_hidden": 7, "latent_size": 1},
        {"base_matrices": 5, "latent_size": 4, "head_hidden": 64, "actions": DISCRETE},
        {"noise_floor": 0.1},
        {"gate": "factorial", "base_matrices": 6},
    ],
    ids=["smooth", "switching", "discrete", "floored", "factorial"],
)
def test_compiled_and_tensor_steps_agree(changes, n):
    core = dynamics(**changes)
    fused, tensor = both(core, n)
    states, actions, noise = inputs(core, n)
    for draws in (noise, None):
        ours, theirs = fused(states, actions, draws), tensor(states, actions, draws)
        for name in ("states", "observations", "rewards"):
            a, b = getattr(ours, name), getattr(theirs, name)
            assert a.dtype == b.dtype == np.float32
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)
        for name in ("terminated", "outside", "finite"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), name)
    assert n < 100 or 0 < ours.outside.mean() < 1


def test_terminations_are_the_models():
    core = dynamics()
    core.model.termination_head.seen.fill_(True)
    core.model.termination_head.logit[-1].bias.zero_()
    fused, tensor = both(Dynamics(core.model), 300)
    ours, theirs = (tick(*inputs(core, 300)).terminated for tick in (fused, tensor))
    assert 0 < ours.mean() < 1
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_said_and_outside(bad):
    core = dynamics()
    states, actions, noise = inputs(core, 300)
    for tick in both(core, 300):
        assert tick(states, actions, noise).finite
        broken = states.copy()
        broken[1, 299] = bad
        arrays = tick(broken, actions, noise)
        assert not arrays.finite
        assert arrays.outside[299]


def test_a_tick_leaves_its_inputs_and_what_it_gave_alone():
    core = dynamics()
    states, actions, noise = inputs(core, 300)
    before = states.copy(), actions.copy(), noise.clone()
    for tick in both(core, 300):
        first = tick(states, actions, noise)
        kept = [np.copy(array) for array in first]
        tick(first.states, actions, None)
        for array, copy in zip(first, kept, strict=True):
            np.testing.assert_array_equal(array, copy)
    for array, copy in zip((states, actions, noise), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_without_the_extra_or_for_another_model_tensors_are_stepped(monkeypatch, model):
    box = latent_box(model)
    assert isinstance(make_tick(Dynamics(model), box, 2), TensorTick)
    core = dynamics()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert isinstance(make_tick(core, latent_box(core.model), 2), TensorTick)
