"""Which step the entries beside an observation are of, where first observations are marked."""

from __future__ import annotations

import numpy as np
import pytest

from worldmodel.data.importing import Choices, Import, report, write
from worldmodel.errors import ConfigError

LENGTHS = (6, 9, 5)


def made(seed=0, lengths=LENGTHS):
    """Episodes (observations, actions, rewards, terminated) of the usual convention."""
    rng = np.random.default_rng(seed)
    return [
        (
            rng.integers(0, 256, (t + 1, 16, 16, 3), np.uint8),
            rng.uniform(0.1, 1, (t, 2)).astype(np.float32),
            rng.uniform(0.1, 1, t).astype(np.float32),
            i % 2 == 0,
        )
        for i, t in enumerate(lengths)
    ]


def after(values):
    """As an array with zeros at the end."""
    return np.concatenate([values, np.zeros_like(values[:1])])


def before(values):
    return np.concatenate([np.zeros_like(values[:1]), values])


def replay(episode, arriving=True, **changed):
    """As Dreamer keeps an episode: before its third version actions arrive, since then they leave.

    Source: https://github.com/danijar/dreamerv2/blob/main/dreamerv2/common/driver.py and
    https://github.com/danijar/dreamerv3/blob/main/embodied/core/driver.py
    """
    image, actions, rewards, terminated = episode
    place = np.arange(len(image))
    last = place == len(image) - 1
    arrays = {
        "image": image,
        "action": (before if arriving else after)(actions),
        "reward": before(rewards),
        "is_first": place == 0,
        "is_last": last,
        "is_terminal": last & terminated,
    }
    return arrays | changed


def saved(folder, episodes, **how):
    for i, episode in enumerate(episodes):
        np.savez_compressed(folder / f"{i}.npz", **replay(episode, **how))
    return folder


def require_same(found, episodes):
    for (_, one), (image, actions, rewards, terminated) in zip(
        found.episodes(), episodes, strict=True
    ):
        np.testing.assert_array_equal(one["image"], image)
        np.testing.assert_array_equal(one["actions"], actions)
        np.testing.assert_array_equal(one["rewards"], rewards)
        assert one["terminated"][-1] == terminated and not one["terminated"][:-1].any()


@pytest.mark.parametrize("arriving", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_replay_of_dreamer_is_recognised_and_said(tmp_path, arriving, together):
    episodes = made()
    path = tmp_path
    if together:  # a chunk of several episodes
        kept = [replay(episode, arriving) for episode in episodes]
        path = tmp_path / "chunk.npz"
        np.savez(path, **{name: np.concatenate([k[name] for k in kept]) for name in kept[0]})
    else:
        saved(tmp_path, episodes, arriving=arriving)
    found = Import(path, Choices())
    assert found.final_observation
    require_same(found, episodes)
    told = "\n".join(report.contents(found))
    assert ("actions, rewards beside observation t" in told) == arriving
    assert ("actions beside observation t are taken for those of the step that begins" in told) == (
        not arriving
    )


def test_an_option_says_otherwise(tmp_path):
    episodes = made()
    saved(tmp_path, episodes)
    found = Import(tmp_path, Choices(leaving=("actions",)))
    (_, one), *_ = found.episodes()
    np.testing.assert_array_equal(one["actions"], before(episodes[0][1])[:-1])
    np.testing.assert_array_equal(one["rewards"], episodes[0][2])


def test_without_marks_an_option_alone_says_so(tmp_path):
    image, actions, rewards, _ = made()[0]
    np.savez(tmp_path / "x.npz", image=image, actions=before(actions), reward=before(rewards))
    assert not Import(tmp_path / "x.npz", Choices()).arriving
    found = Import(tmp_path / "x.npz", Choices(arriving=("actions", "rewards")))
    (_, one), *_ = found.episodes()
    np.testing.assert_array_equal(one["actions"], actions)
    np.testing.assert_array_equal(one["rewards"], rewards)
    dataset = write(found, tmp_path / "out")
    assert [len(e) for name in dataset.splits for e in dataset.split(name)] == [6]


@pytest.mark.parametrize(
    "changed", [{"action": np.zeros((7, 2), np.float32)}, {"action": np.arange(7) % 3}]
)
def test_what_zeros_do_not_tell_is_asked(tmp_path, changed):
    np.savez(tmp_path / "x.npz", **replay(made()[0], **changed))
    with pytest.raises(ConfigError, match=r"say --arriving actions if .*, --leaving actions if"):
        Import(tmp_path / "x.npz", Choices())
    found = Import(tmp_path / "x.npz", Choices(arriving=("actions",)))
    (_, one), *_ = found.episodes()
    np.testing.assert_array_equal(one["actions"], changed["action"][1:])


def test_a_part_of_an_episode_has_no_say(tmp_path):
    """A chunk that begins in the midst of an episode has no zeros at its beginning."""
    episodes = made()
    saved(tmp_path, episodes)
    middle = {name: array[3:] for name, array in replay(episodes[1]).items()}
    np.savez(tmp_path / "9.npz", **middle)
    found = Import(tmp_path, Choices())
    assert found.arriving == {"actions", "rewards", "terminated"}
    *_, (_, last) = found.episodes()
    np.testing.assert_array_equal(last["actions"], episodes[1][1][3:])


def test_on_a_grid_actions_begin_with_their_steps(tmp_path):
    image, actions, rewards, _ = episode = made()[1]
    kept = replay(episode) | {"time": np.arange(len(image)) / 10}
    np.savez(tmp_path / "x.npz", **kept)
    found = Import(tmp_path / "x.npz", Choices(hz=10.0))
    (_, one), *_ = found.episodes()
    np.testing.assert_array_equal(one["actions"], actions)
    np.testing.assert_allclose(one["rewards"], rewards, rtol=1e-6)
    np.testing.assert_array_equal(one["image"], image)


@pytest.mark.parametrize("choices", [{"arriving": ("image",)}, {"arriving": ("torque",)}])
def test_what_is_no_step_is_refused(tmp_path, choices):
    np.savez(tmp_path / "x.npz", **replay(made()[0]))
    with pytest.raises(ConfigError, match="each take some of actions, rewards, terminated, got"):
        Import(tmp_path / "x.npz", Choices(**choices))
    with pytest.raises(ConfigError, match="got 'rewards'"):
        Import(tmp_path / "x.npz", Choices(arriving=("rewards",), leaving=("rewards",)))
