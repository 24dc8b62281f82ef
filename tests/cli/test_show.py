"""``worldmodel data show``: what it says of data whose content is known."""

from html.parser import HTMLParser

import gymnasium as gym
import numpy as np
import pytest

from worldmodel import data
from worldmodel.cli import main
from worldmodel.cli.show import lines
from worldmodel.data.summary import summarise

OBSERVED = gym.spaces.Dict(
    {
        "camera": gym.spaces.Box(0, 255, (8, 8, 3), np.uint8),
        "gear": gym.spaces.Discrete(3, start=1),
        "joint": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
    }
)
ACTED = gym.spaces.Box(-1, 1, (1,), np.float32)


def episode(rng: np.random.Generator, steps: int, shift: float = 0.0, **changes) -> dict:
    joint = rng.normal(size=(steps + 1, 2)) + np.array([shift, 0])
    return {
        "observations": {
            "camera": rng.integers(0, 256, (steps + 1, 8, 8, 3), np.uint8),
            "gear": rng.integers(1, 4, steps + 1),
            "joint": joint.astype(np.float32),
        },
        "actions": rng.uniform(-1, 0, (steps, 1)).astype(np.float32),
        "rewards": rng.normal(size=steps),
        "terminated": np.arange(steps) == steps - 1,
        **changes,
    }


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    with data.DatasetWriter(tmp_path / "data", OBSERVED, ACTED) as writer:
        for steps in (30, 32, 40, 50):
            writer.write(episode(rng, steps), "train", actor="a person")
        writer.write(episode(rng, 31), "validation")
        writer.write(episode(rng, 5), "test")
    return tmp_path / "data"


def test_numbers_are_those_of_the_arrays(folder, monkeypatch):
    # However little is read at a time.
    monkeypatch.setattr("worldmodel.data.summary._ROWS", 7)
    held = data.load(folder)
    found = summarise(held, 30)
    train = found.splits["train"]
    assert (train.episodes, train.steps, train.frames) == (4, (30, 36, 50), 156)
    assert train.terminated == 4 and train.truncated is None and train.actors == {"a person": 4}
    (action,) = found.actions
    everything = np.concatenate([e.actions for n in held.splits for e in held.split(n)])
    assert action.mean == pytest.approx(everything.mean()) and action.std == pytest.approx(
        everything.std()
    )
    assert action.edges[0] == -1 and action.edges[-1] == 1 and action.used == 0.5
    expected = np.histogram(np.concatenate([e.actions for e in held.train]), action.edges)[0]
    np.testing.assert_array_equal(action.counts["train"], expected)
    assert [c.name for c in found.components] == ["gear", "joint[0]", "joint[1]"]
    gear = found.components[0]
    np.testing.assert_array_equal(gear.edges, [0.5, 1.5, 2.5, 3.5])
    seen = np.concatenate([e.observations["gear"] for e in held.train])
    np.testing.assert_array_equal(gear.counts["train"], np.bincount(seen.ravel(), minlength=3))


def test_coverage_tells_like_from_unlike():
    rng = np.random.default_rng(0)
    space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def only_joint(shift):
        given = episode(rng, 40, shift)
        return {**given, "observations": given["observations"]["joint"]}

    splits = {"train": [0.0] * 20, "alike": [0.0] * 5, "unlike": [9.0] * 5}
    held = data.from_episodes(
        [only_joint(shift) for shifts in splits.values() for shift in shifts],
        observation_space=space,
        action_space=ACTED,
        splits=[name for name, shifts in splits.items() for _ in shifts],
    )
    covered = summarise(held, 30).space.covered
    assert covered["alike"] > 0.85 and covered["unlike"] < 0.05


def test_text_and_page(folder, capsys):
    main(["data", "show", str(folder)])
    told = capsys.readouterr().out
    assert "train       4" in told and "a person: 4" in told
    assert "50% of the range" in told
    said = " ".join(told.split())
    assert "longest episode of test has 5 steps, the windows that are trained on 30" in said
    page = (folder / "data.html").read_text()
    assert page.count("data:image/webp") >= 4 and "default-src 'none'" in page
    links = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: links.extend(
        value for name, value in attributes if name in ("src", "href")
    )
    parser.feed(page)
    assert links and all(link.startswith("data:") for link in links)
    # It is still a dataset, which can be appended to.
    held = data.load(folder)
    assert len(held.append([episode(np.random.default_rng(1), 4)]).train) == 5


def test_time_and_gaps_are_told():
    rng, given = np.random.default_rng(0), []
    for steps in (9, 12, 30):
        times = 0.1 * (np.arange(steps + 1) + 0.3 * rng.uniform(-1, 1, steps + 1))
        one = episode(rng, steps, timestamps=times, seen=np.arange(steps + 1) != 4)
        given.append({**one, "observations": one["observations"]["joint"]})
    held = data.from_episodes(given, splits=["train", "train", "test"])
    found = summarise(held, 30)
    within = np.concatenate([np.diff(one["timestamps"]) for one in given])
    assert found.sampling.entries == len(within) + 1
    assert found.sampling.longest == pytest.approx(within.max())
    assert found.splits["train"].unseen == 2
    told = " ".join(" ".join([*lines(held, found), *found.suspicious]).split())
    assert "3 of 54 frames (5.6%)" in told and "Hz, jitter" in told
    assert "the steps are not equally long" in told and "--resample 10" in told


def test_what_is_suspicious(tmp_path, capsys):
    rng = np.random.default_rng(0)
    still = {"actions": np.zeros((9, 1), np.float32), "rewards": np.ones(9)}
    given = [episode(rng, 9, terminated=np.zeros(9, bool), **still) for _ in range(6)]
    for one in given:
        one["observations"]["camera"][:] = 7
    with data.DatasetWriter(tmp_path / "data", OBSERVED, ACTED) as writer:
        for one in given:
            writer.write(one, "train")
    main(["data", "show", str(tmp_path / "data"), "--out", str(tmp_path / "page.html")])
    told = " ".join(capsys.readouterr().out.split())
    for suspicion in (
        "stream 'camera' never changes in train",
        "every reward is 1 in train",
        "action 'action' never changes in train",
        "no episode ever ends by itself",
        "there is no split 'validation'",
        "there is no split 'test'",
    ):
        assert suspicion in told
        assert suspicion.replace("'", "&#x27;") in (tmp_path / "page.html").read_text()
    assert not (tmp_path / "data" / "data.html").exists()


def test_missing_rewards_and_ends_are_said(tmp_path, capsys):
    rng = np.random.default_rng(0)
    given = [episode(rng, 40) for _ in range(8)]
    for one in given:
        del one["rewards"], one["terminated"]
    path = tmp_path / "data"
    data.from_episodes(given, observation_space=OBSERVED, action_space=ACTED, out=path)
    main(["data", "show", str(path)])
    told = " ".join(capsys.readouterr().out.split())
    page = (path / "data.html").read_text()
    for said in (
        "no rewards were recorded in train, validation and test: ",
        "no episode ever ends by itself",
    ):
        assert said in told and said in page
    assert "every reward is" not in told


def test_an_old_file_and_a_missing_one(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["data", "show", str(tmp_path / "nothing")])
    assert "nothing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
