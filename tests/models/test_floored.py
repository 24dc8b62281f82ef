import pytest
import torch
from small import BOX, VECTOR, generator, random_batch, tiny_config, tiny_model

from worldmodel.errors import ConfigError
from worldmodel.models.floored import FlooredNoise
from worldmodel.models.transition import LocallyLinear


@pytest.fixture
def floored():
    mean = LocallyLinear(3, 2, 0, 4, 8, 0.5, 0.0, "smooth", 0.2, generator())
    return FlooredNoise(mean, 3, 0.05)


def test_noise_moves_every_dimension_by_its_scale(floored):
    state, action = torch.randn(4000, 3), torch.randn(1, 2).expand(4000, 2)
    noise = torch.randn(4000, 3, generator=generator())
    moved = floored(state, action, noise) - floored(state, action, torch.zeros(4000, 3))
    torch.testing.assert_close(moved, noise * floored.scale, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(floored.gain(state, action)[7], floored.scale.diag())


def test_no_parameter_takes_the_scale_below_its_floor(floored):
    with torch.no_grad():
        floored.excess.fill_(-100.0)
    assert (floored.scale >= 0.05).all()


def test_the_mean_keeps_its_weights(floored):
    state, action = torch.randn(5, 3), torch.randn(5, 2)
    weights = floored.draw(generator())
    expected = floored.mean(state, action, torch.zeros(5, 0), weights)
    assert torch.equal(floored(state, action, torch.zeros(5, 3), weights), expected)
    assert torch.equal(floored.weight_kl(), floored.mean.weight_kl())


@pytest.mark.parametrize("transition", ["locally-linear", "mlp"])
def test_a_model_with_a_floor_learns_from_every_part(transition):
    floored = {"kind": transition, "noise_floor": 0.02}
    model = tiny_model(VECTOR, BOX, transition=floored, recognition={"kind": "fusion"})
    batch = random_batch(VECTOR, BOX)
    terms = model.terms(batch, generator())
    (terms.rate.sum() + terms.distortion.sum() + terms.calibration.sum()).backward()
    silent = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is None}
    assert silent == {"reward_head", "termination_head"}


@pytest.mark.parametrize("floor", [-0.1, 1.0, float("nan")])
def test_a_senseless_floor_is_refused(floor):
    with pytest.raises(ConfigError, match=r"noise_floor must lie in \[0, 1\), got"):
        tiny_config(transition={"noise_floor": floor})
