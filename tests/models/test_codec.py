"""Codecs: standard units that suit any signal, and several streams beside each other."""

import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from small import BOX, PIXELS, SEVERAL, generator, pixels, random_batch, tiny_model, vector
from small import with_fields as replaced
from torch.distributions import Normal

from worldmodel.models.codec import Codec, CodecConfig
from worldmodel.models.codec.codec import CODECS
from worldmodel.models.codec.emission import StreamEmission
from worldmodel.spaces import ObservationSpace
from worldmodel.training.losses.constrained import Constrained, ConstrainedConfig
from worldmodel.types import from_streams

WEIGHT = 12.0  # of a picture
FLOATS = ObservationSpace.from_space(gym.spaces.Box(0, 1, (8, 9, 3), np.float32))
DOUBLE = ObservationSpace.from_space(gym.spaces.Box(-np.inf, np.inf, (2,), np.float64))
INDICES = ObservationSpace.from_space(gym.spaces.MultiDiscrete([3, 5], start=[2, -1]))


def codec_of(space, observations=None, **settings) -> Codec:
    codec = Codec(space, CodecConfig(**settings))
    if observations is not None:
        codec.calibrate(observations)
    return codec


def frames(n=500, dim=0.2, lift=30.0) -> torch.Tensor:
    """Blobs on a ground that does not change, (n, 8, 8, 1), of any brightness and contrast."""
    g = generator()
    place = torch.rand(n, 2, 1, 1, generator=g) * 8
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    blob = torch.exp(-((y - place[:, 0]) ** 2 + (x - place[:, 1]) ** 2) / 4)
    return (dim * (100 + 155 * blob) + lift).unsqueeze(-1)


def test_a_pictures_mean_squared_distance_from_the_mean_picture_is_its_weight():
    seen = frames(dim=0.9, lift=0.0).to(torch.uint8)
    codec = codec_of(PIXELS, seen, encoder="dense")
    scaled = codec.scale(seen)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(64), atol=1e-5, rtol=0)
    assert scaled.square().sum(1).mean().item() == pytest.approx(WEIGHT, rel=1e-5)
    assert codec.weight == WEIGHT
    # One unit for all pixels: their contrasts stay as they are.
    natural = seen.flatten(1).float()
    unit = (scaled.std(0) / natural.std(0)).nan_to_num()
    varied = natural.std(0) > 1
    assert varied.any() and unit[varied].std() < 1e-5 * unit[varied].mean()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_brightness_and_contrast_leave_no_trace(dtype):
    space = PIXELS if dtype is torch.uint8 else FLOATS
    whole = torch.randint(0, 50, (300, *space.streams[0].shape), generator=generator())
    one, other = (whole, 2 * whole + 100)
    if dtype is torch.uint8:
        one, other = one.to(dtype), other.to(dtype)
    else:
        one, other = one / 255, other / 255
    scaled = [codec_of(space, seen, encoder="dense").scale(seen) for seen in (one, other)]
    torch.testing.assert_close(*scaled, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("white", [1, 255])
def test_float_pictures_come_back_and_stay_between_black_and_white(white):
    space = ObservationSpace.from_space(gym.spaces.Box(0, white, (8, 9, 3), np.float32))
    seen = white * torch.rand(200, 8, 9, 3, generator=generator())
    codec = codec_of(space, seen, encoder="dense")
    scaled = codec.scale(seen)
    assert scaled.square().sum(1).mean().item() == pytest.approx(WEIGHT, rel=1e-5)
    torch.testing.assert_close(codec.unscale(scaled), seen, atol=1e-5 * white, rtol=1e-5)
    assert codec.natural(scaled).max() <= 1 + 1e-5
    wild = codec.unscale(100 * scaled)
    assert wild.min() == 0 and wild.max() == white and wild.dtype == torch.float32
    inside = codec.natural(codec.plausible(100 * scaled))
    assert inside.min() >= -1e-5 and inside.max() <= 1 + 1e-5
    torch.testing.assert_close(codec.plausible(scaled), scaled)


@pytest.mark.parametrize("shade", [0, 37])
@pytest.mark.parametrize("emission", ["gaussian", "bernoulli"])
def test_pictures_that_never_change_weigh_nothing_and_stay_finite(shade, emission):
    model = tiny_model(PIXELS, BOX, codec={"emission": emission, "encoder": "dense"})
    batch = random_batch(PIXELS, BOX)
    still = replaced(batch, observations=torch.full_like(batch.observations, shade))
    model.calibrate(still)
    assert model.codec.weight == 0
    scaled = model.codec.scale(still.observations)
    assert torch.isfinite(scaled).all() and np.isfinite(model.codec.log_volume)
    assert torch.equal(model.codec.unscale(scaled), still.observations)
    terms = model.terms(still, generator())
    objective = Constrained(ConstrainedConfig())
    assert torch.isfinite(objective.loss(terms, 9))
    objective.observe(terms, 0.0)
    assert all(np.isfinite(v) for v in objective.logs().values())


def mean_distortion(codec, seen) -> float:
    """Of an emission that always says the mean observation."""
    emission, scaled = codec.emission(2), codec.scale(seen)
    emission.calibrate(scaled)
    chances = scaled.mean(0).clamp(1e-6, 1 - 1e-6)
    logits = chances.log() if codec.space.streams[0].kind == "discrete" else chances.logit()
    emission.mean[0] = Constant(logits)
    return emission.compare(torch.zeros(len(scaled), 2), scaled).distortion.mean().item()


class Constant(torch.nn.Module):
    def __init__(self, values):
        super().__init__()
        self.values = values

    def forward(self, state):
        return self.values.expand(*state.shape[:-1], -1)


@pytest.mark.parametrize("contrast", [255, 60])
def test_bernoulli_pixels_stay_brightness_and_their_mean_is_the_same_distance_away(contrast):
    on = torch.rand(400, 8, 8, 1, generator=generator()) < torch.linspace(0.1, 0.9, 8)[:, None]
    seen = (contrast * on).to(torch.uint8)
    codec = codec_of(PIXELS, seen, emission="bernoulli", encoder="dense")
    scaled = codec.scale(seen)
    assert scaled.min() == 0 and scaled.max() == pytest.approx(contrast / 255)
    assert torch.equal(codec.unscale(scaled), seen) and codec.log_volume == 0
    assert mean_distortion(codec, seen) == pytest.approx(WEIGHT, rel=1e-3) and codec.weight == 12


def test_the_mean_of_indices_is_as_many_away_as_they_are():
    rng = np.random.default_rng(0)
    seen = torch.from_numpy(
        np.stack([rng.choice(3, 900, p=[0.7, 0.2, 0.1]), rng.integers(5, size=900)], 1)
    )
    codec = codec_of(INDICES, seen)
    scaled = codec.scale(seen)
    assert scaled.shape == (900, 8) and (scaled.sum(1) == 2).all()
    assert torch.equal(codec.unscale(scaled), seen)
    assert codec.weight == 2 and mean_distortion(codec, seen) == pytest.approx(2, rel=1e-3)
    chances = codec.emission(2).mean(torch.randn(7, 2))
    torch.testing.assert_close(chances[:, :3].sum(1), torch.ones(7))
    torch.testing.assert_close(chances[:, 3:].sum(1), torch.ones(7))


def test_an_index_that_never_changes_gives_finite_terms():
    space = ObservationSpace.from_space(gym.spaces.Discrete(4, start=-2))
    model, batch = tiny_model(space), random_batch(space)
    model.calibrate(replaced(batch, observations=torch.zeros_like(batch.observations)))
    assert torch.isfinite(model.terms(batch, generator()).distortion).all()


@pytest.mark.parametrize(("unit", "offset"), [(1e-9, 0.0), (1.0, 0.0), (1e6, 0.0), (0.5, 5e6)])
def test_vectors_of_any_unit_have_standard_deviations_of_one(unit, offset):
    seen = offset + unit * torch.randn(1000, 2, generator=generator(), dtype=torch.float64)
    codec = codec_of(DOUBLE, seen)
    scaled = codec.scale(seen)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(2).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        scaled.std(0, correction=0), torch.ones(2).double(), atol=1e-6, rtol=0
    )
    assert codec.weight == 2
    # What a model sees is in single precision, and nothing that mattered is lost.
    back = codec.unscale(scaled.float())
    assert back.dtype == torch.float64
    torch.testing.assert_close(back, seen, atol=1e-5 * unit, rtol=0)


def test_tiny_singles_are_no_constants():
    seen = 1e-9 * torch.randn(1000, 3, generator=generator())
    codec = codec_of(vector(3), seen)
    torch.testing.assert_close(codec.scale(seen).std(0), torch.ones(3), atol=1e-2, rtol=0)
    torch.testing.assert_close(codec.unscale(codec.scale(seen)), seen)


@pytest.mark.parametrize("value", [0.0, 0.1, 5e6])
def test_a_constant_keeps_its_unit_and_weighs_nothing(value):
    seen = torch.randn(500, 3, generator=generator())
    seen[:, 1] = value
    codec = codec_of(vector(3), seen)
    assert codec.weight == 2
    later = seen.clone()
    later[:, 1] += 0.5
    scaled = codec.scale(later)
    torch.testing.assert_close(scaled[:, 1], torch.full((500,), 0.5))
    torch.testing.assert_close(codec.unscale(scaled), later)


def test_noise_of_the_last_bits_is_a_constant():
    """0.1 in singles, summed up in another order: nothing that a model should care about."""
    seen = torch.randn(500, 2, generator=generator())
    seen[:, 0] = 0.1 + 1e-8 * torch.randn(500, generator=generator())
    assert codec_of(vector(2), seen).weight == 1


def test_likelihoods_of_pictures_are_those_of_brightness():
    """The change of variables, written out: p(brightness) = p(scaled) / unit per pixel."""
    batch, model = random_batch(PIXELS, BOX), tiny_model(PIXELS, BOX, codec={"encoder": "dense"})
    model.calibrate(batch)
    with torch.no_grad():
        terms = model.terms(batch, generator())
        shown = model.emit(terms.states)
    codec = model.codec
    unit = codec.natural(torch.ones(64)) - codec.natural(torch.zeros(64))
    in_brightness = Normal(codec.natural(shown.mean), shown.stddev * unit)
    brightness = batch.observations.flatten(2) / 255
    expected = in_brightness.log_prob(brightness).sum(-1)
    torch.testing.assert_close(terms.reconstruction, expected, rtol=1e-4, atol=1e-2)


@pytest.fixture
def several():
    """All streams of recorded episodes, and the codec that knows them."""
    batch = random_batch(SEVERAL, size=40)
    seen = batch.observations.flatten(0, 1)
    return codec_of(SEVERAL, seen, hidden=6), seen


def test_streams_stand_beside_each_other(several):
    codec, seen = several
    scaled = codec.scale(seen)
    assert scaled.shape == (len(seen["gear"]), SEVERAL.size)
    for stream, part in zip(SEVERAL.streams, scaled.split(codec.sizes, -1), strict=True):
        space = ObservationSpace(stream)
        alone = codec_of(space, seen[stream.name])
        torch.testing.assert_close(part, alone.scale(seen[stream.name]))
    back = codec.unscale(scaled)
    assert set(back.keys()) == set(seen.keys()) and back.batch_size == scaled.shape[:1]
    assert torch.equal(back["camera"], seen["camera"]) and torch.equal(back["gear"], seen["gear"])
    torch.testing.assert_close(back["joints"], seen["joints"])
    assert codec.weight == WEIGHT + 2 + 1
    assert codec.log_volume == pytest.approx(codec_of(PIXELS, seen["camera"]).log_volume)
    torch.testing.assert_close(codec.plausible(scaled), scaled)


def test_leading_axes_may_be_any(several):
    codec, seen = several
    scaled = codec.scale(seen)
    by_two = from_streams({k: v.unflatten(0, (-1, 2)) for k, v in seen.items()}, 2)
    torch.testing.assert_close(codec.scale(by_two), scaled.unflatten(0, (-1, 2)))
    assert codec.unscale(scaled[0]).batch_size == torch.Size([])


def test_the_likelihood_of_streams_is_the_product_of_theirs(several):
    codec, seen = several
    scaled, emission = codec.scale(seen), codec.emission(3)
    assert isinstance(emission, StreamEmission)
    emission.calibrate(scaled)
    state = torch.randn(len(scaled), 3, generator=generator())
    whole, joint = emission.compare(state, scaled), emission(state)
    parts = [
        part.compare(state, values)
        for part, values in zip(emission.parts, scaled.split(codec.sizes, -1), strict=True)
    ]
    for name in whole._fields:
        torch.testing.assert_close(getattr(whole, name), sum(getattr(p, name) for p in parts))
    torch.testing.assert_close(joint.log_prob(scaled).sum(-1), whole.reconstruction)
    assert joint.log_prob(scaled).shape == scaled.shape
    torch.testing.assert_close(joint.mean, emission.mean(state))


def test_features_of_streams_are_theirs(several):
    _, seen = several
    for depth, expected in ((1, SEVERAL.size), (2, 3 * 6)):
        deep = codec_of(SEVERAL, seen, hidden=6, depth=depth)
        encoder, size = deep.encoder()
        scaled = deep.scale(seen)
        features = encoder(scaled)
        assert features.shape == (len(scaled), expected) and size == expected
    one = scaled.clone()
    at = deep.space.names.index("joints")
    start = sum(deep.sizes[:at])
    one[:, start : start + 2] += 1
    changed = (encoder(one) != features).any(0).view(3, 6).any(1)
    assert changed.tolist() == [i == at for i in range(3)]


def test_a_large_camera_is_convolved_beside_vectors():
    space = ObservationSpace.from_space(
        gym.spaces.Dict(
            {
                "eye": gym.spaces.Box(0, 255, (32, 32, 3), np.uint8),
                "hand": gym.spaces.Box(-1, 1, (2,), np.float32),
            }
        )
    )
    codec = codec_of(space, encoder="conv", channels=4, hidden=6)
    encoder, size = codec.encoder()
    assert size == 6 + 2
    assert encoder(torch.rand(5, space.size)).shape == (5, 8)
    assert codec.emission(3)(torch.rand(5, 3)).mean.shape == (5, space.size)


@pytest.mark.parametrize("network", ["dense", "conv"])
def test_the_same_settings_suit_a_dark_picture_and_a_bright_one(network):
    """Of a model at its first weights, everything that a multiplier weighs is the same."""
    space = pixels(16, 16)
    bright = random_batch(space, BOX, size=20)
    values = bright.observations.float() / 255
    levels = torch.round(20 * values)  # so that neither is rounded
    bright, dark = (
        replaced(bright, observations=(gain * levels + lift).to(torch.uint8))
        for gain, lift in ((10, 0), (2, 30))
    )
    losses, terms = [], []
    for batch in (bright, dark):
        model = tiny_model(space, BOX, codec={"encoder": network})
        model.calibrate(batch)
        found = model.terms(batch, generator())
        terms.append(found)
        losses.append(Constrained(ConstrainedConfig()).loss(found, 40))
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-3)
    for name in ("distortion", "rate", "states"):
        torch.testing.assert_close(*(getattr(t, name) for t in terms), rtol=1e-3, atol=1e-3)
    # In brightness the dark one is known five times as exactly: ln 5 nats for every pixel.
    gap = (terms[1].reconstruction - terms[0].reconstruction) / space.size
    torch.testing.assert_close(gap, torch.full_like(gap, np.log(5)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("largest", [1e-300, 1e-9, 1e300, 1e307])
def test_numbers_of_any_size_have_a_scale_and_come_back(largest):
    seen = largest * (torch.rand(500, 2, generator=generator(), dtype=torch.float64) - 0.7)
    codec = codec_of(DOUBLE, seen)
    scaled = codec.scale(seen)
    assert scaled.isfinite().all() and codec.weight == 2
    torch.testing.assert_close(scaled.std(0), torch.ones(2).to(scaled), atol=0.01, rtol=0)
    torch.testing.assert_close(codec.unscale(scaled), seen, rtol=1e-9, atol=1e-9 * largest)


def test_the_scale_is_the_plain_one_to_the_last_bit():
    seen = 3 + 5 * torch.randn(500, 2, generator=generator(), dtype=torch.float64)
    part = codec_of(DOUBLE, seen).parts[0]
    mean = (seen - seen[0]).mean(0) + seen[0]
    assert torch.equal(part.mean, mean)
    assert torch.equal(part.std, (seen - mean).square().mean(0).sqrt())


ANGLE_STREAM = """
from typing import ClassVar

from worldmodel.spaces.kinds.vector import Vector


class Angle(Vector):
    kind: ClassVar[str] = "angle"
    turn: ClassVar[int] = 1

    @classmethod
    def take(cls, name, leaf, path, observed):
        return super().take(name, leaf, path, observed) if leaf.dtype == "float64" else None

    @classmethod
    def recorded(cls, name, values):
        return None


STREAM = Angle
"""
ANGLE_CODEC = """
import torch

from worldmodel.models.codec.vector import VectorCodec


class AngleCodec(VectorCodec):
    def natural(self, flat):
        return torch.rad2deg(self.unscale(flat))


CODEC = AngleCodec
"""
ASK = """
import gymnasium as gym
import numpy as np
from worldmodel.models.dvbf import DVBF
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.world.world import World

space = gym.spaces.Dict(
    {"joint": gym.spaces.Box(-np.pi, np.pi, (2,), np.float64), "speed": gym.spaces.Box(-1, 1, (2,))}
)
seen = ObservationSpace.from_space(space)
assert [stream.kind for stream in seen.streams] == ["angle", "vector"]
push = ActionSpace.from_space(gym.spaces.Box(-1, 1, (1,)))
model = DVBF(DVBFConfig(), seen, push)
frames = {name: np.zeros((3, 5, 2), kind) for name, kind in (("joint", "f8"), ("speed", "f4"))}
world = World(model)
latents = world.filter(frames, np.zeros((3, 4, 1)))
assert world.decode(latents)["joint"].shape == (3, 5, 2)
assert ObservationSpace.from_json(seen.to_json()) == seen
print(type(model.codec.parts[0]).__name__)
"""


def test_every_kind_of_stream_has_a_codec_of_its_own():
    assert list(CODECS) == ["discrete", "pixels", "vector"]
    assert len(set(CODECS.values())) == 3


def test_a_new_kind_of_stream_is_two_files(tmp_path):
    """In a copy of the package, of which nothing is changed."""
    root, copy = Path(__file__).parents[2], tmp_path / "worldmodel"
    shutil.copytree(
        root / "worldmodel", copy, ignore=shutil.ignore_patterns("checkpoints", "__pycache__")
    )
    (copy / "spaces" / "kinds" / "angle.py").write_text(ANGLE_STREAM)
    (copy / "models" / "codec" / "angle.py").write_text(ANGLE_CODEC)
    paths = {"PYTHONPATH": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=paths, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "AngleCodec" in done.stdout
