import math

import pytest
import torch
from small import generator

from agents.empowerment import DenoiserConfig, Dynamics, denoised, fit_denoiser
from worldmodel.errors import ConfigError


def circle(count, radius=1.0, seed=0):
    angle = 2 * math.pi * torch.rand(count, generator=generator(seed))
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


@pytest.fixture(scope="module")
def denoiser():
    return fit_denoiser(circle(1000), DenoiserConfig(updates=800, hidden=32), progress=False)


def test_states_beside_a_circle_are_led_back_to_it(denoiser):
    for radius in (0.85, 1.15):
        beside = circle(200, radius, seed=1)
        led = denoiser(beside).norm(dim=1)
        assert ((led - 1).abs() < 0.5 * abs(radius - 1)).all()


def test_states_of_the_data_stay_where_they_are(denoiser):
    fresh = circle(200, seed=2)
    assert (denoiser(fresh) - fresh).norm(dim=1).mean() < 0.03


def test_a_dream_that_shrinks_no_longer_does(denoiser):
    """Turning by 0.1 rad and shrinking by a tenth per step, as averages of futures do."""
    turn = torch.tensor([[math.cos(0.1), math.sin(0.1)], [-math.sin(0.1), math.cos(0.1)]])
    shrinking = Dynamics(
        lambda z, u, w: 0.9 * z @ turn, lambda z: z, torch.tensor([-1.0]), torch.tensor([1.0])
    )
    kept, none = denoised(shrinking, denoiser), torch.zeros(5, 1)
    start = circle(5, seed=3)
    lost, held = start, start
    for _ in range(20):
        lost, held = shrinking.step(lost, none, none), kept.step(held, none, none)
    assert (lost.norm(dim=1) < 0.2).all()
    torch.testing.assert_close(held.norm(dim=1), torch.ones(5), atol=0.15, rtol=0)
    turned = math.acos(float((held[0] @ start[0]) / (held[0].norm() * start[0].norm())))
    assert turned == pytest.approx(2.0, abs=0.3)
    assert kept.low is shrinking.low and kept.observe is shrinking.observe


def test_the_same_seed_gives_the_same_denoiser():
    states, config = circle(100), DenoiserConfig(updates=5, hidden=4)
    first, second = (fit_denoiser(states, config, progress=False)(states) for _ in range(2))
    other = fit_denoiser(states, DenoiserConfig(updates=5, hidden=4, seed=1), progress=False)
    assert torch.equal(first, second) and not torch.equal(first, other(states))


def test_what_cannot_be_is_refused():
    for bad in ({"noise": 0.0}, {"noise": math.nan}, {"updates": 0}, {"hidden": 0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            DenoiserConfig(**bad)
