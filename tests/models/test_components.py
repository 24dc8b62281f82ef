"""Principal components of pictures: what they say, what they miss, and coarse to fine."""

import numpy as np
import pytest
import torch
from small import BOX, SEVERAL, generator, pixels, random_batch, tiny_model
from small import with_fields as replaced

from worldmodel.errors import ConfigError
from worldmodel.evaluation.prediction import filter_error, frame_variance
from worldmodel.models.codec import Codec, CodecConfig
from worldmodel.models.networks import Linear, Waves
from worldmodel.models.program import Builder
from worldmodel.types import ScaledBatch

SPACE = pixels(12, 10, 3)


def blobs(n=400, seed=0) -> torch.Tensor:
    """A soft spot that wanders over a picture, (n, 12, 10, 3)."""
    place = (
        torch.rand(n, 2, 1, 1, generator=generator(seed))
        * torch.tensor([12.0, 10.0])[:, None, None]
    )
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(10.0), indexing="ij")
    spot = torch.exp(-((y - place[:, 0]) ** 2 + (x - place[:, 1]) ** 2) / 3)
    colour = torch.tensor([200.0, 90.0, 20.0])
    return (30 + spot.unsqueeze(-1) * colour).to(torch.uint8)


def codec_of(seen, components, space=SPACE, explained=1.0) -> Codec:
    codec = Codec(space, CodecConfig(components=components, explained=explained))
    codec.calibrate(seen)
    return codec


def in_full(codec, seen) -> torch.Tensor:
    """All pixels in the codec's units."""
    part = codec.parts[0]
    return (seen.flatten(1) / 255 - part.mean) / part.unit


@pytest.fixture(scope="module")
def seen():
    return blobs()


@pytest.mark.parametrize("components", [3, 20])
def test_they_are_numpys_and_say_the_most_that_so_many_numbers_can(seen, components):
    codec = codec_of(seen, components)
    centred = in_full(codec, seen).double().numpy()
    found = np.linalg.eigvalsh(centred.T @ centred / len(seen))[::-1][:components]
    scaled = codec.scale(seen)
    assert scaled.shape == (len(seen), components) and codec.size == components
    np.testing.assert_allclose(scaled.square().mean(0), found, rtol=1e-3)
    assert scaled.square().sum(1).mean().item() == pytest.approx(12, rel=1e-4)


def test_errors_of_components_and_what_they_miss_are_errors_of_pictures(seen):
    codec = codec_of(seen, 5)
    drawn = codec.scale(seen) + 0.1 * torch.randn(len(seen), 5, generator=generator())
    part = codec.parts[0]
    whole = (codec.natural(drawn) - part.mean) / part.unit
    expected = (whole - in_full(codec, seen)).square().sum(1)
    error = (drawn - codec.scale(seen)).square().sum(1) + codec.missed(seen)
    torch.testing.assert_close(error, expected, rtol=1e-3, atol=1e-3)


def test_enough_of_them_bring_the_picture_back(seen):
    codec = codec_of(seen, 360)
    assert (codec.unscale(codec.scale(seen)).int() - seen.int()).abs().max() <= 1
    assert codec.missed(seen).max() < 1e-2


def test_fewer_pictures_than_components_need_fewer():
    few = blobs(6)
    codec = codec_of(few, 20, explained=0.9999)
    scaled = codec.scale(few)
    assert scaled.shape == (6, 5)
    assert (codec.unscale(scaled).int() - few.int()).abs().max() <= 1
    assert codec.emphasis(2.0).isfinite().all()


@pytest.mark.parametrize("explained", [0.5, 0.9, 0.99])
def test_no_more_are_kept_than_say_enough(seen, explained):
    codec = codec_of(seen, 200, explained=explained)
    centred = (seen.flatten(1).double() - seen.flatten(1).double().mean(0)).numpy()
    found = np.linalg.eigvalsh(centred.T @ centred)[::-1].cumsum()
    assert codec.size == 1 + np.searchsorted(found, explained * found[-1])
    assert codec.scale(seen).shape == (len(seen), codec.size)
    assert codec.scale(seen).square().sum(1).mean().item() == pytest.approx(12, rel=1e-4)


def test_networks_are_as_large_as_pictures_need(seen):
    batch = random_batch(SPACE, BOX, size=20, steps=6)
    batch = replaced(batch, observations=blobs(20 * 7).unflatten(0, (20, 7)))
    model = tiny_model(SPACE, BOX, codec={"components": 100, "explained": 0.9})
    model.calibrate(batch)
    kept = model.codec.size
    assert kept < 30
    assert model.config.codec.components == kept
    again = type(model)(model.config, SPACE, BOX)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(
        again.terms(batch, generator()).distortion, model.terms(batch, generator()).distortion
    )
    same = tiny_model(SPACE, BOX, codec={"components": kept, "explained": 0.9})
    same.calibrate(batch)
    for name, weights in model.named_parameters():
        torch.testing.assert_close(same.state_dict()[name], weights, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("depth", [1, 3])
def test_emissions_reach_every_component(depth):
    """Also with fewer units in a hidden layer: what these span would be all that is ever drawn."""
    config = CodecConfig(components=40, hidden=16, depth=depth)
    shown = Codec(SPACE, config).emission(6).mean(3 * torch.randn(500, 6, generator=generator()))
    assert torch.linalg.matrix_rank((shown - shown.mean(0)).double(), rtol=1e-5) == 40


@pytest.mark.parametrize(("waves", "hidden", "sines"), [(None, 16, 8), (None, 40, 0), (5, 40, 5)])
def test_where_components_are_many_emissions_begin_with_waves(waves, hidden, sines):
    config = CodecConfig(components=40, hidden=hidden, depth=3, waves=waves)
    parts = list(Codec(SPACE, config).emission(6).modules())
    assert [part.phase.out_features for part in parts if isinstance(part, Waves)] == [sines] * (
        sines > 0
    )
    widths = [part.out_features for part in parts if type(part) in (Linear, torch.nn.Linear)]
    assert widths[-4:] == [hidden, hidden, 40, 40]


def test_several_pictures_have_as_many_as_the_one_that_needs_most():
    batch = random_batch(SEVERAL, size=30)
    codec = Codec(SEVERAL, CodecConfig(components=40, explained=0.5))
    kept = codec.calibrate(batch.observations.flatten(0, 1))
    pictures = [part for part in codec.parts if part.stream.kind == "pixels"]
    assert max(part.needed for part in pictures) == kept < 40
    assert {part.size for part in pictures} == {min(kept, p.stream.size) for p in pictures}


def test_what_components_have_been_is_what_is_plausible(seen):
    codec = codec_of(seen, 8)
    scaled = codec.scale(seen)
    torch.testing.assert_close(codec.plausible(scaled), scaled)
    wild = codec.plausible(100 * scaled)
    assert (wild <= scaled.amax(0) + 1e-5).all() and (wild >= scaled.amin(0) - 1e-5).all()


@pytest.mark.parametrize("exponent", [0.5, 2.0])
def test_coarse_components_count_more_and_all_together_as_much(seen, exponent):
    codec = codec_of(seen, 20)
    weights, variance = codec.emphasis(exponent), codec.scale(seen).square().mean(0)
    assert (weights * variance).sum().item() == pytest.approx(12, rel=1e-3)
    expected = (variance / variance[0]) ** exponent
    torch.testing.assert_close(weights / weights[0], expected, rtol=1e-3, atol=1e-6)


def test_a_model_weighs_errors_until_it_is_told_otherwise():
    model, batch = tiny_model(SPACE, BOX, codec={"components": 9}), random_batch(SPACE, BOX)
    model.calibrate(batch)
    plain = model.terms(batch, generator()).distortion
    model.emphasise(2.0)
    coarse = model.terms(batch, generator())
    root = model.codec.emphasis(2.0).sqrt()
    error = root * (model.emit(coarse.states).mean - model.scale_observations(batch.observations))
    torch.testing.assert_close(coarse.distortion, error.square().sum(-1))
    assert not torch.allclose(coarse.distortion, plain)
    model.emphasise(0.0)
    torch.testing.assert_close(model.terms(batch, generator()).distortion, plain)


def test_streams_without_components_are_not_weighed():
    batch = random_batch(SEVERAL, size=30)
    codec = Codec(SEVERAL, CodecConfig(components=7))
    codec.calibrate(batch.observations.flatten(0, 1))
    weights = codec.emphasis(1.0).split(codec.sizes)
    kinds = [stream.kind for stream in SEVERAL.streams]
    assert all((w == 1).all() == (kind != "pixels") for w, kind in zip(weights, kinds, strict=True))


def test_scaling_compiles(seen):
    codec, builder = codec_of(seen, 11), Builder()
    frame = builder.input(SPACE.size)
    program = builder.finish(codec.compiled(builder, frame))
    assert len(program.weights) >= 11 * SPACE.size


def test_what_was_scaled_before_is_not_scaled_again():
    batch = random_batch(SPACE, BOX)
    model = tiny_model(SPACE, BOX, codec={"components": 9})
    model.calibrate(batch)
    frames = model.scale_observations(batch.observations)
    known = ScaledBatch(**dict(batch.items()) | {"observations": frames})
    one, other = (model.terms(each, generator()) for each in (batch, known[:]))
    torch.testing.assert_close(one.distortion, other.distortion)
    assert model.condenses(batch.observations[0])
    many = tiny_model(SPACE, BOX, codec={"components": 91})
    assert not many.condenses(batch.observations[0])


def test_evaluation_counts_what_components_miss(seen):
    """However little a model says, its error is that of the picture."""
    batch = random_batch(SPACE, BOX, size=20, steps=6)
    batch = replaced(batch, observations=blobs(20 * 7).unflatten(0, (20, 7)))
    model = tiny_model(SPACE, BOX, codec={"components": 2})
    model.calibrate(batch)
    part, frames = model.codec.parts[0], batch.observations.flatten(0, 1)
    full = in_full(model.codec, frames)
    assert frame_variance(model, batch) == pytest.approx(
        full.var(0, correction=0).mean().item(), rel=1e-3
    )
    means = model.emit(model.filter_beliefs(batch.observations, batch.actions, 1).mean).mean
    drawn = (model.codec.natural(means.flatten(0, 1)) - part.mean) / part.unit
    expected = (drawn - full).square().mean(1).view(20, 7).mean(0)
    torch.testing.assert_close(filter_error(model, batch), expected, rtol=1e-3, atol=1e-4)


def test_black_or_white_pixels_have_none():
    with pytest.raises(ConfigError, match=r"emission 'bernoulli' is of pixels, got encoder 'comp"):
        CodecConfig(emission="bernoulli")
