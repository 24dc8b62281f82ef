"""Spaces to streams and controls, and back, for any space."""

import json

import numpy as np
from any_space import (
    RNG,
    Echo,
    action_space,
    action_spaces,
    flat_controls,
    observation_spaces,
    quick,
    same,
    same_space,
    sample_of,
    stacked,
)
from gymnasium.spaces import Box
from gymnasium.vector.utils import batch_space
from hypothesis import assume, given
from hypothesis import strategies as st

from worldmodel.errors import SpecError
from worldmodel.spaces import ActionSpace, FlatActions, ObservationSpace, map_arrays


@quick
@given(observation_spaces)
def test_observation_spaces_come_back(space):
    streams = ObservationSpace.from_space(space)
    assert streams.space() == space and same_space(streams.space(), space)
    plain = json.loads(json.dumps(streams.to_json(), allow_nan=False))
    assert ObservationSpace.from_json(plain) == streams
    assert hash(ObservationSpace.from_json(plain)) == hash(streams)


@quick
@given(observation_spaces, st.integers(0, 99))
def test_observations_come_back(space, seed):
    streams, sample = ObservationSpace.from_space(space), sample_of(space, RNG(seed))
    values = streams.read(sample)
    assert tuple(values) == streams.names
    for name, array in values.items():
        stream = streams[name]
        assert array.shape == stream.shape and array.dtype == stream.dtype
        encoded = stream.encode(array)
        assert encoded.shape == (stream.size,)
        assert np.array_equal(stream.decode(encoded), array)
        if stream.kind == "discrete":
            assert encoded.sum() == len(stream.sizes)
    assert same(streams.write(values), sample)


@quick
@given(observation_spaces, st.integers(0, 99), st.integers(1, 3))
def test_batched_observations_are_stacked_ones(space, seed, n):
    rng, streams = RNG(seed), ObservationSpace.from_space(space)
    samples = [sample_of(space, rng) for _ in range(n)]
    batch = stacked(space, samples)
    values, singles = streams.read(batch, (n,)), [streams.read(sample) for sample in samples]
    for name in streams.names:
        assert np.array_equal(values[name], np.stack([single[name] for single in singles]))
        assert values[name].dtype == singles[0][name].dtype
    assert same(streams.write(values), batch)


@quick
@given(action_spaces)
def test_action_spaces_come_back(space):
    actions = action_space(space)
    assert actions.space() == space and same_space(actions.space(), space)
    plain = json.loads(json.dumps(actions.to_json(), allow_nan=False))
    assert ActionSpace.from_json(plain) == actions
    sizes = (actions.low, actions.high, actions.bounded, actions.continuous, *actions.scaling())
    assert {len(size) for size in sizes} == {actions.size}
    assert all(np.isfinite(part[list(actions.bounded)]).all() for part in actions.scaling())


@quick
@given(action_spaces, st.integers(0, 99))
def test_controls_keep_what_float32_holds(space, seed):
    actions, action = action_space(space), sample_of(space, RNG(seed))
    controls = actions.encode(action)
    assert controls.shape == (actions.size,) and controls.dtype == np.float32
    assert np.isfinite(controls).all()
    decoded = actions.decode(controls)
    assert space.contains(decoded)
    assert np.array_equal(actions.encode(decoded), controls)


@quick
@given(action_spaces, st.data())
def test_whatever_the_controls_the_action_is_in_the_space(space, data):
    actions = action_space(space)
    controls = data.draw(flat_controls(actions.size))
    for row in controls:
        assert space.contains(actions.decode(row))
    batch = actions.decode(controls)
    assert same(batch, stacked(space, [actions.decode(row) for row in controls]))
    assert batch_space(space, len(controls)).contains(batch)


@quick
@given(action_spaces, st.integers(0, 99))
def test_batched_actions_are_stacked_ones(space, seed):
    actions, rng = action_space(space), RNG(seed)
    singles = [sample_of(space, rng) for _ in range(3)]
    together = actions.encode(stacked(space, singles), (3,))
    assert np.array_equal(together, np.stack([actions.encode(single) for single in singles]))


@quick
@given(action_spaces, st.integers(0, 99))
def test_random_actions_are_in_the_space(space, seed):
    actions = action_space(space)
    batch = actions.sample(RNG(seed), (2, 3))
    again = actions.sample(RNG(seed), (2, 3))
    assert same(batch, again)
    assert actions.encode(batch, (2, 3)).shape == (2, 3, actions.size)
    for index in np.ndindex(2, 3):
        one = map_arrays(lambda array, index=index: array[index], batch)
        # An index gives NumPy's scalar of a Box without axes, which Gymnasium warns of.
        one = map_arrays(lambda x: x if x.dtype.kind in "iub" else np.asarray(x), one)
        assert np.isfinite(actions.encode(one)).all()
    assert space.contains(actions.sample(RNG(seed)))


@quick
@given(action_spaces, st.booleans(), st.integers(0, 99))
def test_flat_actions_arrive_in_the_space(space, box, seed):
    assume(not isinstance(space, Box) or space.shape != ())
    try:
        env = FlatActions(Echo(action_space=space), box=box)
    except SpecError:
        assume(False)
        raise
    env.action_space.seed(seed)
    for _ in range(3):
        assert space.contains(env.action(env.action_space.sample()))
    if isinstance(env.action_space, Box):
        assert env.action_space == Box(-1, 1, (ActionSpace.from_space(space).size,))
