"""Tensors, and arrays that are laid out otherwise, at every door that takes arrays."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction
from small import BOX, DISCRETE, SEVERAL, VECTOR, generator, random_batch, tiny_model

from envs.pendulum import Pendulum
from worldmodel.errors import ConfigError, DivergenceError, ShapeError, SpecError
from worldmodel.models.networks import positive, raw_scale
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.world.ends import Ends
from worldmodel.world.world import World

# None of them is an array until PyTorch is asked for more.
TENSORS = {
    "of a gradient": lambda *size: torch.zeros(size, requires_grad=True),
    "of another device": lambda *size: torch.zeros(size, device="meta"),
    "of another type": lambda *size: torch.zeros(size, dtype=torch.bfloat16),
}


@pytest.fixture(scope="module")
def world():
    world = World(tiny_model(VECTOR, BOX))
    world.model.calibrate(random_batch(VECTOR, BOX, 60))
    states = world.model.initial_prior(400, generator())
    world.support.fit(states[:300], states[300:], margin=3.0)
    return world


@pytest.mark.parametrize("made", TENSORS.values(), ids=TENSORS)
def test_tensors_that_are_no_arrays_are_refused(made, world):
    env, dreams, real = world.env(), world.vector_env(2), Pendulum()
    for each in (env, dreams, real):
        each.reset(seed=0)
    for step, action in ((env.step, made(2)), (dreams.step, made(2, 2)), (real.step, made(1))):
        with pytest.raises(InvalidAction, match="must be an array"):
            step(action)
    for use in (
        lambda: world.filter(made(1, 3, 3), np.zeros((1, 2, 2))),
        lambda: world.filter(np.zeros((1, 3, 3)), made(1, 2, 2)),
        lambda: world.imagine(made(1, 3), np.zeros((1, 2, 2))),
        lambda: env.reset(options={"state": made(3)}),
        lambda: VECTOR.read(made(3)),
    ):
        with pytest.raises(ShapeError):
            use()


def test_other_layouts_are_the_same_numbers(world):
    rng = np.random.default_rng(0)
    frames, actions = rng.normal(size=(2, 4, 3)), rng.uniform(0, 1, (2, 3, 2))
    frames, actions = frames.astype(np.float32), actions.astype(np.float32)
    expected = world.filter(frames, actions)
    locked = frames.copy()
    locked.flags.writeable = False  # as of a file that is mapped, or of JAX
    flipped = np.ascontiguousarray(frames[..., ::-1])[..., ::-1]
    for same in (locked, flipped, frames.astype(">f4"), np.asfortranarray(frames)):
        assert np.array_equal(world.filter(same, actions), expected)


def test_what_is_shown_of_a_state_is_finite():
    """The model's own numbers were, and not what they are in the units of the data."""
    model = tiny_model(VECTOR, BOX)
    batch = random_batch(VECTOR, BOX, 60)
    model.calibrate(dataclasses.replace(batch, observations=batch.observations * 1e37))
    with pytest.raises(DivergenceError, match="not finite"):
        World(model).decode(np.full((1, 3), 1e4, np.float32))


def test_names_are_told_as_text():
    world = World(tiny_model(SEVERAL, DISCRETE))
    with pytest.raises(ShapeError):
        world.filter({None: np.zeros((1, 2, 3))}, np.zeros((1, 1, 3)))


@pytest.mark.parametrize("name", ["slope", "shift", "reward"])
def test_ends_are_told_in_float32(name):
    with pytest.raises(ConfigError, match=f"{name} must be finite"):
        Ends(**{name: 1e300})


@pytest.mark.parametrize("scale", [2e-3, 0.5, 30.0, 1e3, 1e9])
def test_scales_of_any_size_have_an_inverse(scale):
    raw = torch.tensor(raw_scale(scale), dtype=torch.float64)
    assert positive(raw).item() == pytest.approx(scale, rel=1e-9)


LEAF = VECTOR.to_json()
WRONG = {
    "no dictionary": "stream",
    "no member": {"path": "x", "dict": None, "keys": []},
    "a key that is a list": {"path": "x", "dict": [LEAF], "keys": [["a"]], "sort_keys": True},
    "a leaf that is none": {"stream": [1.0]},
    "a time": {"stream": LEAF["stream"] | {"space": LEAF["stream"]["space"] | {"dtype": "M8[s]"}}},
    "a bound that is a list": {
        "stream": LEAF["stream"] | {"space": LEAF["stream"]["space"] | {"high": [[1.0]]}}
    },
    "an infinite length": {"stream": LEAF["stream"] | {"shape": [float("inf")]}},
}


@pytest.mark.parametrize("plain", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("kind", [ActionSpace, ObservationSpace])
def test_what_describes_no_space_is_refused(kind, plain):
    with pytest.raises(SpecError, match="describes no space"):
        kind.from_json(plain)
