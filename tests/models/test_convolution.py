import pytest
import torch
from small import BOX, PIXELS, VECTOR, generator, pixels, random_batch, tiny_model
from torch.nn import functional

from worldmodel.errors import ConfigError, SpecError
from worldmodel.models.codec import Codec, CodecConfig
from worldmodel.models.codec.convolution import FrameDecoder, FrameEncoder
from worldmodel.spaces import Stream
from worldmodel.world.world import World

SHAPES = [(16, 16, 1), (25, 40, 3), (31, 17, 1), (64, 64, 3), (96, 96, 1)]


def stream_of(shape) -> Stream:
    return pixels(*shape).streams[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_frames_of_any_size_go_in_and_come_out(shape):
    stream, g = stream_of(shape), generator()
    encoder, decoder = FrameEncoder(stream, 4, 7), FrameDecoder(3, stream, 4, 5)
    flat = torch.rand(2, 3, stream.size, generator=g)
    features = encoder(flat)
    assert features.shape == (2, 3, 7)
    torch.testing.assert_close(features[1, 2], encoder(flat[1, 2].unsqueeze(0))[0])
    assert decoder(torch.randn(2, 3, 3, generator=g)).shape == (2, 3, stream.size)


def test_the_convolution_sees_pixels_where_they_are():
    """The first stage equals torch's convolution of the image as the environment gave it."""
    encoder = FrameEncoder(stream_of((9, 12, 3)), 4, 7)
    image = torch.rand(9, 12, 3, generator=generator())
    first = encoder.network[0]
    expected = functional.conv2d(image.permute(2, 0, 1), first.weight, first.bias, 2, 1)
    seen = first(image.flatten().reshape(1, 9, 12, 3).movedim(-1, 1))[0]
    torch.testing.assert_close(seen, expected)
    moved = image.clone()
    moved[8, 11] += 1
    assert not torch.equal(encoder(image.flatten()[None]), encoder(moved.flatten()[None]))


def test_a_decoder_can_draw_where_it_should():
    """A few steps of gradient descent put one bright pixel into its corner and channel."""
    torch.manual_seed(0)
    decoder = FrameDecoder(2, stream_of((17, 12, 3)), 8, 16)
    target = torch.zeros(17, 12, 3)
    target[2, 9, 1] = 1
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)
    for _ in range(60):
        loss = (decoder(torch.ones(1, 2)) - target.flatten()).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = decoder(torch.ones(1, 2)).view(17, 12, 3)
    assert (drawn - target).abs().max() < 0.3


@pytest.mark.parametrize("choice", ["components", "conv"])
def test_vectors_are_never_convolved(choice):
    codec = Codec(VECTOR, CodecConfig(encoder=choice, channels=4, hidden=7))
    assert codec.encoder()[1] == 3


def test_what_cannot_be_convolved_is_refused():
    with pytest.raises(SpecError, match=r"at least 8, got 7 . 64 . 1 pixels"):
        tiny_model(pixels(7, 64, 1), BOX, codec={"encoder": "conv"})


def test_a_convolved_model_filters_and_learns_from_every_part():
    spec = pixels(26, 30, 3)
    model = tiny_model(spec, BOX, codec={"encoder": "conv"})
    batch = random_batch(spec, BOX, size=3, steps=4)
    terms = model.terms(batch, generator())
    (terms.rate.sum() + terms.distortion.sum() + terms.calibration.sum()).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None]
    assert all(n.startswith(("reward_head", "termination_head")) for n in silent)
    world = World(model)
    frames = world.decode(world.filter(batch.observations.numpy(), batch.actions.numpy()))
    assert frames.shape == batch.observations.shape and frames.dtype == "uint8"


def test_small_frames_may_be_convolved_if_asked():
    assert isinstance(tiny_model(PIXELS, BOX, codec={"encoder": "conv"}).encoder, FrameEncoder)


def test_depth_counts_the_hidden_layers_of_frames_and_emission():
    space = pixels(16, 16, 1)
    encoder, features = Codec(space, CodecConfig("dense", hidden=7, depth=3)).encoder()
    assert features == 7 and [type(m).__name__ for m in encoder] == 2 * [
        "Linear",
        "LayerNorm",
        "SiLU",
    ]
    model = tiny_model(PIXELS, BOX, codec={"encoder": "dense", "depth": 2, "hidden": 9})
    assert sum(isinstance(m, torch.nn.Linear) for m in model.emission.modules()) == 3
    assert model.encoder(torch.zeros(2, PIXELS.size)).shape == (2, 9)
    with pytest.raises(ConfigError, match="as many layers as the picture needs, got depth 2"):
        CodecConfig("conv", depth=2)
    with pytest.raises(ConfigError, match="depth must be at least 1, got 0"):
        CodecConfig(depth=0)
