import math
from dataclasses import replace

import pytest
import torch
from small import PIXELS, generator, random_batch, random_dataset, small_model

from worldmodel.errors import ConfigError
from worldmodel.models.registry import fitting
from worldmodel.training import dreaming
from worldmodel.training.config import TrainConfig
from worldmodel.training.dreaming import DreamConfig
from worldmodel.training.trainer import Trainer
from worldmodel.world.denoiser import Denoiser, DenoiserConfig, fit_denoiser
from worldmodel.world.dynamics import Dynamics
from worldmodel.world.world import World, load


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

    def shrink(states):
        return 0.9 * states @ turn

    start = circle(5, seed=3)
    lost, held = start, start
    for _ in range(20):
        lost, held = shrink(lost), denoiser(shrink(held))
    assert (lost.norm(dim=1) < 0.2).all()
    torch.testing.assert_close(held.norm(dim=1), torch.ones(5), atol=0.15, rtol=0)
    turned = math.acos(float((held[0] @ start[0]) / (held[0].norm() * start[0].norm())))
    assert turned == pytest.approx(2.0, abs=0.3)


def test_the_same_seed_gives_the_same_denoiser():
    states, config = circle(100), DenoiserConfig(updates=5, hidden=4)
    first, second = (fit_denoiser(states, config, progress=False)(states) for _ in range(2))
    other = fit_denoiser(states, DenoiserConfig(updates=5, hidden=4, seed=1), progress=False)
    assert torch.equal(first, second) and not torch.equal(first, other(states))


def test_half_its_move_leads_half_the_way_back():
    config = DenoiserConfig(updates=800, hidden=32)
    whole, half = (
        fit_denoiser(circle(1000), replace(config, fraction=fraction), progress=False)
        for fraction in (1.0, 0.5)
    )
    beside = circle(200, 1.15, seed=1)
    torch.testing.assert_close(half(beside) - beside, (whole(beside) - beside) / 2)


def test_a_small_network_is_taught_what_a_large_one_learned():
    config = DenoiserConfig(updates=1500, hidden=32)
    large, small = (
        fit_denoiser(circle(1000), replace(config, distilled=distilled), progress=False)
        for distilled in (0, 12)
    )
    assert [len(layer.weight) for layer in small.network[::2]] == [12, 12, 2]
    beside = torch.cat([circle(200, radius, seed=1) for radius in (0.85, 1.0, 1.15)])
    moves, taught = large(beside) - beside, small(beside) - beside
    assert (taught - moves).square().mean() < 0.1 * moves.square().mean()


def test_before_it_is_fitted_it_moves_nothing():
    beside = circle(10, 0.8)
    assert torch.equal(Denoiser(2)(beside), beside)


@pytest.mark.parametrize("name", fitting(PIXELS))
def test_a_world_denoises_in_dreams_and_nowhere_else(name, monkeypatch, tmp_path):
    brief = {"updates": 20, "hidden": 8}
    monkeypatch.setattr(dreaming, "FITTED", brief)
    batch, model = random_batch(PIXELS), small_model(name, PIXELS)
    state, action = model.initial_prior(5, generator()), batch.actions[:, 0]
    train = TrainConfig(updates=2, batch_size=4, window=3, validate_every=1, tensorboard=False)
    train = replace(train, dreaming=DreamConfig(0.1))
    world = Trainer(model, random_dataset(PIXELS), train, tmp_path).fit(progress=False)
    assert world.denoiser is not None
    with torch.no_grad():
        reached = world.model.transition(state, action)
        once = world.denoiser(reached)
        assert not torch.allclose(once, reached)
        assert torch.equal(world.transition(state, action), once)
        assert torch.equal(Dynamics(world).step(state, action, None).next_state, once)
        assert torch.equal(load(tmp_path).transition(state, action), once)
        plain = World(world.model)
        assert torch.equal(plain.transition(state, action), reached)


@pytest.mark.parametrize("noise", [-0.1, math.inf, math.nan])
def test_a_setting_that_cannot_be_is_refused(noise):
    with pytest.raises(ConfigError, match="denoise"):
        DreamConfig(noise)


def test_what_cannot_be_is_refused():
    bad_ones = [
        {"noise": 0.0},
        {"noise": math.nan},
        {"updates": 0},
        {"hidden": 0},
        {"distilled": -1},
    ]
    for bad in [*bad_ones, {"fraction": 0.0}, {"fraction": 1.1}]:
        with pytest.raises(ConfigError, match=next(iter(bad))):
            DenoiserConfig(**bad)
