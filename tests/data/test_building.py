"""Datasets of what somebody has."""

import gymnasium as gym
import numpy as np
import pytest

from worldmodel.data import from_episodes
from worldmodel.data.splits import Shares
from worldmodel.errors import ConfigError, ShapeError, SpecError

RNG = np.random.default_rng(0)


def episode(steps: int = 5, **changes) -> dict:
    frames = RNG.normal(size=(steps + 1, 3)).astype(np.float32)
    return {"observations": frames, "actions": np.zeros((steps, 2), np.float32), **changes}


@pytest.mark.parametrize(
    ("values", "space"),
    [
        (np.zeros((6, 16, 16), np.uint8), gym.spaces.Box(0, 255, (16, 16), np.uint8)),
        (np.zeros((6, 16, 16, 3), np.uint8), gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)),
        (np.zeros((6, 4)), gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)),
        (np.zeros(6, np.float32), gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)),
        (np.zeros((6, 2), np.float16), gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)),
        (np.zeros((6, 2), np.bool_), gym.spaces.MultiBinary((2,))),
        (np.arange(6), gym.spaces.Discrete(6)),
    ],
    ids=["grey", "colour", "double", "number", "half", "switches", "index"],
)
def test_spaces_are_inferred(values, space):
    dataset = from_episodes([episode(observations=values), episode(observations=values)])
    assert dataset.observation_spec.space() == space
    assert len(dataset.provenance.notes) == (values.dtype == np.int64)
    nested = from_episodes([episode(observations={"a": values, "b": {"c": np.zeros((6, 1))}})])
    assert nested.observation_spec.space()["a"] == space


def test_integer_actions_are_indices_and_that_is_said():
    dataset = from_episodes([episode(actions=np.array([0, 1, 3, 1, 0])), episode(actions=[0] * 5)])
    assert dataset.action_spec.space() == gym.spaces.Discrete(4)
    (note,) = dataset.provenance.notes
    assert note.startswith("actions are whole numbers, which were taken for indices of 4 values")
    acted = dataset.split(next(n for n in dataset.splits if n == "train"))[0].actions
    assert acted.shape == (5, 4) and (acted.sum(1) == 1).all()
    with pytest.raises(SpecError, match="gone through only once"):
        from_episodes(iter([episode(actions=np.zeros(5, np.int64))]))
    with pytest.raises(SpecError, match=r"from -1 to 0.*action_space"):
        from_episodes([episode(actions=np.array([0, -1, 0, 0, 0]))])


def test_t_observations_are_never_guessed():
    odd = episode(rewards=np.arange(5.0), terminated=[False] * 4 + [True])
    odd["observations"] = odd["observations"][:5]
    told = r"episode 1 has 5 actions and 5 observations; expected 6.*final_observation=False"
    with pytest.raises(ShapeError, match=told):
        from_episodes([episode(rewards=np.zeros(5), terminated=False), odd])
    dataset = from_episodes([odd], final_observation=False, splits=["train"])
    (found,) = dataset.train
    assert found.actions.shape == (4, 2) and found.rewards.tolist() == [0, 1, 2, 3]
    assert not found.terminated.any()
    assert "last action" in dataset.provenance.notes[0]
    assert "1 episodes end by their last action, which is left out" in dataset.provenance.notes[1]
    without_end = {**odd, "terminated": [False] * 5}
    noted = from_episodes([without_end], final_observation=False, splits=["train"]).provenance.notes
    assert len(noted) == 1
    with pytest.raises(ShapeError, match="episode 0 has 5 actions and 6 observations; expected 5"):
        from_episodes([episode()], final_observation=False)


def test_an_episode_of_another_dtype_or_other_streams_is_named():
    wrong = episode()
    wrong["observations"] = wrong["observations"].astype(np.float16)
    with pytest.raises(ShapeError, match=r"episode 2: observations differ .* float16 .*expected"):
        from_episodes([episode(), episode(), wrong])
    wrong["observations"] = {"x": wrong["observations"]}
    named = episode()
    named["observations"] = {"y": named["observations"]}
    with pytest.raises(ShapeError, match=r"dictionaries of \['y'\].* got \['x'\] in episode 1"):
        from_episodes([named, wrong])


def test_what_is_not_known_is_absent():
    dataset = from_episodes([episode()], splits=["train"])
    (found,) = dataset.train
    assert found.rewards is None and found.states is None and found.timestamps is None
    assert found.truncated is None and not found.terminated.any()
    assert dataset.train.padded().rewards is None and dataset.train.states is None
    assert dataset.provenance.source is None
    dataset.train.padded()[:1].window(0, 2)


def nan(name: str, shape) -> dict:
    values = np.zeros(shape, np.float32)
    values[3] = np.nan
    return {name: values}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            nan("observations", (6, 3)),
            "observations must be finite, got .*nan.* episode 1 at time 3",
        ),
        (nan("actions", (5, 2)), r"(?s)episode 1: .*finite"),
        (nan("rewards", 5), "rewards must be finite, got nan in episode 1 at time 3"),
        (nan("states", (6, 2)), "states must be finite.* in episode 1 at time 3"),
        ({"rewards": np.zeros(4)}, r"episode 1 has 5 actions and rewards \(4,\); expected \(5,\)"),
        ({"terminated": [0, 0, 2, 0, 0]}, "episode 1: terminated must be booleans"),
        ({"truncated": [True] * 4}, r"episode 1 has 5 actions and truncated \(4,\)"),
        ({"timestamps": [0, 1, 2, 2, 3, 4]}, "timestamps must increase, got 2.* at time 3"),
        ({"timestamps": [0, 1]}, r"timestamps \(2,\); expected \(6,\)"),
        ({"states": np.zeros((5, 2))}, r"states \(5, 2\); expected \(6, n\)"),
        ({"reward": np.zeros(5)}, "episode 1 has the key 'reward'; expected .*rewards"),
        ({"actions": None}, "episode 1 has no actions"),
        ({"observations": np.zeros((6, 3), "U1")}, "observation"),
        ({"observations": np.zeros((6, 4), np.float32)}, r"episode 1: .*\(6, 3\), got \(6, 4\)"),
        ({"observations": np.zeros((4, 3), np.float32)}, "episode 1 has 5 actions and 4 obs"),
    ],
)
def test_what_is_wrong_names_the_episode(tmp_path, changes, told):
    spaces = {
        "observation_space": gym.spaces.Box(-np.inf, np.inf, (3,), np.float32),
        "action_space": gym.spaces.Box(-1, 1, (2,), np.float32),
    }
    for out in (None, tmp_path / "data"):
        with pytest.raises((ShapeError, SpecError), match=told):
            from_episodes([episode(), episode(**changes)], out=out, **spaces)
    assert not (tmp_path / "data").exists()


def test_no_episode_is_no_dataset(tmp_path):
    for episodes in ([], iter([])):
        with pytest.raises(SpecError, match="at least one episode"):
            from_episodes(episodes, out=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_splits_are_by_share_and_seeded():
    episodes = [episode(2) for _ in range(50)]
    dataset = from_episodes(episodes)
    assert {name: len(dataset.split(name)) for name in dataset.splits} == {
        "train": 40,
        "validation": 5,
        "test": 5,
    }
    again, other = (from_episodes(episodes, seed=seed) for seed in (0, 1))
    assert again.provenance.fingerprint == dataset.provenance.fingerprint
    assert other.provenance.fingerprint != dataset.provenance.fingerprint
    three = from_episodes(episodes[:3])
    assert {len(three.split(name)) for name in three.splits} == {1} and len(three.splits) == 3
    with pytest.raises(ConfigError, match="add up to 1"):
        from_episodes(episodes, splits={"train": 0.5})


def test_shares_hold_all_along():
    shares, drawn = Shares(seed=3), []
    for n in range(1, 300):
        drawn.append(shares.draw())
        shares.count(drawn[-1], 1)
        assert abs(drawn.count("train") - 0.8 * n) < 2 and abs(drawn.count("test") - 0.1 * n) < 2
    assert len({tuple(drawn[i : i + 10]) for i in range(0, 290, 10)}) > 10


def test_a_stream_of_episodes_is_read_once(tmp_path):
    dataset = from_episodes((episode(3, rewards=np.ones(3)) for _ in range(20)), out=tmp_path / "d")
    assert sum(len(dataset.split(name)) for name in dataset.splits) == 20
    assert dataset.train[0].rewards.tolist() == [1, 1, 1]
