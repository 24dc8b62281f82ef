import json
import os
from dataclasses import asdict

import gymnasium as gym
import numpy as np
import pytest
import zoo
from small import pixels

from worldmodel import data
from worldmodel.cli import main
from worldmodel.data import Source, SplitConfig, Wrapping, collect
from worldmodel.errors import ConfigError, MissingExtraError, SpecError


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
    data.save(recorded, tmp_path / "d.npz")
    source = data.load(tmp_path / "d.npz").provenance.source
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


class Odd(gym.Env):
    """Observes what no model can."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's own convention
    action_space = gym.spaces.Discrete(2)
    spaces = {  # noqa: RUF012 - a constant of the test, never written to
        "dict": gym.spaces.Dict({"arm": gym.spaces.Box(0, 1, (2,), np.float32)}),
        "text": gym.spaces.Text(5),
        "grid": gym.spaces.MultiDiscrete([3, 3]),
    }

    def __init__(self, kind: str, render_mode: str | None = None) -> None:
        self.observation_space, self.render_mode = self.spaces[kind], render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(0)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}

    def render(self):
        return np.full((40, 60, 3), 9, np.uint8)


@pytest.fixture
def odd_id():
    gym.register("test/Odd-v0", entry_point=Odd, disable_env_checker=True)
    yield "test/Odd-v0"
    del gym.registry["test/Odd-v0"]


@pytest.mark.parametrize("kind", Odd.spaces)
def test_what_cannot_be_modelled_is_refused_with_what_can(odd_id, kind, tmp_path, capsys):
    line = ["collect", "--out", str(tmp_path / "d.npz"), "--env-id", odd_id, "--num-envs", "2"]
    line += ["--env-kwargs", json.dumps({"kind": kind}), "--episodes", "2", "--test-steps", "14"]
    with pytest.raises(SystemExit):
        main(line)
    said = capsys.readouterr().err
    assert type(Odd.spaces[kind]).__name__ in said
    assert all(part in said for part in ("(height, width, channel)", "(n,)", "pixels", "Flatten"))
    main([*line, "--pixels"])
    assert data.load(tmp_path / "d.npz").observation_spec.shape == (32, 32, 3)
