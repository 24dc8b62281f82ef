import gymnasium as gym
import numpy as np
import pytest
import torch

from worldmodel.data import Episodes, from_episodes
from worldmodel.data import spread as module
from worldmodel.data.spread import spread_frames, spread_rows
from worldmodel.models.registry import model_type
from worldmodel.systems.preset import GENERIC

WIDE = gym.spaces.Box(-1e6, 1e6, (1,))


def recorded(lengths, parts=1, gaps=False):
    """Frame t of episode e is 1000 e + t, and so is the action taken there."""
    episodes = []
    for e, n in enumerate(lengths):
        frames = 1000 * e + np.arange(n + 1, dtype=np.float32)[:, None]
        seen = {"seen": np.arange(n + 1) % 2 == 0} if gaps else {}
        episodes.append({"observations": frames, "actions": frames[:-1], **seen})
    spaces = {"observation_space": WIDE, "action_space": WIDE}
    made = [
        from_episodes([episodes[i] for i in some], splits=["train"] * len(some), **spaces).train
        for some in np.array_split(np.arange(len(lengths)), parts)
    ]
    return Episodes([part for split in made for part in split.parts], made[0].space)


@pytest.mark.parametrize("parts", [1, 3])
def test_all_rows_where_there_is_room(parts):
    episodes = recorded([3, 1, 4], parts)
    rows, episode = spread_rows(episodes, "actions")
    assert rows[:, 0].tolist() == [0, 1, 2, 1000, 2000, 2001, 2002, 2003]
    assert episode.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    frames, counts = spread_frames(episodes)
    assert torch.equal(frames, episodes.observations[episodes.frame_mask])
    assert counts == [4, 2, 5]


@pytest.mark.parametrize("parts", [1, 3])
def test_rows_are_as_far_apart_in_all_episodes_and_parts(parts):
    rows, episode = spread_rows(recorded([19] * 6, parts), "observations.observation", frames=40)
    every_third = np.arange(0, 6 * 20, 3)
    assert rows[:, 0].tolist() == (1000 * (every_third // 20) + every_third % 20).tolist()
    assert episode.tolist() == (every_third // 20).tolist()


def test_bytes_limit_frames():
    episodes = recorded([19] * 6)
    frames, counts = spread_frames(episodes, nbytes=episodes.width() * 30)
    assert len(frames) == sum(counts) == 30
    assert len(counts) == 6


def test_frames_that_nobody_saw_are_left_out():
    frames, counts = spread_frames(recorded([4, 3], gaps=True))
    assert frames[:, 0].tolist() == [0, 2, 4, 1000, 1002]
    assert counts == [3, 2]


def test_what_stands_elsewhere_in_each_episode_is_known_from_all_of_them(monkeypatch):
    """Fourteen spots, one an episode, and bytes for three episodes."""
    episodes = []
    for spot in range(14):
        pictures = np.zeros((21, 16, 16, 1), np.uint8)
        pictures[:, spot, spot] = np.arange(100, 142, 2)[:, None]
        episodes.append({"observations": pictures, "actions": np.zeros((20, 1), np.float32)})
    spaces = {
        "observation_space": gym.spaces.Box(0, 255, (16, 16, 1), np.uint8),
        "action_space": gym.spaces.Box(-1, 1, (1,)),
    }
    dataset = from_episodes(episodes, splits=["train"] * 14, **spaces)
    few = (module.SAMPLED_FRAMES, 3 * 21 * dataset.train.width())
    for read in (spread_frames, spread_rows):
        monkeypatch.setattr(read, "__defaults__", few)
    settings = GENERIC["pictures"].model("dvbf", dataset.observation_spec)
    model = model_type("dvbf")(settings, dataset.observation_spec, dataset.action_spec, 0)
    model.calibrate(dataset.train)
    frames = dataset.train.observations.flatten(0, 1)
    missed = model.codec.missed(frames).mean() / model.scale_observations(frames).var(0).sum()
    assert missed < 0.01, missed
