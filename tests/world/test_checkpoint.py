import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small import (
    BOX,
    DISCRETE,
    PIXELS,
    SEVERAL,
    VECTOR,
    box,
    generator,
    random_batch,
    tiny_model,
)

import worldmodel
from worldmodel.errors import FileFormatError, SpecError
from worldmodel.types import to_numpy
from worldmodel.world import checkpoint
from worldmodel.world.denoiser import DenoiserConfig, fit_denoiser
from worldmodel.world.world import World, load


def fitted(observations=VECTOR, actions=BOX, transition="locally-linear"):
    model = tiny_model(observations, actions, transition={"kind": transition})
    batch = random_batch(observations, actions, size=60)
    model.calibrate(batch)
    states = model.initial_prior(3000, generator())
    world = World(model.eval())
    world.support.fit(states[:2000], states[2000:])
    return world, batch


@pytest.fixture
def saved(tmp_path):
    world, _ = fitted()
    return world.save(tmp_path / "run" / "checkpoint", {"r2": {"sin": 0.5}, "list": [1, 2]})


@pytest.mark.parametrize("transition", ["locally-linear", "mlp"])
@pytest.mark.parametrize("actions", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize(
    "observations", [PIXELS, VECTOR, SEVERAL], ids=["pixels", "vector", "several"]
)
def test_a_loaded_model_dreams_and_filters_identically(tmp_path, observations, actions, transition):
    world, batch = fitted(observations, actions, transition)
    copy = load(world.save(tmp_path / "model"))
    assert not copy.model.training and copy.model.config == world.model.config
    assert copy.model.observation_spec == observations and copy.model.action_spec == actions
    frames, controls = to_numpy(batch.observations), batch.actions.numpy()
    latents = world.filter(frames, controls, prefix=3)
    assert np.array_equal(copy.filter(frames, controls, prefix=3), latents)
    dream = world.imagine(latents[:, 0], controls, seed=4)
    assert np.array_equal(copy.imagine(latents[:, 0], controls, seed=4), dream)
    np.testing.assert_equal(copy.decode(dream), world.decode(dream))
    z, u = torch.from_numpy(dream[:, :-1]), batch.actions
    after = torch.from_numpy(dream[:, 1:])
    assert torch.equal(copy.model.reward(z, u, after), world.model.reward(z, u, after))
    assert torch.equal(copy.model.termination(after), world.model.termination(after))
    assert torch.equal(copy.support.inside(after[0]), world.support.inside(after[0]))
    assert torch.equal(torch.stack(copy.support.bounds()), torch.stack(world.support.bounds()))
    assert copy.model.reward_range == world.model.reward_range
    assert copy.model.can_terminate


def test_the_folder_is_complete_readable_and_alone(saved):
    assert sorted(os.listdir(saved)) == [
        "README.md",
        "config.json",
        "metrics.json",
        "model.safetensors",
    ]
    assert os.listdir(saved.parent) == ["checkpoint"]
    assert json.loads((saved / "metrics.json").read_text())["r2"]["sin"] == 0.5
    card = (saved / "README.md").read_text()
    assert "| r2.sin | 0.5 |" in card and "3 latent" in card


def test_a_run_folder_stands_for_its_checkpoint(saved):
    assert isinstance(worldmodel.load(saved.parent), World)


def test_the_working_folder_can_be_the_checkpoint(saved, monkeypatch):
    monkeypatch.chdir(saved)
    assert load(".").model.latent_size == 3
    monkeypatch.chdir(saved.parent)
    assert load(".").model.latent_size == 3


def test_saving_again_replaces(saved):
    other = tiny_model(seed=1)
    World(other).save(saved)
    weights = load(saved).model.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in other.state_dict().items())
    assert os.listdir(saved.parent) == ["checkpoint"]


@pytest.mark.parametrize("point", ["checkpoint.serialize", "checkpoint._card", "os.rename"])
def test_an_interrupted_save_leaves_the_old_checkpoint(saved, monkeypatch, point):
    before = load(saved).model.state_dict()

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(point.replace("checkpoint", checkpoint.__name__), interrupt)
        World(tiny_model(seed=1)).save(saved)
    after = load(saved).model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert os.listdir(saved.parent) == ["checkpoint"]


def test_a_kill_between_the_two_renames_loses_nothing(saved):
    before = load(saved).model.state_dict()
    os.rename(saved, saved.with_name(f".{saved.name}.previous"))
    after = load(saved.parent).model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


@pytest.mark.parametrize(
    "files", [["thesis.tex"], ["config.json", "thesis.tex"], []], ids=["other", "config", "empty"]
)
def test_a_foreign_folder_is_never_overwritten(tmp_path, files):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in files:
        (folder / name).write_text('{"my": "config"}')
    with pytest.raises(FileFormatError, match="not a checkpoint"):
        World(tiny_model()).save(folder)
    assert sorted(os.listdir(folder)) == files
    assert os.listdir(tmp_path) == ["mine"]


def test_a_file_in_the_place_is_never_overwritten(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(FileFormatError, match="mine"):
        World(tiny_model()).save(tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "precious"


def test_an_unregistered_model_is_refused(tmp_path):
    class Other(type(tiny_model())):
        pass

    with pytest.raises(SpecError, match="Other"):
        World(Other(tiny_model().config, VECTOR, BOX)).save(tmp_path / "other")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["nowhere", "no-such-bundle", "runs/none"])
def test_a_missing_checkpoint_is_said(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=name):
        load(name)


def test_a_folder_without_a_config_is_not_a_checkpoint(tmp_path):
    with pytest.raises(FileFormatError, match=r"config\.json is missing"):
        load(tmp_path)


def change_config(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", "null", '{"format": 1}', "\x00\x01", "\udcff"], ids=repr
)
def test_a_corrupt_config_is_said(saved, text):
    (saved / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(FileFormatError, match=r"config\.json is corrupt or foreign"):
        load(saved)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("format", "other", "format 'other'"),
        ("version", 99, "format version 99, this is version 2"),
        ("version", 1, "train it again"),
        ("model", {"a": 1}, "expected one of .*dvbf"),
        ("model", "gpt", "'gpt', expected one of .*dvbf"),
    ],
)
def test_a_checkpoint_of_another_kind_is_said(saved, key, value, message):
    change_config(saved, lambda config: config.update({key: value}))
    with pytest.raises(FileFormatError, match=message):
        load(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["config"]["codec"].update(hidden=11),
        lambda c: c["config"].update(unheard_of=1),
        lambda c: c.pop("observation_spec"),
        lambda c: c.pop("config"),
        lambda c: c["config"]["codec"].update(unheard_of=1),
        lambda c: c["config"].update(transition=None),
        lambda c: c["config"]["transition"].update(leak=2.0),
        lambda c: c.update(action_spec=None),
        lambda c: c.update(action_spec=box(0.0, 1.0).to_json()),
        lambda c: c.update(observation_spec=SEVERAL.to_json()),
        lambda c: c.update(denoiser=False),
        lambda c: c.update(dream_noise=3.5e38),
        lambda c: c.update(dream_noise=-1),
    ],
    ids=[
        "size",
        "unknown",
        "no-observations",
        "no-config",
        "unknown-in-part",
        "no-part",
        "leak",
        "no-actions",
        "actions",
        "observations",
        "no-denoiser",
        "noise-beyond-float32",
        "negative-noise",
    ],
)
def test_a_config_of_other_weights_is_said(saved, change):
    change_config(saved, change)
    with pytest.raises(FileFormatError, match="does not describe its weights"):
        load(saved)


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_weights_are_said(saved, keep):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match="truncated or corrupt"):
        load(saved)


def test_one_flipped_bit_is_said(saved):
    data = bytearray((saved / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (saved / "model.safetensors").write_bytes(data)
    with pytest.raises(FileFormatError, match="truncated or corrupt"):
        load(saved)


def test_missing_weights_are_said(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(FileFormatError, match=r"model\.safetensors is missing"):
        load(saved)


def test_weights_of_another_model_are_said(saved):
    save_file({"a": torch.zeros(2)}, saved / "model.safetensors")
    digest = checkpoint._digest(saved / "model.safetensors")
    change_config(saved, lambda config: config.update(sha256=digest))
    with pytest.raises(FileFormatError, match="does not describe its weights"):
        load(saved)


def test_foreign_bytes_with_the_right_digest_are_said(saved):
    (saved / "model.safetensors").write_bytes(b"not weights at all")
    digest = checkpoint._digest(saved / "model.safetensors")
    change_config(saved, lambda config: config.update(sha256=digest))
    with pytest.raises(FileFormatError, match="does not describe its weights"):
        load(saved)


@pytest.mark.parametrize("distilled", [0, 3])
def test_a_denoiser_and_its_noise_travel_along(tmp_path, distilled):
    world, batch = fitted()
    config = DenoiserConfig(updates=5, hidden=4, distilled=distilled)
    denoiser = fit_denoiser(world.support.states, config, False)
    world = World(world.model, world.support, denoiser, dream_noise=0.25)
    copy = load(world.save(tmp_path / "denoised"))
    assert copy.denoiser is not None and copy.denoiser.config == denoiser.config
    start, controls = world.support.states[: len(batch)].numpy(), batch.actions.numpy()
    assert np.array_equal(copy.imagine(start, controls, 1), world.imagine(start, controls, 1))
    plain = World(world.model, world.support)
    assert not np.array_equal(plain.imagine(start, controls, 1), world.imagine(start, controls, 1))
