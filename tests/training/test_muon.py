"""Muon, against torch's own, against singular vectors, and as a run that goes on."""

from dataclasses import replace

import pytest
import torch
from interrupted import CONFIG
from small import PIXELS, random_dataset, tiny_model
from torch import nn

from worldmodel.training.muon import Muon, build_optimizer, orthogonalised
from worldmodel.training.trainer import Trainer


@pytest.mark.parametrize("shape", [(16, 16), (16, 40), (40, 16), (1, 5)])
def test_singular_vectors_stay_and_singular_values_are_about_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonalised(7.0 * matrix) @ right.T
    told = values > 0.01 * values.max()
    assert ((found.diagonal() > 0.6) & (found.diagonal() < 1.3))[told].all()
    torch.testing.assert_close(found, found.diagonal().diag(), atol=1e-4, rtol=0)


def test_nothing_to_learn_moves_nothing():
    assert torch.equal(orthogonalised(torch.zeros(20, 30)), torch.zeros(20, 30))


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(70, 80), nn.Tanh(), nn.Linear(80, 2))


def muon(network, rate=1e-2):
    return Muon(network.parameters(), network.parameters(), rate)


def train(network, optimizers, steps):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        inputs = torch.randn(30, 70, generator=generator)
        for optimizer in optimizers:
            optimizer.zero_grad()
        (network(inputs) - inputs[:, :2]).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="older versions of torch have none")
def test_matrices_move_as_by_torchs_own_and_all_else_as_by_adam():
    ours, theirs = model(), model()
    wide = theirs.get_parameter("0.weight")
    rest = [p for p in theirs.parameters() if p is not wide]
    own = torch.optim.Muon([wide], 1e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    before = wide.detach().clone()
    train(ours, [muon(ours)], 5)
    train(theirs, [own, torch.optim.Adam(rest, 1e-2)], 5)
    moved, expected = ours.get_parameter("0.weight") - before, wide - before
    # Theirs is rounded to 16 bits.
    assert (moved - expected).norm() < 0.06 * expected.norm()
    for name, value in ours.named_parameters():
        torch.testing.assert_close(value, theirs.get_parameter(name), atol=3e-3, rtol=0)


def test_matrices_that_take_too_long_are_left_to_adam():
    ours, theirs = (nn.Linear(140, 129, bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    inputs = torch.randn(30, 140, generator=torch.Generator().manual_seed(1))
    for network, optimizer in (
        (ours, muon(ours)),
        (theirs, torch.optim.Adam(theirs.parameters(), 1e-2)),
    ):
        network(inputs).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_it_goes_on_from_its_state_bit_for_bit():
    straight, stopped = model(), model()
    train(straight, [muon(straight)], 6)
    first = muon(stopped)
    generator = torch.Generator().manual_seed(1)
    for update in range(6):
        inputs = torch.randn(30, 70, generator=generator)
        if update == 3:
            first, state = muon(stopped, 0.5), first.state_dict()
            first.load_state_dict(state)
        first.zero_grad()
        (stopped(inputs) - inputs[:, :2]).square().mean().backward()
        first.step()
    for ours, theirs in zip(stopped.parameters(), straight.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_wide_matrices_of_the_emission_are_muons_and_nothing_else_is():
    model = tiny_model(PIXELS, codec={"hidden": 64, "depth": 3})
    optimizer = build_optimizer(model, "muon", 1e-2)
    wide = [w for w in model.emission.parameters() if w.ndim == 2 and min(w.shape) >= 64]
    adams, muons = (group["params"] for group in optimizer.param_groups)
    assert wide and list(map(id, muons)) == list(map(id, wide))
    assert len(adams) + len(muons) == len(list(model.parameters()))


def test_a_model_without_wide_matrices_is_adams():
    network = nn.Linear(3, 2)
    (group,) = muon(network).param_groups
    assert group["params"] == list(network.parameters())


def test_a_run_that_is_stopped_goes_on_bit_for_bit(tmp_path):
    config = replace(CONFIG, updates=12, optimizer="muon")

    def trainer(folder):
        model = tiny_model(PIXELS, codec={"hidden": 64, "depth": 3})
        return Trainer(model, random_dataset(PIXELS), config, folder)

    straight, stopped = trainer(tmp_path / "straight"), trainer(tmp_path / "stopped")
    for _ in range(12):
        straight.step()
    for _ in range(5):
        stopped.step()
    stopped.checkpoint()
    gone_on = trainer(tmp_path / "stopped")
    assert gone_on.update == 5
    for _ in range(7):
        gone_on.step()
    theirs = straight.model.state_dict()
    for name, ours in gone_on.model.state_dict().items():
        assert torch.equal(ours, theirs[name]), name
