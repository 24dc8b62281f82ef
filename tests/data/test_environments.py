import json
import os
import sys
from dataclasses import asdict

import gymnasium as gym
import numpy as np
import pytest
import zoo
from gymnasium.vector import SyncVectorEnv
from small import pixels

from worldmodel import data
from worldmodel.data import Source, SplitConfig, Uniform, Wrapping, collect, record
from worldmodel.data.environments import ObservationAsTruth
from worldmodel.errors import ConfigError, MissingExtraError, ShapeError, SpecError


@pytest.mark.parametrize(
    ("wrapping", "shape"),
    [
        (Wrapping(frame_skip=3), (4,)),
        (Wrapping(pixels=True), (32, 32, 3)),
        (Wrapping(pixels=True, resize=20), (20, 20, 3)),
        (Wrapping(pixels=True, resize=16, grayscale=True, frame_skip=2), (16, 16, 1)),
    ],
)
def test_one_environment_and_many_are_wrapped_alike(wrapping, shape):
    source = Source("CartPole-v1", {}, wrapping)
    single, vector = source.make(), source.make_vec(2)
    assert single.observation_space.shape == vector.single_observation_space.shape == shape
    alone, _ = single.reset(seed=5)
    many, _ = vector.reset(seed=[5, 6])
    np.testing.assert_array_equal(many[0], alone)
    alone, reward, *_ = single.step(1)
    many, rewards, *_ = vector.step(np.array([1, 0]))
    np.testing.assert_array_equal(many[0], alone)
    assert reward == rewards[0] == wrapping.frame_skip
    single.close()
    vector.close()


@pytest.mark.parametrize("skip", [1, 3, 8])
def test_an_episode_takes_fewer_actions_that_are_repeated(skip):
    source = Source("Pendulum-v1", {}, Wrapping(frame_skip=skip))
    env, many, taken, truncated = source.make(), source.make_vec(2), 0, False
    env.reset(seed=0)
    while not truncated:
        truncated, taken = env.step(np.zeros(1, np.float32))[3], taken + 1
    assert source.episode_steps(env) == source.episode_steps(many) == taken
    assert Source("Pendulum-v1").endless().episode_steps(source.endless().make()) is None
    env.close()
    many.close()


def test_the_picture_is_the_rendered_one_and_the_vector_becomes_the_truth():
    source = Source("Pendulum-v1", {}, Wrapping(pixels=True, resize=500))
    env, plain = source.make(), gym.make("Pendulum-v1", render_mode="rgb_array")
    picture, info = env.reset(seed=3)
    vector, _ = plain.reset(seed=3)
    np.testing.assert_array_equal(info["state"], vector)
    np.testing.assert_array_equal(picture, plain.render())
    *_, info = env.step(np.ones(1, np.float32))
    np.testing.assert_array_equal(info["state"], plain.step(np.ones(1, np.float32))[0])
    env.close()
    plain.close()


def test_repeated_actions_do_what_repeating_them_does():
    wrapped, plain = (
        Source("Pendulum-v1", {}, Wrapping(frame_skip=3)).make(),
        gym.make("Pendulum-v1"),
    )
    wrapped.reset(seed=1)
    plain.reset(seed=1)
    observation, reward, *_ = wrapped.step(np.ones(1, np.float32))
    steps = [plain.step(np.ones(1, np.float32)) for _ in range(3)]
    np.testing.assert_array_equal(observation, steps[-1][0])
    assert reward == pytest.approx(sum(step[1] for step in steps))


def test_a_dataset_knows_how_to_make_its_environment_again(tmp_path):
    wrapping = Wrapping(pixels=True, resize=12, grayscale=True, frame_skip=2)
    recorded = collect("CartPole-v1", splits={"train": SplitConfig(3, 5)}, wrapping=wrapping)
    data.save(recorded, tmp_path / "d")
    source = data.load(tmp_path / "d").provenance.source
    assert source == Source("CartPole-v1", {}, wrapping)
    assert json.loads(json.dumps(asdict(source))) == asdict(source)
    assert recorded.observation_spec == pixels(12, 12)
    assert recorded.train.states is not None and recorded.train.states.shape[2] == 4


def test_what_the_environment_tells_of_its_state_is_kept():
    env = Source("worldmodel/Pendulum-v0", {"observation": "state"}, Wrapping(pixels=True)).make()
    _, info = env.reset(seed=0)
    assert info["state"].shape == (2,)  # angle and velocity, not the three that were observed


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"resize": 7}, "resize must be at least 8 .* got 7"), ({"frame_skip": 0}, "got 0")],
)
def test_senseless_wrappings_are_refused(settings, told):
    with pytest.raises(ConfigError, match=told):
        Wrapping(**settings)


def test_a_wrapping_that_does_not_fit_is_said_with_the_wrapping():
    with pytest.raises(SpecError, match=r"cannot make 'Pendulum-v1'.*grayscale=True.*3 channels"):
        Source("Pendulum-v1", {}, Wrapping(grayscale=True)).make()


def test_scaling_without_opencv_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"worldmodel\[pixels\]"):
        Source("CartPole-v1", {}, Wrapping(pixels=True)).make()


def test_mujoco_renders_without_a_display_unless_told_otherwise(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    Source("CartPole-v1", {}, Wrapping(pixels=True)).make().close()
    assert os.environ["MUJOCO_GL"] == "osmesa"
    monkeypatch.delenv("MUJOCO_GL")
    Source("CartPole-v1", {}, Wrapping(pixels=True)).make().close()
    assert os.environ["MUJOCO_GL"] == "egl"


class Aimed(gym.Env):
    """Draws what its camera sees, which looks where the first drawn state was, as MuJoCo's does."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - Gymnasium's own convention
    observation_space = gym.spaces.Box(0, 1, (1,))
    action_space = gym.spaces.Discrete(2)
    mujoco_renderer = None

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._place = self.np_random.random()
        return np.array([self._place], np.float32), {}

    def render(self):
        self.mujoco_renderer = self.mujoco_renderer or self._place
        return np.full((32, 32, 3), 255 * abs(self._place - self.mujoco_renderer), np.uint8)


@pytest.fixture
def aimed():
    gym.register("test/Aimed-v0", Aimed)
    yield "test/Aimed-v0"
    del gym.registry["test/Aimed-v0"]


def test_every_environment_looks_from_the_same_place(aimed):
    source = Source(aimed, {}, Wrapping(pixels=True))
    first, second, many = source.make(), source.make(), source.make_vec(2)
    first.reset(seed=1)
    second.reset(seed=2)
    seen = first.reset(seed=3)[0]
    assert seen.any()
    np.testing.assert_array_equal(second.reset(seed=3)[0], seen)
    np.testing.assert_array_equal(many.reset(seed=[4, 3])[0][1], seen)
    starts = [source.make().reset()[1]["state"] for _ in range(2)]
    assert starts[0] != starts[1], "whoever gives no seed wants chance"


@pytest.mark.parametrize("env_id", ["Reacher-v5", "HalfCheetah-v5"])
def test_mujoco_draws_one_state_as_one_picture(env_id):
    source = Source(env_id, {"width": 64, "height": 64}, Wrapping(pixels=True))
    try:
        first, second = source.make(), source.make()
    except (SpecError, MissingExtraError) as error:
        pytest.skip(str(error))
    first.reset(seed=1)
    second.reset(seed=2)
    np.testing.assert_array_equal(first.reset(seed=3)[0], second.reset(seed=3)[0])
    first.close()
    second.close()


class Odd(gym.Env):
    """Observes what no model can, or pretends to."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's own convention
    action_space = gym.spaces.Discrete(2)
    observation_space = gym.spaces.Text(5)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return "abc", {}

    def step(self, action):
        return "abc", 0.0, False, False, {}

    def render(self):
        return np.full((40, 60, 3), 9, np.uint8)


@pytest.fixture
def odd_id():
    gym.register("test/Odd-v0", entry_point=Odd, disable_env_checker=True)
    yield "test/Odd-v0"
    del gym.registry["test/Odd-v0"]


def test_what_cannot_be_modelled_is_refused_with_what_can(odd_id):
    splits = {"train": SplitConfig(2, 3)}
    for refused in (
        lambda: collect(odd_id, splits=splits),
        lambda: record(Odd(), 2, 3, Uniform(), seed=0),
    ):
        with pytest.raises(SpecError, match=r"observation: Text cannot.*pixels=True.*--pixels"):
            refused()
    seen = collect(odd_id, splits=splits, wrapping=Wrapping(pixels=True))
    assert seen.observation_spec == pixels(32, 32, 3)


def test_collect_prints_what_it_found(odd_id, tmp_path, capsys):
    from worldmodel.cli import main  # slow to import

    line = ["collect", odd_id, "--out", str(tmp_path / "d"), "--num-envs", "2"]
    main([*line, "--episodes", "2", "--steps", "14", "--test-steps", "14", "--pixels"])
    said = " ".join(capsys.readouterr().out.split())
    assert "note: stream 'observation' never changes in train, validation and test:" in said
    assert "note: every reward is 0 in train, validation and test:" in said
    still = data.load(tmp_path / "d")
    assert still.observation_spec == pixels(32, 32, 3) and len(data.findings(still)) == 2


@pytest.mark.parametrize(
    ("name", "size"),
    [("see-matrix", 6), ("see-integers", 4), ("see-multi-binary", 4), ("see-goal", 8)],
)
def test_numbers_of_any_shape_become_the_truth_of_a_picture(name, size):
    """Unless the environment tells its state: here it does not."""
    gym.register("test/Mute-v0", entry_point=lambda **k: Mute(**k), disable_env_checker=True)
    try:
        source = Source("test/Mute-v0", {"name": name}, Wrapping(pixels=True))
        env, plain = source.make(), gym.make(zoo.env_id(name))
        _, info = env.reset(seed=3)
        seen, _ = plain.reset(seed=3)
    finally:
        del gym.registry["test/Mute-v0"]
    assert info["state"].shape == (size,)
    np.testing.assert_array_equal(info["state"], gym.spaces.flatten(plain.observation_space, seen))


class Mute(gym.Wrapper):
    """Tells no state."""

    def __init__(self, name: str, render_mode: str | None = None) -> None:
        super().__init__(gym.make(zoo.env_id(name), render_mode=render_mode).unwrapped)

    def reset(self, **kwargs):
        return self.env.reset(**kwargs)[0], {}


@pytest.mark.parametrize("name", ["see-discrete", "see-cameras", "see-nested", "see-colour"])
def test_what_is_not_all_numbers_is_no_truth(name):
    env = ObservationAsTruth(Mute(name))
    assert env.reset(seed=0)[1] == {}


class Lies(gym.ObservationWrapper):
    """Shows something else than its space says."""

    def __init__(self, env: gym.Env, lie) -> None:
        super().__init__(env)
        self._lie = lie

    def observation(self, observation):
        return self._lie(observation)


@pytest.mark.parametrize(
    ("name", "lie", "told"),
    [
        ("see-vector", lambda x: x.astype(float), "observation must be float32, got float64"),
        ("see-vector", lambda x: x[:3], r"observation must be of shape \(4,\), got \(3,\)"),
        ("see-vector", lambda x: x * np.float32(np.nan), "observation must be finite, got nan"),
        ("see-bounded", lambda x: x + np.float32(99), r"observation must lie in \[-10.0, 10.0\]"),
        ("see-colour", lambda x: x / 255, "observation must be uint8, got float64"),
        ("see-cameras", lambda x: {**x, "wrist": x["front"]}, "wrist must be of shape"),
        ("see-cameras", lambda x: {"front": x["front"]}, "must be a dict of .*'wrist'"),
        ("see-nested", lambda x: {**x, "poses": (x["poses"][0], 3)}, "poses.1 must be"),
        ("see-tuple", lambda x: (x[0], np.int64(0)), r"1 must lie in \[1, 4\], got 0"),
    ],
)
def test_what_breaks_its_declared_space_is_refused_by_name(name, lie, told):
    """A vector environment alone would convert a dtype, and complain of shapes in its own way."""

    def make() -> gym.Env:
        return Lies(gym.make(zoo.env_id(name)), lie)

    with pytest.raises(ShapeError, match=told):
        record(make(), 2, 3, Uniform(), seed=0)
    with pytest.raises(ShapeError, match=told):
        record(SyncVectorEnv([make] * 2), 2, 3, Uniform(), seed=0)
    gym.register("test/Lies-v0", entry_point=make, disable_env_checker=True)
    try:
        with pytest.raises(ShapeError, match=told):
            collect("test/Lies-v0", splits={"train": SplitConfig(2, 3)}, num_envs=2)
    finally:
        del gym.registry["test/Lies-v0"]


def test_a_module_that_registers_environments_is_imported_ready_to_render(tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "renderer_of_mine.py").write_text("import os\nGL = os.environ.get('MUJOCO_GL')\n")
    monkeypatch.syspath_prepend(tmp_path)
    Source("renderer_of_mine:CartPole-v1", {}, Wrapping(pixels=True)).make().close()
    assert sys.modules["renderer_of_mine"].GL == "egl", "dm_control reads it when it is imported"


@pytest.mark.parametrize("missing", ["shimmy", "dm_control"])
def test_dm_control_that_is_not_installed_names_the_extra(missing, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name != missing or None)
    with pytest.raises(MissingExtraError, match=rf"'{missing}'.*worldmodel\[foreign\]"):
        Source("shimmy:dm_control/cartpole-swingup-v0").make()


@pytest.mark.parametrize(
    ("said", "extra"),
    [
        ('MuJoCo is not installed, run `pip install "gymnasium[mujoco]"`', "mujoco"),
        (
            "Box2D is not installed, you can install it by run `pip install swig` followed by "
            '`pip install "gymnasium[box2d]"`',
            "foreign",
        ),
        ('pygame is not installed, run `pip install "gymnasium[box2d]"`', "pixels"),
    ],
)
def test_what_gymnasium_misses_names_the_extra(said, extra, monkeypatch):
    def refuse(*args, **kwargs):
        raise gym.error.DependencyNotInstalled(said)

    monkeypatch.setattr(gym, "make", refuse)
    with pytest.raises(MissingExtraError, match=rf"worldmodel\[{extra}\]") as refused:
        Source("CartPole-v1").make()
    assert "gymnasium[" not in str(refused.value), "of two hints one is wrong"
