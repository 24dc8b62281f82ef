import torch
from small import VECTOR, generator, random_batch, with_fields

from worldmodel.training.windows import draw_windows
from worldmodel.types import from_streams

STEPS = 10


def numbered(lengths):
    """Every array says which episode and which step it is; -1 everywhere on padding."""
    size = len(lengths)
    batch = random_batch(VECTOR, size=size, steps=STEPS)
    mask = torch.arange(STEPS) < torch.tensor(lengths).unsqueeze(1)
    number = 100.0 * torch.arange(size).unsqueeze(1) + torch.arange(STEPS + 1)
    frames = torch.cat([torch.ones(size, 1, dtype=torch.bool), mask], 1)
    number = number.where(frames, torch.tensor(-1.0))
    steps = number[:, :-1].where(mask, torch.tensor(-1.0))
    return with_fields(
        batch,
        observations=number.unsqueeze(2).expand(-1, -1, 3),
        actions=steps.unsqueeze(2).expand(-1, -1, 2),
        rewards=steps,
        mask=mask,
        states=number.unsqueeze(2),
    )


def test_windows_are_runs_of_one_episode_with_all_arrays_in_step():
    windows = draw_windows(numbered([10, 10, 10]), 300, 4, generator())
    assert len(windows) == 300 and windows.steps == 4
    number = windows.observations[..., 0]
    assert (number.diff(dim=1) == 1).all()
    assert (number[:, 0] // 100 == number[:, -1] // 100).all()
    assert torch.equal(windows.states[..., 0], number)
    assert torch.equal(windows.rewards, number[:, :-1])
    assert torch.equal(windows.actions[..., 0], number[:, :-1])


def test_padding_is_drawn_only_where_the_episode_is_shorter_than_the_window():
    lengths = [10, 7, 4, 2]
    windows = draw_windows(numbered(lengths), 2000, 4, generator())
    episode = (windows.observations[:, 0, 0] // 100).long()
    long_enough = torch.tensor(lengths)[episode] >= 4
    assert windows.mask[long_enough].all()
    assert (windows.observations[long_enough] >= 0).all()
    short = windows[~long_enough]
    assert (short.mask.sum(1) == 2).all()
    assert (short.observations[:, 0, 0] == 300).all()
    assert (short.observations[:, 3:] == -1).all() and (short.rewards[:, 2:] == -1).all()


def test_every_start_is_equally_likely_and_every_episode_too():
    windows = draw_windows(numbered([10, 7, 4]), 21_000, 4, generator())
    first = windows.observations[:, 0, 0].long()
    for episode, starts in ((0, 7), (1, 4), (2, 1)):
        counts = torch.bincount(first[first // 100 == episode] % 100, minlength=starts).float()
        expected = 7000 / starts
        assert len(counts) == starts
        assert ((counts - expected).abs() < 5 * expected**0.5).all()


def test_a_window_as_long_as_the_episodes_is_the_episode():
    batch = numbered([10, 6])
    windows = draw_windows(batch, 50, STEPS, generator())
    episode = (windows.observations[:, 0, 0] // 100).long()
    assert torch.equal(windows.observations, batch.observations[episode])
    assert torch.equal(windows.mask, batch.mask[episode])


def test_the_generator_decides():
    batch = numbered([10] * 5)
    draws = [draw_windows(batch, 20, 4, generator(s)).observations for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_all_streams_are_cut_alike():
    batch = numbered([10, 7, 4])
    streams = {"a": batch.observations, "b": batch.observations[..., :1] + 0.5}
    cut = draw_windows(
        with_fields(batch, observations=from_streams(streams, 2)), 50, 4, generator()
    )
    alone = draw_windows(batch, 50, 4, generator())
    assert torch.equal(cut.observations["a"], alone.observations)
    assert torch.equal(cut.observations["b"], alone.observations[..., :1] + 0.5)
    assert tuple(cut.observations.shape) == (50, 5)
