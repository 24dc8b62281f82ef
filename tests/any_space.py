"""Spaces of every kind and samples of them, for tests; an environment that has any."""

import math

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st

from worldmodel.errors import SpecError
from worldmodel.spaces import ActionSpace

# Not shrunk: that takes longer than a test may. Without these phases a failure is.
quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
RNG = np.random.default_rng


@st.composite
def float_boxes(draw):
    dtype = draw(st.sampled_from(FLOATS))
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
    most = float(np.finfo(dtype).max)
    bound = st.one_of(
        st.sampled_from([-math.inf, math.inf, -most, most, 0.0, 1.0, -0.1, 0.1]),
        st.floats(-most, most, width=int(dtype[5:])),
    )
    size = int(np.prod(shape))
    pairs = [sorted((draw(bound), draw(bound))) for _ in range(size)]
    low, high = (np.array(side, dtype).reshape(shape) for side in zip(*pairs, strict=True))
    low, high = np.where(low == np.inf, -np.inf, low), np.where(high == -np.inf, np.inf, high)
    return Box(low.astype(dtype), high.astype(dtype), shape, dtype)


@st.composite
def integer_boxes(draw):
    dtype = draw(st.sampled_from(INTEGERS))
    ends = np.iinfo(dtype)
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=1 if dtype == "uint8" else 3)))
    if dtype[0] == "i" and draw(st.booleans()):
        low = draw(st.sampled_from([-math.inf, -3]))
        high = draw(st.sampled_from([math.inf, 5]))
        return Box(low, high, shape, dtype)
    # Beyond, float64 does not resolve integers, and they are refused.
    least, most = max(int(ends.min), -(2**53)), min(int(ends.max), 2**53)
    pairs = [sorted((draw(st.integers(least, most)), draw(st.integers(least, most))))]
    pairs = pairs * int(np.prod(shape))
    low, high = (np.array(side, dtype).reshape(shape) for side in zip(*pairs, strict=True))
    return Box(low, high, shape, dtype)


@st.composite
def discretes(draw):
    dtype = draw(st.sampled_from(INTEGERS))
    ends = np.iinfo(dtype)
    n = draw(st.integers(1, 20))
    start = draw(st.integers(int(ends.min), int(ends.max) - n + 1))
    return Discrete(n, start=start, dtype=np.dtype(dtype).type)


@st.composite
def multi_discretes(draw):
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    size = int(np.prod(shape))
    counts = np.array(draw(st.lists(st.integers(1, 5), min_size=size, max_size=size)))
    start = np.array(draw(st.lists(st.integers(-100, 100), min_size=size, max_size=size)))
    dtype = draw(st.sampled_from([np.int8, np.int32, np.int64]))
    return MultiDiscrete(counts.reshape(shape), dtype, start=start.reshape(shape))


multi_binaries = st.one_of(
    st.integers(1, 5).map(MultiBinary),
    st.lists(st.integers(1, 3), min_size=1, max_size=3).map(MultiBinary),
)
leaf_spaces = st.one_of(
    float_boxes(), integer_boxes(), discretes(), multi_discretes(), multi_binaries
)
pictures = st.sampled_from(
    [
        Box(0, 255, (5, 7), np.uint8),
        Box(0, 255, (6, 5, 3), np.uint8),
        Box(3, 9, (8, 8, 1), np.uint8),
        Box(0, 255, (3, 8, 9), np.uint8),
        Box(0, 255, (4, 9, 8), np.uint8),
        Box(0, 255, (2, 8, 6, 3), np.uint8),
        Box(0, 255, (2, 3, 8, 6), np.uint8),
        Box(0, 1, (8, 6, 3), np.float32),
        Box(0, 1, (3, 8, 6), np.float32),
        Box(0, 255, (8, 6, 1), np.float32),
    ]
)
empty = st.sampled_from([Dict({}), Tuple(()), Box(-1, 1, (0,)), Box(0, 1, (2, 0), np.int64)])
keys = st.one_of(st.text("abcz", min_size=1, max_size=3), st.integers(0, 3))


def nested(parts):
    def branches(inner):
        pairs = st.lists(st.tuples(keys, inner), max_size=3, unique_by=lambda pair: str(pair[0]))
        return st.one_of(
            pairs.map(lambda p: Dict(p)),
            pairs.map(lambda p: Dict(dict(p), sort_keys=False)),
            st.lists(inner, max_size=3).map(Tuple),
        )

    return st.recursive(parts, branches, max_leaves=5).filter(lambda space: has_scalars(space))


observation_spaces = nested(st.one_of(leaf_spaces, pictures, empty))
action_spaces = nested(st.one_of(leaf_spaces, empty))


def has_scalars(space):
    if isinstance(space, Dict):
        return any(map(has_scalars, space.spaces.values()))
    if isinstance(space, Tuple):
        return any(map(has_scalars, space.spaces))
    return int(np.prod(space.shape)) > 0


def sample_of(space, rng):
    """A sample with many values at the bounds; Gymnasium's own overflow at large ones."""
    if isinstance(space, Dict):
        return {key: sample_of(part, rng) for key, part in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(sample_of(part, rng) for part in space.spaces)
    if not isinstance(space, Box):
        return space.sample()
    low, high = space.low, space.high
    if space.dtype.kind == "f":
        most = np.finfo(space.dtype).max
        low, high = np.clip(low, -most, most), np.clip(high, -most, most)
        usual = np.clip(rng.normal(size=space.shape), low, high)
    else:
        if space.dtype.itemsize == 8:
            least = 0 if space.dtype.kind == "u" else -(2**53)
            low, high = np.clip(low, least, 2**53), np.clip(high, least, 2**53)
        usual = np.clip(rng.integers(0, 5, space.shape), low, high)
    chosen = rng.integers(3, size=space.shape)
    picked = np.where(chosen == 0, low, np.where(chosen == 1, high, usual))
    return np.asarray(picked).astype(space.dtype).reshape(space.shape)


def same(a, b):
    """Equal in structure, types, dtypes and values."""
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return type(b) is tuple and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b)


def same_space(a, b):
    """Exactly, where Gymnasium compares bounds up to a tolerance."""
    if isinstance(a, Dict):
        inner = list(a.spaces) == list(b.spaces) and a.sort_keys == b.sort_keys
        return inner and all(same_space(a[key], b[key]) for key in a.spaces)
    if isinstance(a, Tuple):
        return len(a) == len(b) and all(map(same_space, a.spaces, b.spaces))
    if isinstance(a, Box):
        arrays = ("low", "high", "bounded_below", "bounded_above")
        if not all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays):
            return False
    return a == b and a.dtype == b.dtype and a.shape == b.shape


def stacked(space, samples):
    """As Gymnasium's vector environments do it."""
    return concatenate(space, samples, create_empty_array(space, len(samples)))


def action_space(space):
    """Skips what float32 controls cannot resolve, of which there are tests below."""
    try:
        return ActionSpace.from_space(space)
    except SpecError as error:
        assume("float32 controls" not in str(error))
        raise


def flat_controls(size, rows=4):
    number = st.floats(allow_nan=False, allow_infinity=False)
    row = st.lists(number, min_size=size, max_size=size)
    return st.lists(row, min_size=rows, max_size=rows).map(np.array)


class Echo(gym.Env):
    """Shows one observation, remembers the last action."""

    def __init__(self, space=None, action_space=None):
        self.observation_space = Box(-1, 1, (2,)) if space is None else space
        self.action_space = Discrete(2) if action_space is None else action_space
        self.taken = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        self.taken = action
        return self.observation_space.sample(), 0.0, False, False, {}
