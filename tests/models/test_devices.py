"""Models compute where they are: on a GPU no tensor of the host gets into a sum."""

import dataclasses

import pytest
import torch
from fake_gpu import fake_gpu
from small import PIXELS, SEVERAL, VECTOR, random_batch, small_model

from worldmodel.errors import SpecError
from worldmodel.models.registry import MODELS
from worldmodel.training.losses.constrained import Constrained, ConstrainedConfig


@pytest.mark.parametrize("observations", [VECTOR, PIXELS, SEVERAL], ids=["vector", "pixels", "all"])
@pytest.mark.parametrize("name", MODELS)
def test_a_loss_its_gradient_and_the_filter_stay_on_the_device(name, observations):
    try:
        model = small_model(name, observations)
    except SpecError as error:
        pytest.skip(str(error))
    batch = random_batch(observations)
    model.calibrate(batch)
    objective = Constrained(ConstrainedConfig())
    with fake_gpu() as move:
        move(model)
        batch = dataclasses.replace(batch, **{k: move(v) for k, v in batch.items()})
        observed = torch.ones(5, 7, dtype=torch.bool, device="fake")
        terms = model.terms(batch, torch.Generator(), observed, 3)
        loss = objective.loss(terms, 3)
        loss.backward()
        gradients = {p.grad.device.type for p in model.parameters() if p.grad is not None}
        assert {loss.device.type} == gradients == {"fake"}
        if name == "rssm":  # the loss is checked; its filter is one call of a GRU cell
            pytest.skip("a fake tensor has no fused GRU cell")
        belief = model.initial(batch.observations[:, :2], batch.actions[:, :1])
        belief = model.update(belief, batch.actions[:, 1], batch.observations[:, 2])
        assert model.predict(belief, batch.actions[:, 2]).mean.device.type == "fake"
        low, high = model.control_range
        assert {low.device.type, high.device.type} == {"fake"}


def test_the_fake_refuses_what_a_gpu_refuses():
    with fake_gpu() as move:
        there = move(torch.ones(3))
        with pytest.raises(RuntimeError, match="at least two devices"):
            there + torch.ones(3)
