"""Devices and precisions that are asked for, and those that are there."""

import dataclasses
import shutil
from functools import partial

import pytest
import torch
from small import PIXELS, VECTOR, random_dataset, small_model, tiny_model

from worldmodel import device as module
from worldmodel.cli import main
from worldmodel.device import Numerics, pick_device
from worldmodel.errors import ConfigError, DeviceError
from worldmodel.models.registry import MODELS
from worldmodel.training.compiling import compile_networks
from worldmodel.training.config import TrainConfig
from worldmodel.training.state import restore_generator
from worldmodel.training.trainer import Trainer
from worldmodel.world.world import load

CPU = torch.device("cpu")
CONFIG = TrainConfig(updates=6, batch_size=8, window=5, validate_every=3, tensorboard=False)
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def make(folder, place=CPU, **changes):
    model = tiny_model(PIXELS).to(place)
    return Trainer(model, random_dataset(PIXELS), dataclasses.replace(CONFIG, **changes), folder)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(module, "devices", lambda: ("cuda:0", "cuda:1", "cpu"))


def test_names_mean_what_is_there(two_gpus, monkeypatch):
    assert pick_device("cpu") == CPU
    assert [str(pick_device(n)) for n in ("auto", "cuda", "cuda:1")] == ["cuda:0"] * 2 + ["cuda:1"]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [str(pick_device(n)) for n in ("auto", "cuda", "cuda:0")] == ["cuda:1"] * 2 + ["cuda:0"]


def test_a_device_that_is_not_there_is_refused_with_those_that_are(two_gpus, capsys):
    with pytest.raises(DeviceError, match="no device cuda:7; there is cuda:0, cuda:1, cpu"):
        pick_device("cuda:7")
    with pytest.raises(ConfigError, match=r"device must be .* got 'tpu'"):
        pick_device("tpu")
    with pytest.raises(SystemExit) as exit:
        main(["bench", "pendulum", "--device", "mps"])
    assert exit.value.code == 1 and "no device mps" in capsys.readouterr().err


def test_a_precision_that_a_device_lacks_is_refused(tmp_path):
    with pytest.raises(DeviceError, match="device cpu has no precision fp16"):
        make(tmp_path, precision="fp16")


def test_products_are_of_sixteen_bits_and_weights_of_thirty_two(tmp_path):
    whole, half = (make(tmp_path / p, precision=p) for p in ("fp32", "bf16"))
    seen = []
    half.model.initial_network.frame.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    ours, theirs = half.step(), whole.step()
    assert seen == [torch.bfloat16]
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    assert all(p.grad.dtype == torch.float32 for p in half.model.parameters() if p.grad is not None)
    for name in ("reconstruction", "rate"):
        exact = getattr(theirs, name)
        error = (getattr(ours, name) - exact).abs().mean() / exact.abs().mean()
        assert 0 < error < 0.02, name
    half.fit(progress=False)
    assert load(tmp_path / "bf16").model.dtype == torch.float32


FUSION = {"recognition": {"kind": "fusion"}}
KINDS = {name: partial(small_model, name, VECTOR) for name in MODELS} | {
    "fusion": partial(tiny_model, **FUSION),
    "fusion, factorial": partial(tiny_model, **FUSION, transition={"gate": "factorial"}),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_model_learns_in_sixteen_bits(kind, tmp_path):
    """Also where inference is a loop with a gradient of its own."""
    found = {}
    for precision in ("fp32", "bf16"):
        config = dataclasses.replace(CONFIG, updates=2, validate_every=2, precision=precision)
        trainer = Trainer(kind(), random_dataset(VECTOR), config, tmp_path / precision)
        trainer.step()
        weights = torch.nn.utils.parameters_to_vector(trainer.model.parameters())
        found[precision] = trainer.validate()["validation/prediction_mse"], weights
        trainer.fit(progress=False)
    (whole, exact), (half, near) = found["fp32"], found["bf16"]
    assert half == pytest.approx(whole, rel=0.05) and not torch.equal(near, exact)
    assert (near - exact).abs().max() < 0.01


def test_a_scaled_gradient_is_the_true_one_and_an_overflow_is_no_update(monkeypatch):
    monkeypatch.setattr(module, "has_precision", lambda *_: True)
    weight = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = torch.optim.SGD([weight], 0.1)
    numerics = Numerics("fp16", CPU)
    numerics.backward(weight.square().sum(), optimizer)
    assert weight.grad is not None and weight.grad.item() == 6
    numerics.step(optimizer)
    assert weight.item() == pytest.approx(2.4)
    scale = numerics.state_dict()["scale"]
    optimizer.zero_grad()
    numerics.backward((weight * torch.inf).sum(), optimizer)
    numerics.step(optimizer)
    assert weight.item() == pytest.approx(2.4) and numerics.state_dict()["scale"] == scale / 2
    again = Numerics("fp16", CPU)
    again.load_state_dict(numerics.state_dict())
    assert again.state_dict() == numerics.state_dict() and again.forgives


def test_a_generator_goes_on_where_it_can_and_begins_anew_where_not():
    first, second = torch.Generator().manual_seed(3), torch.Generator()
    torch.rand(5, generator=first)
    restore_generator(second, first.get_state(), 7)
    assert torch.equal(torch.rand(5, generator=first), torch.rand(5, generator=second))
    restore_generator(second, torch.zeros(16, dtype=torch.uint8), 7)  # as of a GPU
    expected = torch.rand(5, generator=torch.Generator().manual_seed(7))
    assert torch.equal(torch.rand(5, generator=second), expected)


def test_what_is_not_compiled_says_why(tmp_path, monkeypatch):
    assert make(tmp_path / "a").compiled is False
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "C++ compiler" in str(make(tmp_path / "b", compile=True).compiled)
    monkeypatch.setattr("worldmodel.training.compiling.find_spec", lambda name: None)
    assert "triton" in str(compile_networks(torch.nn.Linear(1, 1), torch.device("cuda")))


@pytest.mark.gpu
@GPU
def test_a_gpu_learns_what_the_host_does_and_its_checkpoint_loads_on_either(tmp_path):
    gpu = torch.device("cuda")
    there = make(tmp_path / "gpu", gpu)
    there.fit(progress=False)
    world = load(tmp_path / "gpu")
    assert world.model.device == CPU
    again = make(tmp_path / "gpu", updates=9)  # on the host
    assert again.update == 6
    again.fit(progress=False)
    batch = random_dataset(PIXELS).validation.padded()
    here = world.filter(batch.observations, batch.actions)
    moved = world.to(gpu).filter(batch.observations, batch.actions)
    assert abs(here - moved).max() < 1e-4


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_gpu_computes_in_every_precision(tmp_path, precision):
    make(tmp_path, torch.device("cuda"), precision=precision).fit(progress=False)


@pytest.mark.gpu
@GPU
def test_dreams_on_a_gpu_are_those_of_the_host():
    world = load("pendulum")
    actions, seen = torch.zeros(64, 1), []
    for place in ("cpu", "cuda"):
        env = world.to(place).vector_env(64, noise=False)
        env.reset(seed=0, options={"state": world.support.states[:64].cpu().numpy()})
        for _ in range(10):
            step = env.torch_step(actions.to(place))
        assert step.observations.device.type == place
        seen.append(step.observations.cpu())
    torch.testing.assert_close(*seen, rtol=1e-3, atol=1e-3)
