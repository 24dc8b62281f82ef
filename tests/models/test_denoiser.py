import math
from dataclasses import replace

import pytest
import torch
from small import PIXELS, generator, random_batch, random_dataset, small_model

from agents.empowerment import Dynamics, denoised
from worldmodel.errors import ConfigError
from worldmodel.models.denoiser import Denoiser, DenoiserConfig, fit_denoiser
from worldmodel.models.registry import MODELS
from worldmodel.training.config import TrainConfig
from worldmodel.training.trainer import Trainer
from worldmodel.world.checkpoint import load


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


def test_half_its_move_leads_half_the_way_back():
    config = DenoiserConfig(updates=800, hidden=32)
    whole, half = (
        fit_denoiser(circle(1000), replace(config, share=share), progress=False)
        for share in (1.0, 0.5)
    )
    beside = circle(200, 1.15, seed=1)
    torch.testing.assert_close(half(beside) - beside, (whole(beside) - beside) / 2)


def test_before_it_is_fitted_it_moves_nothing():
    beside = circle(10, 0.8)
    assert torch.equal(Denoiser(2)(beside), beside)


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].takes_pixels])
def test_a_model_that_denoises_does_so_in_dreams_and_nowhere_else(name, monkeypatch, tmp_path):
    brief = DenoiserConfig(noise=0.1, updates=20, hidden=8)
    monkeypatch.setattr("worldmodel.models.learned._denoising", lambda noise: brief)
    plain, model = (small_model(name, PIXELS, denoise=noise) for noise in (0.0, 0.1))
    plain.load_state_dict(model.state_dict(), strict=False)
    batch = random_batch(PIXELS)
    state, action = model.initial_prior(5, generator()), batch.actions[:, 0]
    assert torch.equal(model.transition(state, action), plain.transition(state, action))
    train = TrainConfig(updates=2, batch_size=4, window=3, validate_every=1, tensorboard=False)
    trained = Trainer(model, random_dataset(PIXELS), train, tmp_path).fit(progress=False)
    plain.load_state_dict(trained.state_dict(), strict=False)
    reached = plain.transition(state, action)
    with torch.no_grad():
        assert torch.equal(trained.transition(state, action), trained.denoiser(reached))
        assert not torch.allclose(trained.denoiser(reached), reached)
    assert torch.equal(load(tmp_path).transition(state, action), trained.denoiser(reached))
    observations, actions = batch.observations, batch.actions
    believed = [m.filter_beliefs(observations, actions).mean for m in (trained, plain)]
    assert torch.equal(*believed)


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].takes_pixels])
@pytest.mark.parametrize("noise", [-0.1, math.inf, math.nan])
def test_a_setting_that_cannot_be_is_refused(name, noise):
    with pytest.raises(ConfigError, match="denoise"):
        replace(small_model(name, PIXELS).config, denoise=noise)


def test_what_cannot_be_is_refused():
    bad_ones = [{"noise": 0.0}, {"noise": math.nan}, {"updates": 0}, {"hidden": 0}]
    for bad in [*bad_ones, {"share": 0.0}, {"share": 1.1}]:
        with pytest.raises(ConfigError, match=next(iter(bad))):
            DenoiserConfig(**bad)
