"""Whatever is handed to the doors: a typed error, or finite numbers."""

import contextlib
import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from small import BOX, DISCRETE, SEVERAL, VECTOR, generator, random_batch, small_model
from torture import ANYTHING, ARRAYS, DTYPES, PLAIN, TYPED, tried

from worldmodel.data import importing
from worldmodel.errors import ResetNeeded
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.world.filter import FilterObservation
from worldmodel.world.world import World, load


def fitted(observations, actions):
    world = World(small_model("dvbf", observations, actions))
    batch = random_batch(observations, actions, 60)
    world.model.calibrate(batch)
    states = world.model.initial_prior(400, generator())
    world.support.fit(states[:300], states[300:], margin=3.0)
    return world


WORLDS = {"vector": fitted(VECTOR, BOX), "several": fitted(SEVERAL, DISCRETE)}
OPTIONS = st.dictionaries(
    st.sampled_from(["state", "observations", "actions", "reset_mask", "other"]), ANYTHING
)


def finite(*values) -> None:
    for value in values:
        parts = value.values() if isinstance(value, dict) else [value]
        assert all(np.isfinite(part).all() for part in parts)


@pytest.fixture(params=WORLDS)
def world(request):
    return WORLDS[request.param]


@pytest.fixture(params=["one", "many"])
def env(request, world):
    return world.env() if request.param == "one" else world.vector_env(2)


@tried(40, options=OPTIONS | ANYTHING)
def test_reset(env, options):
    env.reset(seed=0)
    with contextlib.suppress(*TYPED):
        finite(env.reset(options=options)[0])


@tried(40, action=ANYTHING)
def test_step(env, action):
    env.reset(seed=0)
    with contextlib.suppress(*TYPED):
        finite(*env.step(action)[:2])
    with contextlib.suppress(ResetNeeded):  # it was taken, and ended the episode
        finite(*env.step(env.action_space.sample())[:2])


@tried(40, first=ANYTHING, second=ANYTHING)
def test_filter_imagine_and_decode(world, first, second):
    uses = (lambda: world.filter(first, second), lambda: world.imagine(first, second))
    for use in (*uses, lambda: world.decode(first)):
        with contextlib.suppress(*TYPED):
            finite(use())


class Shows(gym.Env):
    """Shows whatever it is told to, in the space of a world."""

    def __init__(self, world):
        self.observation_space = world.model.observation_spec.space()
        self.action_space = world.model.action_spec.space()
        self.shown = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.shown, {}

    def step(self, action):
        return self.shown, 0.0, False, False, {}


@tried(40, shown=ANYTHING, action=ANYTHING)
def test_a_filtered_environment(world, shown, action):
    real = Shows(world)
    env = FilterObservation(real, world)
    real.shown = real.observation_space.sample()
    finite(env.reset(seed=0)[0])
    with contextlib.suppress(*TYPED):
        finite(env.step(action)[0])
    real.shown = shown
    for use in (lambda: env.step(env.action_space.sample()), env.reset):
        with contextlib.suppress(*TYPED):
            finite(use()[0])


@tried(60, action=ANYTHING, observation=ANYTHING)
def test_spaces(world, action, observation):
    spec, seen = world.model.action_spec, world.model.observation_spec
    with contextlib.suppress(*TYPED):
        finite(spec.encode(action))
    with contextlib.suppress(*TYPED):
        decoded = spec.decode(action)
        assert np.ndim(action) > 1 or spec.space().contains(decoded)
    with contextlib.suppress(*TYPED):
        finite(seen.read(observation))
    for kind in (ActionSpace, ObservationSpace):
        with contextlib.suppress(*TYPED):
            kind.from_json(observation)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return WORLDS["several"].save(tmp_path_factory.mktemp("saved") / "world")


def altered(draw, node):
    """Plain data with one thing in them replaced by another."""
    if isinstance(node, dict | list) and node and draw(st.integers(0, 4)):
        places = list(node) if isinstance(node, dict) else range(len(node))
        place = draw(st.sampled_from(list(places)))
        node[place] = altered(draw, node[place])
        return node
    return draw(PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(st.text(max_size=3), PLAIN))


@tried(60, drawn=st.data())
def test_loading(saved, tmp_path, drawn):
    folder = tmp_path / "altered"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved, folder)
    name = drawn.draw(st.sampled_from(["config.json", "model.safetensors", "metrics.json"]))
    content = (folder / name).read_bytes()
    if name == "config.json" and drawn.draw(st.booleans()):
        content = json.dumps(altered(drawn.draw, json.loads(content))).encode()
    else:
        at = drawn.draw(st.integers(0, len(content) - 1))
        cut = at + drawn.draw(st.integers(0, 9))
        content = content[:at] + drawn.draw(st.binary(max_size=9)) + content[cut:]
    (folder / name).write_bytes(content)
    with contextlib.suppress(*TYPED):
        env = load(folder).env()
        finite(env.reset(seed=0)[0])


ROLES = ["observations", "next_observations", "actions", "rewards", "terminals", "timeouts"]
NUMBERS = [dtype for dtype in DTYPES if dtype.kind in "fiub"]


def column(length, drawn):
    """So many rows of anything, mostly of what a recording holds."""
    sizes = st.sampled_from([(length,), (length, 1), (length, 2), (length, 4, 4, 3)])
    usual = st.tuples(st.sampled_from(NUMBERS), sizes).flatmap(lambda t: npst.arrays(*t))
    return drawn.draw(usual | ARRAYS)


@tried(100, drawn=st.data())
def test_importing(tmp_path, drawn):
    """A file of arrays, or of other bytes, becomes a dataset of finite numbers or an error."""
    source, out = tmp_path / "recorded.npz", tmp_path / "data"
    shutil.rmtree(out, ignore_errors=True)
    length = drawn.draw(st.integers(0, 6))
    names = drawn.draw(st.sets(st.sampled_from(ROLES), min_size=1) | st.just(ROLES))
    np.savez(source, **{name: column(length, drawn) for name in sorted(names)})
    if drawn.draw(st.integers(0, 4)) == 0:
        content = source.read_bytes()
        at = drawn.draw(st.integers(0, len(content) - 1))
        source.write_bytes(content[:at] + drawn.draw(st.binary(max_size=9)) + content[at + 3 :])
    try:
        found = importing.write(importing.Import(source, importing.Choices()), out)
    except TYPED:
        assert not out.exists(), "nothing half-written stays"
        return
    found.verify()
    for split in found.splits:
        for episode in found.split(split):
            finite(episode.observations, episode.actions)
            assert episode.rewards is None or np.isfinite(episode.rewards).all()
