"""The loop with its gradient written out, against the loop that autograd records."""

import pytest
import torch
from small import BOX, VECTOR, generator, random_batch, tiny_model

from worldmodel.models import fused_fusion, fused_inference
from worldmodel.models.inference import infer

SIZE, STEPS = 4, 5


def network(**transition):
    return {"transition": transition}


def fusion(**transition):
    recognition = {"kind": "fusion", "reading_scale": 0.5}
    return {"recognition": recognition, "transition": {"init_scale": 0.4} | transition}


KINDS = [
    network(),
    network(gate="switching", coupling=0.3),
    network(gate="factorial", base_matrices=5),
    network(bound=0.8, leak=0.0),
    network(gate="factorial", bound=0.5, base_matrices=4),
    fusion(),
    fusion(gate="switching", noise_floor=0.3),
    fusion(gate="factorial", bound=0.7, base_matrices=4),
    fusion(noise_floor=0.02, bound=1.2),
]


def fused(model):
    """The module with a loop for this model's parts, if there is one."""
    parts = model.recognition, model.transition_model
    found = [m for m in (fused_inference, fused_fusion) if m.can_fuse(*parts)]
    assert len(found) <= 1
    return found[0].infer_fused if found else None


def case(changes):
    """Parts in 64 bits, and what they are given; some frames are not looked at."""
    model = tiny_model(VECTOR, BOX, **changes).double()
    g = generator(1)

    def draw(*shape):
        return torch.randn(STEPS, SIZE, *shape, generator=g, dtype=torch.float64)

    seen = torch.rand(STEPS, SIZE, 1, generator=g) < 0.7
    assert 0 < seen.sum() < seen.numel()
    start = draw(3)[0].requires_grad_()
    features, controls, draws, unseen = draw(3).requires_grad_(), draw(2), draw(3), draw(3)
    return model, (features, controls, start, draws, unseen, seen)


def outcome(function, model, given):
    """Path, and the gradients of a random sum of it to start, features and all weights."""
    features, _, start = given[:3]
    model.zero_grad()
    features.grad = start.grad = None
    weights = model.transition_model.draw(generator(2))
    found = function(model.recognition, model.transition_model, *given, weights)
    g = generator(3)
    sum((x * torch.randn(x.shape, generator=g).to(x)).sum() for x in found).backward()
    gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    return found, gradients | {"features": features.grad, "start": start.grad}


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_the_fused_loop_is_the_plain_loop(changes):
    model, given = case(changes)
    (plain, expected), (quick, found) = (outcome(f, model, given) for f in (infer, fused(model)))
    if bound := changes["transition"].get("bound"):
        share = (plain.states[1:].abs() == bound).double().mean()
        assert 0.05 < share < 0.95, "the bound must matter, and not always"
    for name in plain._fields:
        torch.testing.assert_close(getattr(quick, name), getattr(plain, name), msg=name)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.abs().max() > 0, name
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.parametrize("changes", [KINDS[0], KINDS[2], *KINDS[5:]], ids=str)
def test_its_gradient_is_that_of_finite_differences(changes):
    model, (features, controls, start, *rest) = case(changes)
    base = model.transition_model.draw(generator()).detach().requires_grad_()

    def run(features, start, base):
        parts = model.recognition, model.transition_model
        return tuple(fused(model)(*parts, features, controls, start, *rest, base))

    assert torch.autograd.gradcheck(run, (features, start, base))


@pytest.mark.parametrize(
    "changes",
    [
        {"transition": {"kind": "mlp"}},
        {"transition": {"noise_floor": 0.02}},
        {"transition": {"kind": "mlp"}, "recognition": {"kind": "fusion"}},
    ],
    ids=str,
)
def test_other_parts_take_the_plain_loop(changes):
    model, batch = tiny_model(VECTOR, BOX, **changes), random_batch()
    assert fused(model) is None
    model.terms(batch, generator()).rate.sum().backward()


@pytest.mark.parametrize("changes", [network(), fusion()], ids=str)
def test_a_window_without_steps_is_its_start(changes):
    model, (features, controls, start, *rest) = case(changes)
    none = [x[:0] for x in (features, controls)], [x[:0] for x in rest]
    base = model.transition_model.draw(generator())
    parts = model.recognition, model.transition_model
    found = fused(model)(*parts, *none[0], start, *none[1], base)
    assert torch.equal(found.states, start.unsqueeze(0)) and len(found.means) == 0
    found.states.sum().backward()
    assert torch.equal(start.grad, torch.ones_like(start))
