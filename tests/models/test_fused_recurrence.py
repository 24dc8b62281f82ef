"""The recurrent loop with its gradient written out, against the loop that autograd records."""

import pytest
import torch
from small import generator

from worldmodel.models.fused_recurrence import infer_fused
from worldmodel.models.recurrence import Recurrence
from worldmodel.models.stochastic import CategoricalLatents, GaussianLatents

SIZE, STEPS, FEATURES, ACTIONS, HIDDEN = 4, 5, 3, 2, 7
KINDS = {"gaussian": GaussianLatents(3), "categorical": CategoricalLatents(2, 3)}


def plain(part, latents, features, controls, h, z, draws, blind, seen):
    """As the paper says it."""
    found = []
    for t in range(STEPS):
        h = part.step(h, z, controls[t])
        posterior, prior = part.infer(part.context(features[t]), h), part.prior(h)
        told, dreamt = latents.draw(posterior, draws[t]), latents.draw(prior, blind[t])
        z = torch.where(seen[t], told, dreamt)
        found.append((h, z, posterior, prior))
    return [torch.stack(each) for each in zip(*found, strict=True)]


def outcome(function, part, latents, given):
    """Path, and the gradients of a random sum of it to all weights, features, h and z."""
    wanted = {"features": given[0], "h": given[2], "z": given[3], **dict(part.named_parameters())}
    found = function(part, latents, *given)
    g = generator(3)
    loss = sum((x * torch.randn(x.shape, generator=g).to(x)).sum() for x in found)
    return found, dict(zip(wanted, torch.autograd.grad(loss, list(wanted.values())), strict=True))


@pytest.mark.parametrize("seen", [0.6, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_path_and_gradients_are_those_of_the_plain_loop(kind, seen):
    latents, g = KINDS[kind], generator(1)
    torch.manual_seed(0)
    part = Recurrence(FEATURES, ACTIONS, 6, latents.size, latents.raw_size, HIDDEN).double()

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    features, controls = draw(STEPS, SIZE, FEATURES).requires_grad_(), draw(STEPS, SIZE, ACTIONS)
    h, z = draw(SIZE, 6).tanh().requires_grad_(), draw(SIZE, latents.size).requires_grad_()
    draws, blind = (draw(STEPS, SIZE, latents.noise_size) for _ in range(2))
    look = torch.rand(STEPS, SIZE, 1, generator=g) < seen
    assert look.all() == (seen == 1)
    given = (features, controls, h, z, draws, blind, look)
    path, gradients = outcome(infer_fused, part, latents, given)
    expected, slopes = outcome(plain, part, latents, given)
    for ours, theirs in zip(path, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    for name, slope in slopes.items():
        assert slope.abs().max() > 0, name
        torch.testing.assert_close(gradients[name], slope, msg=name)
