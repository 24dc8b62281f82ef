"""Observations case by case."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from any_space import RNG, Echo
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    OneOf,
    Sequence,
    Text,
    Tuple,
)

from worldmodel.errors import ShapeError, SpecError
from worldmodel.spaces import ActionSpace, ObservationSpace


def streams_of(space):
    return ObservationSpace.from_space(space)


def only(space):
    (stream,) = streams_of(space).streams
    return stream


PICTURES = {
    "grey": ((5, 7), (5, 7, 1), lambda x: x[..., None]),
    "HWC": ((6, 5, 3), (6, 5, 3), lambda x: x),
    "one channel": ((16, 16, 1), (16, 16, 1), lambda x: x),
    "tiny square": ((3, 3, 1), (3, 3, 1), lambda x: x),
    "many channels": ((64, 64, 9), (64, 64, 9), lambda x: x),
    "CHW": ((3, 8, 9), (8, 9, 3), lambda x: x.transpose(1, 2, 0)),
    "square CHW": ((3, 32, 32), (32, 32, 3), lambda x: x.transpose(1, 2, 0)),
    "square stack": ((4, 32, 32), (32, 32, 4), lambda x: x.transpose(1, 2, 0)),
    "one in front": ((1, 64, 48), (64, 48, 1), lambda x: x.transpose(1, 2, 0)),
    "grey stack": ((5, 84, 84), (84, 84, 5), lambda x: x.transpose(1, 2, 0)),
    "stack": ((4, 8, 9, 3), (8, 9, 12), lambda x: np.concatenate(list(x), -1)),
    "grey stack of rank 4": ((4, 8, 9, 1), (8, 9, 4), lambda x: np.concatenate(list(x), -1)),
    "stack of CHW": (
        (4, 3, 8, 9),
        (8, 9, 12),
        lambda x: np.concatenate([frame.transpose(1, 2, 0) for frame in x], -1),
    ),
}


@pytest.mark.parametrize(("shape", "recorded", "reading"), PICTURES.values(), ids=PICTURES)
def test_axes_of_pictures(shape, recorded, reading):
    space = Box(0, 255, shape, np.uint8)
    stream, sample = only(space), space.sample()
    assert (stream.kind, stream.shape, stream.dtype) == ("pixels", recorded, "uint8")
    assert np.array_equal(stream.read(sample), reading(sample))


@pytest.mark.parametrize("wrapper", ["grey", "colour", "CHW"])
def test_gymnasiums_frame_stacks(wrapper):
    shape = {"grey": (12, 10), "colour": (12, 10, 3), "CHW": (3, 12, 10)}[wrapper]
    env = gym.wrappers.FrameStackObservation(Echo(Box(0, 255, shape, np.uint8)), 4)
    seen, _ = env.reset(seed=0)
    stream = only(env.observation_space)
    recorded = stream.read(np.asarray(seen))
    newest = only(Box(0, 255, shape, np.uint8)).read(np.asarray(seen)[-1])
    assert np.array_equal(recorded[..., -newest.shape[2] :], newest)
    if wrapper != "grey":
        assert np.array_equal(stream.picture(recorded), newest)


UNTOLD = [
    (3, 64, 3),
    (1, 64, 3),
    (3, 3, 3),
    (3, 3, 64),
    (3, 3, 4),
    (64, 1, 3),
    (84, 84, 84),
    (10, 20, 15),
    (2, 3, 64, 3),
    (84, 84, 3, 4),
    (84, 84, 1, 4),
    (84, 84, 4, 1),
    (84, 84, 4, 3),
    (8, 8, 8, 1),
    (3, 84, 84, 4),
    (3, 4, 84, 84),
]


@pytest.mark.parametrize("shape", UNTOLD)
def test_untold_axes_are_refused_with_the_mend(shape):
    space = Dict(eye=Box(0, 255, shape, np.uint8))
    with pytest.raises(SpecError, match=r"observation\.eye: .*FlattenObservation"):
        streams_of(space)
    mended = gym.wrappers.FlattenObservation(Echo(Box(0, 255, shape, np.uint8)))
    assert only(mended.observation_space).kind == "vector"


def test_the_mends_mend():
    space = Box(0, 255, (3, 64, 4), np.uint8)
    with pytest.raises(SpecError) as caught:
        streams_of(space)
    told = str(caught.value)
    code = told[told.index("gymnasium.wrappers.TransformObservation") :].split(" puts")[0]
    first = eval(code, {"gymnasium": gym, "np": np, "env": Echo(space)})
    assert only(first.observation_space).shape == (64, 4, 3)
    space = Box(0, 255, (3, 64, 3), np.uint8)
    with pytest.raises(SpecError, match=r"gymnasium.wrappers.ResizeObservation\(env, \(64, 64\)\)"):
        streams_of(space)
    last = gym.wrappers.ResizeObservation(Echo(space), (64, 64))
    assert only(last.observation_space).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((84, 80, 3, 4), 3), ((84, 80, 1, 4), 3), ((84, 80, 4, 3), 2), ((3, 4, 84, 80), 1)],
)
def test_frames_elsewhere_than_in_front_are_moved_by_the_mend(shape, axis):
    space = Box(0, 255, shape, np.uint8)
    with pytest.raises(SpecError) as caught:
        streams_of(space)
    told = str(caught.value)
    code = told[told.index("gymnasium.wrappers.TransformObservation") :].split(" puts")[0]
    mended = eval(code, {"gymnasium": gym, "np": np, "env": Echo(space)})
    seen, _ = mended.reset(seed=0)
    assert seen in mended.observation_space
    frames = np.moveaxis(space.sample(), axis, 0)
    read = only(mended.observation_space).read(frames)
    assert read.shape == (84, 80, 12 if 3 in shape else 4)
    newest = only(Box(0, 255, frames.shape[1:], np.uint8)).read(frames[-1])
    assert np.array_equal(read[..., -newest.shape[-1] :], newest)


def test_pixels_of_rank_5_are_no_picture():
    with pytest.raises(SpecError, match="no picture"):
        streams_of(Box(0, 255, (2, 2, 8, 8, 3), np.uint8))


def test_float_pictures():
    stream = only(Box(0, 1, (8, 6, 3), np.float32))
    assert (stream.kind, stream.dtype, stream.white) == ("pixels", "float32", 1.0)
    page = stream.picture(np.full((2, 8, 6, 3), 0.5, np.float32))
    assert page.shape == (2, 8, 6, 3) and (page == 128).all()
    assert only(Box(0, 255, (8, 6, 3), np.float32)).white == 255.0
    double = only(Box(0, 1, (8, 6, 3), np.float64))
    sample = np.full((8, 6, 3), 1 / 3)
    assert double.read(sample).dtype == np.float32
    np.testing.assert_allclose(double.write(double.read(sample)), sample, rtol=1e-7)
    assert only(Box(0, 1, (84, 84), np.float32)).shape == (84, 84, 1)
    # Without believable axes, or other bounds, numbers are numbers.
    for other in (Box(0, 1, (5, 6, 7)), Box(0, 1, (7, 8)), Box(-1, 1, (8, 8, 3))):
        assert only(other).kind == "vector"


@pytest.mark.parametrize(
    ("space", "dtype"),
    [
        (Box(-1, 1, (2, 3), np.float16), "float32"),
        (Box(-1, 1, (2, 3), np.float64), "float64"),
        (Box(0, 255, (3,), np.uint8), "float32"),
        (Box(0, 9, (3,), np.int64), "float32"),
        (Box(-(2**31), 2**31 - 1, (3,), np.int32), "float64"),
        (Box(-np.inf, np.inf, (3,), np.int64), "float64"),
        (Box(0, 1, (3,), np.bool_), "float32"),
        (MultiBinary((2, 2)), "float32"),
    ],
    ids=str,
)
def test_vectors(space, dtype):
    stream = only(space)
    assert (stream.kind, stream.dtype) == ("vector", dtype)
    assert stream.shape == (int(np.prod(space.shape)),) == (stream.size,)


def test_a_large_offset_is_not_lost():
    stream = only(Box(-np.inf, np.inf, (1,), np.float64))
    assert stream.read(np.array([1.7e9 + 1e-6])) == [1.7e9 + 1e-6]


def test_integers_beyond_float64_are_refused():
    stream = only(Box(-np.inf, np.inf, (2,), np.int64))
    assert np.array_equal(stream.write(stream.read(np.array([1, 2**53]))), [1, 2**53])
    with pytest.raises(ShapeError, match="resolves no larger integers"):
        stream.read(np.array([0, 2**53 + 1]))


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="no such type here")
def test_longer_floats_are_refused():
    with pytest.raises(SpecError, match="observation: "):
        streams_of(Box(-1, 1, (2,), np.longdouble))


def test_discrete_streams():
    stream = only(Discrete(5, start=-2))
    assert (stream.kind, stream.shape, stream.sizes, stream.size) == ("discrete", (1,), (5,), 5)
    assert stream.read(-2) == [0] and stream.read(np.int64(2)) == [4]
    assert isinstance(stream.write(np.array([1])), np.int64)
    many = only(MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [-1, 7]]))
    assert (many.shape, many.sizes, many.size) == ((4,), (2, 3, 4, 5), 14)
    assert many.read(np.array([[1, 2], [-1, 11]])).tolist() == [0, 2, 0, 4]
    with pytest.raises(SpecError, match="observation: Discrete of 100000 values"):
        streams_of(Discrete(100_000))


def test_names_and_order():
    eyes = Tuple((Box(0, 255, (8, 8, 3), np.uint8), Box(0, 255, (8, 8), np.uint8)))
    body = Dict({"position": Box(-1, 1, (3,)), "gear": Discrete(4)})
    space = Dict({"cameras": eyes, "body": body, "nothing": Dict({})})
    streams = streams_of(space)
    assert streams.names == ("body.gear", "body.position", "cameras.0", "cameras.1")
    assert streams.size == 4 + 3 + 192 + 64
    assert streams_of(Discrete(2)).names == ("observation",)
    assert ActionSpace.from_space(Discrete(2)).parts[0].name == "action"
    assert "body.gear: one of 4" in streams.describe()
    assert pickle.loads(pickle.dumps(streams)) == streams


def test_equal_names_are_refused():
    space = Dict({"a.b": Discrete(2), "a": Dict(b=Discrete(3))})
    with pytest.raises(SpecError, match=r"'a\.b'"):
        streams_of(space)


REFUSED = [
    Text(3),
    Graph(Box(-1, 1, (2,)), None),
    Sequence(Discrete(2)),
    OneOf((Discrete(2), Box(-1, 1, (2,)))),
]


@pytest.mark.parametrize("space", REFUSED, ids=lambda space: type(space).__name__)
@pytest.mark.parametrize("kind", [ObservationSpace, ActionSpace])
def test_what_cannot_be_learned_from_is_named_by_its_path(space, kind):
    root = "observation" if kind is ObservationSpace else "action"
    name = type(space).__name__
    with pytest.raises(SpecError, match=f"^{root}: {name} cannot be learned from"):
        kind.from_space(space)
    inside = Dict(cameras=Tuple((Discrete(2), Discrete(2), space)))
    with pytest.raises(SpecError, match=rf"^{root}\.cameras\.2: {name} cannot be learned from"):
        kind.from_space(inside)


@pytest.mark.parametrize("space", [Dict({}), Tuple(()), Box(-1, 1, (0,)), Dict(a=Tuple(()))])
def test_spaces_without_anything_are_refused(space):
    with pytest.raises(SpecError, match="no part to learn from"):
        streams_of(space)


VECTOR = Dict(pos=Box(np.array([-1, 0], np.float32), np.array([1, np.inf], np.float32)))
BROKEN = {
    "shape": (VECTOR, {"pos": np.zeros(3, np.float32)}, r"pos must be of shape \(2,\), got \(3,\)"),
    "dtype": (VECTOR, {"pos": np.zeros(2)}, "pos must be float32, got float64"),
    "text": (VECTOR, {"pos": "here"}, "pos must be float32"),
    "ragged": (VECTOR, {"pos": [[1.0], [1.0, 2.0]]}, "pos must be an array"),
    "bound": (VECTOR, {"pos": np.array([2, 0], np.float32)}, r"pos must lie in \[-1.0, 1.0\].*2.0"),
    "NaN": (VECTOR, {"pos": np.array([0, np.nan], np.float32)}, r"pos must be finite, got nan"),
    "infinity": (VECTOR, {"pos": np.array([0, np.inf], np.float32)}, r"finite, got inf at \(1,\)"),
    "no dict": (VECTOR, np.zeros(2, np.float32), "observation must be a dict"),
    "key": (VECTOR, {"position": np.zeros(2, np.float32)}, "observation must be a dict"),
    "no tuple": (Tuple((Discrete(2),)), 1, "observation must be a tuple of 1"),
    "length": (Tuple((Discrete(2),)), (1, 1), "observation must be a tuple of 1"),
    "index": (Discrete(3, start=1), 0, r"observation must lie in \[1, 3\], got 0"),
    "float index": (Discrete(3), 1.0, "observation must be int64, got float64"),
    "pixel": (Box(0, 9, (8, 8, 1), np.uint8), np.full((8, 8, 1), 10, np.uint8), "got 10 at"),
    "pixels": (Box(0, 255, (8, 8, 1), np.uint8), np.zeros((8, 8, 1), np.float32), "uint8"),
    "half": (MultiBinary(2), np.array([0.5, 1]), "int8, got float64"),
    "many": (Box(-1, 1, (40,)), np.full(40, np.nan, np.float32), "finite"),
    "half a pixel": (Box(0, 9, (2,), np.uint8), [0.5, 1.0], "uint8, got float64"),
    "too large": (Box(-1, 1, (), np.float32), 1e39, "finite, got inf"),
    "wide index": (Discrete(3, dtype=np.int8), np.int64(1), "int8, got int64"),
    "object": (Box(-1, 1, (2,)), object(), "float32, got object"),
    "nothing": (Box(-1, 1, (2,)), None, "float32, got object"),
}


@pytest.mark.parametrize(("space", "sample", "message"), BROKEN.values(), ids=BROKEN)
def test_observations_that_break_their_space_are_refused(space, sample, message):
    with pytest.raises(ShapeError, match=message):
        streams_of(space).read(sample)


def test_missing_numbers_are_read_if_asked_for():
    streams, sample = streams_of(VECTOR), {"pos": np.array([np.nan, 0], np.float32)}
    assert np.isnan(streams.read(sample, missing=True)["pos"][0])
    with pytest.raises(ShapeError, match="finite"):
        streams.read({"pos": np.array([np.nan, np.inf], np.float32)}, missing=True)


IN_SPACE = [
    (Box(-1, 1, (2,), np.float64), np.zeros(2, np.float32)),
    (Box(-1, 1, (2,), np.float32), [0.5, 1]),
    (Box(-1, 1, (2,), np.float32), (np.float64(0.5), np.float64(1))),
    (Box(-1, 1, (), np.float32), 0.1),
    (Box(-1, 1, (), np.float32), np.float64(0.1)),
    (Box(-1, 1, (), np.float32), np.array(0.5, np.float16)),
    (Box(-9, 9, (), np.float64), 3),
    (Box(0, 9, (2,), np.int64), np.zeros(2, np.uint8)),
    (Box(0, 9, (2,), np.uint8), [1.0, 2.0]),
    (Box(0, 1, (2,), np.bool_), [0, True]),
    (Discrete(3, dtype=np.int8), 2),
    (Discrete(3), np.array(2)),
    (Discrete(3), True),
    (MultiDiscrete([2, 3]), (1, 2)),
    (MultiBinary(2), np.array([0.0, 1.0])),
    (MultiBinary(2), np.array([False, True])),
    (MultiBinary(2), [0, 1]),
    (Tuple((Discrete(2), Discrete(3))), [1, 2]),
    (Tuple((Discrete(2), Discrete(3))), np.array([1, 2])),
    (Dict(a=Box(-1, 1, (2,), np.float32), b=Discrete(2, dtype=np.int8)), {"b": 1, "a": [0, 1]}),
]


@pytest.mark.filterwarnings("ignore:.*Casting input x")
@pytest.mark.parametrize(("space", "sample"), IN_SPACE, ids=str)
def test_what_gymnasium_has_in_a_space_is_read(space, sample):
    assert space.contains(sample)
    streams = streams_of(space)
    assert space.contains(streams.write(streams.read(sample)))


def test_what_is_read_is_a_copy():
    for space in (Box(0, 255, (8, 8, 1), np.uint8), Box(-1, 1, (2,)), MultiDiscrete([2, 2])):
        streams, sample = streams_of(space), space.sample()
        values = streams.read(sample)
        assert not np.shares_memory(values["observation"], sample)
        assert not np.shares_memory(values["observation"], streams.write(values))


def test_what_is_written_is_in_the_space():
    stream = only(Box(0, 255, (8, 8, 1), np.uint8))
    assert stream.write(np.full((8, 8, 1), 300.0)).max() == 255
    assert stream.write(np.full((8, 8, 1), 7.6)).max() == 8
    with pytest.raises(ShapeError, match="must be integers"):
        stream.write(np.full((8, 8, 1), np.nan))
    with pytest.raises(ShapeError, match="must end in"):
        stream.write(np.zeros((8, 7, 1)))
    with pytest.raises(ShapeError, match="expected the streams"):
        streams_of(VECTOR).write({})


def test_pictures_for_people():
    rng = RNG(0)
    grey = only(Box(0, 255, (8, 6), np.uint8))
    values = grey.read(grey.leaf.space().sample())
    assert np.array_equal(grey.picture(values), values.repeat(3, -1))
    deep = only(Box(0, 255, (12, 12, 4), np.uint8))
    values = rng.integers(0, 256, (5, 12, 12, 4), dtype=np.uint8)
    assert np.array_equal(deep.picture(values), values[..., -1:].repeat(3, -1))
    numbers = only(Box(-1, 1, (3,)))
    pages = numbers.picture(rng.uniform(-1, 1, (2, 5, 3)))
    assert pages.shape == (2, 5, 13, 41, 3) and pages.dtype == np.uint8
    left, right = numbers.picture(np.array([[-1.0] * 3, [1.0] * 3]))
    assert np.array_equal(left, right[:, ::-1]) and not np.array_equal(left, right)
    wide = numbers.picture(np.zeros(3), low=[-9] * 3, high=[3] * 3)
    assert not np.array_equal(wide, numbers.picture(np.zeros(3)))
    assert only(MultiDiscrete([3, 4])).picture(np.array([0, 3])).shape == (9, 41, 3)
    assert only(Box(-np.inf, np.inf, (999,))).picture(np.full(999, np.nan)).shape == (513, 41, 3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("large", [3e38, 1e300, 1.7e308])
def test_pictures_of_large_numbers(large):
    stream = only(Box(-np.inf, np.inf, (2,), np.float64))
    shown = np.array([[large, -large], [-large, large], [0.0, 0.0]])
    some = np.array([[large, np.nan], [-np.inf, np.nan]])
    plain = stream.picture(shown / large, *stream.ranges(shown / large))
    assert np.array_equal(stream.picture(shown, *stream.ranges(shown)), plain)
    for values in (shown, some):
        assert stream.picture(values).shape == (len(values), 9, 41, 3)
        for seen in (shown, some):
            low, high = stream.ranges(seen)
            assert np.isfinite([low, high]).all()
            assert stream.picture(values, low, high).shape == (len(values), 9, 41, 3)


@pytest.mark.parametrize(
    "plain", [{}, [], None, {"stream": {}}, {"path": "a", "dict": [], "keys": ["b"]}]
)
def test_json_of_something_else_is_refused(plain):
    with pytest.raises(SpecError, match="describes no space"):
        ObservationSpace.from_json(plain)


@pytest.mark.parametrize("kind", [ObservationSpace, ActionSpace])
@pytest.mark.parametrize("space", [Discrete(3), MultiDiscrete([3, 4])], ids=str)
def test_json_of_more_values_than_memory_holds_is_refused(space, kind):
    """Vectors as long as it says are made of it at once."""
    plain = kind.from_space(space).to_json()
    plain["stream"]["space"]["high"][0] = 2**31
    with pytest.raises(SpecError, match=r"2147483649 values is more than the 65536"):
        kind.from_json(plain).space()
