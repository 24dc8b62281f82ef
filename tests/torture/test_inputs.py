"""Whatever is handed to the doors: a typed error, or finite numbers."""

import contextlib
import json
import random
import shutil
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import strategies as st
from inputs import ANYTHING, ARRAYS, DTYPES, PLAIN, varied
from small import BOX, DISCRETE, SEVERAL, VECTOR, generator, random_batch, small_model
from torture import SEEDS, TYPED, tried

from worldmodel.data import importing
from worldmodel.errors import ResetNeeded
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.world import checkpoint
from worldmodel.world.filter import FilterObservation
from worldmodel.world.world import World, load


def fitted(observations, actions):
    world = World(small_model("dvbf", observations, actions))
    batch = random_batch(observations, actions, 60)
    world.model.calibrate(batch)
    states = world.model.initial_prior(400, generator())
    world.support.fit(states[:300], states[300:], margin=3.0)
    return world


ROOM = 8 * 2**30  # bytes


@pytest.fixture(autouse=True, scope="module")
def room():
    """An input that has more memory taken fails by name, and does not have the process killed."""
    if sys.platform != "linux":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


# NumPy's own, of a list with a masked number; what follows is refused.
pytestmark = pytest.mark.filterwarnings("ignore:Warning. converting a masked element:UserWarning")
WORLDS = {"vector": fitted(VECTOR, BOX), "several": fitted(SEVERAL, DISCRETE)}
# What is right somewhere, for one or two dreams or for some steps: variations are nearly right.
SEEN = [np.zeros((*lead, 3), np.float32) for lead in ((), (1,), (2,), (4,), (1, 4), (2, 4))]
SEEN += [
    {
        "camera": np.full((*lead, 8, 8, 1), 7, np.uint8),
        "joints": np.ones((*lead, 2), np.float32),
        "gear": np.full(lead, 2),
    }
    for lead in ((), (1,), (2,), (4,), (1, 4), (2, 4))
]
DONE = [np.full((*lead, 2), 0.5, np.float32) for lead in ((), (1,), (2,), (3,), (1, 3), (2, 3))]
DONE += [1, *(np.ones(lead, np.int64) for lead in ((1,), (2,), (3,), (1, 3), (2, 3)))]
STATES = [np.zeros((*lead, 8), np.float32) for lead in ((), (1,), (2,))]
ACTIONS = ANYTHING | st.sampled_from(DONE)
OBSERVATIONS = ANYTHING | st.sampled_from(SEEN)
GIVEN = OBSERVATIONS | st.sampled_from(DONE + STATES)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "state": ANYTHING | st.sampled_from(STATES),
        "observations": OBSERVATIONS,
        "actions": ACTIONS,
        "reset_mask": ANYTHING | st.sampled_from([np.array([True]), np.array([True, False])]),
        "other": PLAIN,
    },
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
    env = world.env() if request.param == "one" else world.vector_env(2)
    env.reset(seed=0)
    return env


@tried(20, options=OPTIONS | ANYTHING)
def test_reset(env, options):
    with contextlib.suppress(*TYPED):
        finite(env.reset(options=options)[0])


@tried(25, action=ACTIONS)
def test_step(env, action):
    with contextlib.suppress(*TYPED):
        finite(*env.step(action)[:2])
    try:
        finite(*env.step(env.action_space.sample())[:2])
    except ResetNeeded:  # it was taken, and ended the episode
        finite(env.reset()[0])


@tried(20, first=GIVEN, second=ACTIONS)
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


@pytest.fixture
def watched(world):
    return FilterObservation(Shows(world), world)


@tried(30, shown=OBSERVATIONS, action=ACTIONS)
def test_a_filtered_environment(watched, shown, action):
    """Whatever it was shown before: it goes on."""
    real = watched.unwrapped
    real.shown = real.observation_space.sample()
    finite(watched.reset()[0])
    with contextlib.suppress(*TYPED):
        finite(watched.step(action)[0])
    real.shown = shown
    for use in (lambda: watched.step(watched.action_space.sample()), watched.reset):
        with contextlib.suppress(*TYPED):
            finite(use()[0])


@tried(50, action=ACTIONS, observation=OBSERVATIONS)
def test_spaces(world, action, observation):
    spec, seen = world.model.action_spec, world.model.observation_spec
    with contextlib.suppress(*TYPED):
        finite(spec.encode(action))
    with contextlib.suppress(*TYPED):
        decoded = spec.decode(action)
        assert np.ndim(action) > 1 or spec.space().contains(decoded)
    with contextlib.suppress(*TYPED):
        finite(seen.read(observation))


TOLD = [spec.to_json() for spec in (BOX, DISCRETE, VECTOR, SEVERAL)]


@tried(30, told=ANYTHING | st.sampled_from(TOLD))
def test_spaces_that_are_told(told):
    """By a file: what JSON has no word for is text there."""
    told = json.loads(json.dumps(told, default=repr, skipkeys=True))
    for kind in (ActionSpace, ObservationSpace):
        with contextlib.suppress(*TYPED):
            kind.from_json(told).space()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "_PAUSES", ())  # nobody is writing there
        yield WORLDS["several"].save(tmp_path_factory.mktemp("saved") / "world")


@tried(10, seed=SEEDS, junk=st.binary(max_size=9), node=PLAIN | st.lists(PLAIN, max_size=2))
def test_loading(saved, tmp_path, seed, junk, node):
    """A checkpoint with a part of its settings replaced, or some bytes of any of its files."""
    rng, folder = random.Random(repr(seed)), tmp_path / "altered"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    name = rng.choice(["config.json", "config.json", "model.safetensors", "metrics.json"])
    for path in saved.iterdir():
        if path.name != name:
            (folder / path.name).hardlink_to(path)
    content = (saved / name).read_bytes()
    if name == "config.json" and rng.random() < 0.7:
        content = json.dumps(replaced(json.loads(content), node, rng), default=repr).encode()
    else:
        at = rng.randrange(len(content))
        content = content[:at] + bytes(str(junk), "utf8")[:9] + content[at + rng.randrange(10) :]
    (folder / name).write_bytes(content)
    with contextlib.suppress(*TYPED):
        env = load(folder).env()
        finite(env.reset(seed=0)[0])


def replaced(plain, by, rng):
    """Plain data with one thing in them replaced by another, or varied."""
    if isinstance(plain, dict | list) and plain and rng.random() < 0.8:
        place = rng.choice(list(plain) if isinstance(plain, dict) else range(len(plain)))
        plain[place] = replaced(plain[place], by, rng)
        return plain
    return by if rng.random() < 0.5 else varied(plain, rng)


# NumPy's own, of what it cannot save.
UNSAVED = (TypeError, ValueError, AttributeError, RuntimeError, NotImplementedError)
ROLES = ["observations", "next_observations", "actions", "rewards", "terminals", "timeouts"]
NUMBERS = [dtype for dtype in DTYPES if dtype.kind in "fiub"]


def column(length, rng):
    """So many rows of what a recording usually holds."""
    size = rng.choice([(length,), (length, 1), (length, 2), (length, 4, 4, 3)])
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 3, size)
    return noise.astype(rng.choice(NUMBERS))


@tried(5, seed=SEEDS, junk=st.binary(max_size=9), other=ARRAYS)
def test_importing(tmp_path, seed, junk, other):
    """A file of arrays, or of other bytes, becomes a dataset of finite numbers or an error."""
    source, out, rng = tmp_path / "recorded.npz", tmp_path / "data", random.Random(repr(seed))
    shutil.rmtree(out, ignore_errors=True)
    length, names = rng.randrange(7), rng.choice([ROLES, rng.sample(ROLES, rng.randrange(1, 7))])
    columns = {name: column(length, rng) for name in names}
    if rng.random() < 0.7:
        place = rng.choice(names)
        columns[place] = other if rng.random() < 0.3 else varied(columns[place], rng)
    with warnings.catch_warnings(), contextlib.suppress(*UNSAVED):
        warnings.simplefilter("ignore")
        np.savez(source, **columns)
    if rng.random() < 0.2:
        content = source.read_bytes()
        at = rng.randrange(len(content))
        source.write_bytes(content[:at] + bytes(str(junk), "utf8")[:9] + content[at + 3 :])
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
