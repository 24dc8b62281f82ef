from dataclasses import replace

import numpy as np
import pytest
import torch
from small import BOX, VECTOR, as_dataset, generator, pixels, random_batch, tiny_model, with_fields

from worldmodel.data import Episodes, load, save
from worldmodel.training.windows import HeldWindows, StoredWindows, Windows, spread_windows
from worldmodel.types import ScaledBatch

STEPS = 10


def numbered(lengths):
    """Every array says which episode and which step it is; -1 everywhere on padding."""
    size = len(lengths)
    batch = random_batch(VECTOR, size=size, steps=STEPS)
    mask = torch.arange(STEPS) < torch.tensor(lengths).unsqueeze(1)
    number = 100.0 * torch.arange(size).unsqueeze(1) + torch.arange(STEPS + 1)
    return with_fields(
        batch,
        observations=number.unsqueeze(2).expand(-1, -1, 3),
        actions=number[:, :-1].unsqueeze(2).expand(-1, -1, 2),
        rewards=number[:, :-1],
        mask=mask,
    )


@pytest.fixture(params=["held", "scaled", "stored"])
def windows(request, tmp_path):
    """Makes windows of numbered episodes, however they are kept; frames are as recorded."""

    def make(lengths):
        dataset = as_dataset(VECTOR, BOX, train=numbered(lengths))
        path = save(dataset, tmp_path / "data")
        model, held = tiny_model(), request.param != "stored"
        if request.param == "held":
            model.condenses = lambda seen: False
        made = Windows.of(load(path).train, model, 10**9 if held else 0)
        assert isinstance(made, HeldWindows if held else StoredWindows)
        draw = made.draw

        def drawn(*args):
            batch = draw(*args)
            assert isinstance(batch, ScaledBatch) == (request.param == "scaled")
            if isinstance(batch, ScaledBatch):  # of a model that was not calibrated
                return replace(batch, observations=batch.observations.round())
            return batch

        return drawn

    return make


def test_windows_are_runs_of_one_episode_with_all_arrays_in_step(windows):
    drawn = windows([10, 10, 10])(300, 4, generator())
    assert len(drawn) == 300 and drawn.steps == 4
    number = drawn.observations[..., 0]
    assert (number.diff(dim=1) == 1).all()
    assert (number[:, 0] // 100 == number[:, -1] // 100).all()
    assert torch.equal(drawn.rewards, number[:, :-1])
    assert torch.equal(drawn.actions[..., 0], number[:, :-1])
    assert drawn.states is None


def test_padding_is_drawn_only_where_the_episode_is_shorter_than_the_window(windows):
    lengths = [10, 7, 4, 2]
    drawn = windows(lengths)(2000, 4, generator())
    episode = (drawn.observations[:, 0, 0] // 100).long()
    long_enough = torch.tensor(lengths)[episode] >= 4
    assert drawn.mask[long_enough].all()
    short = drawn[~long_enough]
    assert (short.mask.sum(1) == 2).all()
    assert (short.observations[:, 0, 0] == 300).all()
    assert (short.observations[:, 2:] == 302).all() and not short.rewards[:, 2:].any()
    assert not short.actions[:, 2:].any() and not short.terminated[:, 2:].any()


def test_every_start_is_equally_likely_and_every_episode_too(windows):
    drawn = windows([10, 7, 4])(21_000, 4, generator())
    first = drawn.observations[:, 0, 0].long()
    for episode, starts in ((0, 7), (1, 4), (2, 1)):
        counts = torch.bincount(first[first // 100 == episode] % 100, minlength=starts).float()
        expected = 7000 / starts
        assert len(counts) == starts
        assert ((counts - expected).abs() < 5 * expected**0.5).all()


def test_a_window_as_long_as_the_episodes_is_the_episode(windows):
    padded = as_dataset(VECTOR, BOX, train=numbered([10, 6])).train.padded()
    drawn = windows([10, 6])(50, STEPS, generator())
    episode = (drawn.observations[:, 0, 0] // 100).long()
    assert torch.equal(drawn.observations, padded.observations[episode])
    assert torch.equal(drawn.mask, padded.mask[episode])


def test_the_generator_decides(windows):
    draw = windows([10] * 5)
    draws = [draw(20, 4, generator(s)).observations for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_the_draws_are_those_of_padded_episodes():
    """The law, and the draws, are what they were when a split was one padded tensor."""
    episodes = Episodes.of(numbered([10, 7, 4, 2]), VECTOR)
    padded, g = episodes.padded(), generator(5)
    episode = torch.randint(4, (64,), generator=g)
    latest = (padded.mask[episode].sum(1) - 4).clamp_min(0)
    start = (torch.rand(64, generator=g) * (latest + 1)).long()
    drawn = Windows.of(episodes, tiny_model(), 0).draw(64, 4, generator(5))
    for i in range(64):
        expected = padded.observations[episode[i], start[i] : start[i] + 5]
        assert torch.equal(drawn.observations[i], expected)


@pytest.fixture(params=["held", "stored"])
def gapped(request, tmp_path):
    def make(seen):
        batch = with_fields(numbered([10, 7, 4]), seen=seen)
        path = save(as_dataset(VECTOR, BOX, train=batch), tmp_path / "data")
        model = tiny_model()
        model.condenses = lambda frame: False
        return Windows.of(load(path).train, model, 10**9 if request.param == "held" else 0)

    return make


def test_windows_begin_where_something_was_seen_and_know_where_nothing_was(gapped):
    seen = torch.ones(3, STEPS + 1, dtype=torch.bool)
    seen[0, [2, 3, 4, 9]], seen[1, 1:5], seen[2, 4] = False, False, False
    drawn = gapped(seen).draw(3000, 4, generator())
    first = drawn.observations[:, 0, 0].long()
    episode, start = first // 100, first % 100
    assert seen[episode, start].all() and drawn.seen[:, 0].all()
    time = start.unsqueeze(1) + torch.arange(5)
    length = torch.tensor([10, 7, 4])[episode].unsqueeze(1)
    assert torch.equal(drawn.seen, seen[episode.unsqueeze(1), time.minimum(length)])
    # Where nothing was seen to begin with, the last frame before stands in.
    counts = torch.bincount(start[episode == 0], minlength=7)
    assert not counts[[2, 3, 4]].any()
    assert abs(counts[1] - 4 * counts[0]) < 5 * (4 * counts[0]) ** 0.5


def test_of_what_was_seen_throughout_the_draws_are_as_without_the_mask(gapped):
    drawn = gapped(torch.ones(3, STEPS + 1, dtype=torch.bool)).draw(50, 4, generator())
    episodes = Episodes.of(numbered([10, 7, 4]), VECTOR)
    expected = Windows.of(episodes, tiny_model(), 0).draw(50, 4, generator())
    assert drawn.seen is None
    assert torch.equal(drawn.observations, expected.observations)


def test_frames_are_scaled_as_the_model_does(tmp_path):
    space = pixels(8, 8)
    episodes = Episodes.of(random_batch(space, size=9, steps=5), space)
    model = tiny_model(space, codec={"components": 9})
    model.calibrate(episodes)
    scaled = Windows.of(episodes, model).draw(20, 3, generator())
    plain = Windows.of(episodes, model, 0).draw(20, 3, generator())
    assert isinstance(scaled, ScaledBatch)
    expected = model.scale_observations(plain.observations)
    torch.testing.assert_close(scaled.observations, expected)


def test_calibration_sees_what_a_sample_does_not():
    batch = random_batch(size=500, steps=6)
    batch = with_fields(batch, terminated=torch.zeros_like(batch.terminated))
    for i in (3, 77, 140):
        batch.rewards[i, 2], batch.terminated[i, 5] = 50.0 + i, True
    episodes, model = Episodes.of(batch, VECTOR), tiny_model()
    episodes.sample = lambda: episodes[np.arange(10, 20)]
    model.calibrate(episodes)
    assert model.reward_range == (batch.rewards.min().item(), 190.0) and model.can_terminate


def test_windows_to_validate_on_are_spread_over_all_that_was_recorded():
    """Every frame says when it is; and where a window is all of an episode, each counts once."""
    lengths = [STEPS, STEPS, 6, 2]
    dataset = as_dataset(VECTOR, BOX, train=numbered(lengths))
    judged = spread_windows(dataset.train, 4)
    number = judged.observations[..., 0]
    episode, start = number[:, 0].div(100, rounding_mode="floor"), number[:, 0] % 100
    assert len(judged) == 100 and judged.steps == 4
    assert episode.long().bincount().tolist() == [25] * 4
    for index, length in enumerate(lengths):
        assert set(start[episode == index].tolist()) == set(range(max(length - 4, 0) + 1))
        masks = judged.mask[episode == index].sum(1)
        assert (masks == min(length, 4)).all()
    whole = spread_windows(dataset.train, STEPS)
    assert (whole.observations[:, 0, 0] == 100 * torch.arange(4)).all()
    assert whole.mask.sum(1).tolist() == lengths
