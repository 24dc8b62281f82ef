"""What a stream says of itself, where the rest of the package would else ask for its kind."""

import numpy as np
import pytest
import zoo
from gymnasium.spaces import Box, Discrete

from worldmodel.spaces import ObservationSpace, recorded_streams
from worldmodel.spaces.kinds import KINDS
from worldmodel.spaces.stream import Stream

SAID = {
    "vector": ("vectors", True, ["curves"]),
    "bright": ("pictures", False, ["film"]),
    "stack": ("pictures", False, ["film"]),
    "multi-discrete": ("vectors", False, ["steps"]),
    "multi-binary": ("vectors", True, ["steps"]),
    "cameras": ("pictures", False, ["film", "curves", "film"]),
    "tuple": ("vectors", False, ["curves", "steps"]),
}


@pytest.mark.parametrize("name", SAID)
def test_preset_linearity_and_drawing_follow_from_the_streams(name):
    space = ObservationSpace.from_space(zoo.OBSERVATIONS[name][0])
    drawn = [stream.drawn for stream in space.streams]
    assert (space.preset, space.linear, drawn) == SAID[name]
    assert {*space.filmed, *space.plotted} == {*space.streams}


def test_a_kind_owes_what_a_stream_leaves_open():
    for kind in KINDS.values():
        assert issubclass(kind, Stream) and not kind.__abstractmethods__
    with pytest.raises(TypeError, match="abstract"):
        Stream("a", (1,), "float32", None)


def test_indices_are_drawn_as_the_space_counts_them():
    (stream,) = ObservationSpace.from_space(Discrete(3, start=-5)).streams
    recorded = stream.read(np.array([-5, -3]), (2,))
    np.testing.assert_array_equal(stream.lines(recorded), [[-5], [-3]])


@pytest.mark.parametrize("name", zoo.OBSERVATIONS)
def test_recorded_values_tell_what_they_are_without_their_space(name):
    space = ObservationSpace.from_space(zoo.OBSERVATIONS[name][0])
    samples = space.space()
    samples.seed(0)
    one = space.read(samples.sample())
    values = {key: np.stack([value, value])[None] for key, value in one.items()}
    guessed = recorded_streams(values)
    known = [(s.name, s.kind, s.shape, s.dtype) for s in space.streams]
    assert [(s.name, s.kind, s.shape, s.dtype) for s in guessed] == known


def test_a_float_picture_is_as_white_as_its_brightest_values_ask():
    for white in (1, 255):
        (stream,) = ObservationSpace.from_space(Box(0, white, (8, 8, 3), np.float32)).streams
        values = np.full((1, 2, 8, 8, 3), white, np.float32)
        (guessed,) = recorded_streams({"a": values})
        np.testing.assert_array_equal(guessed.picture(values), stream.picture(values))
        assert (guessed.picture(values) == 255).all()
