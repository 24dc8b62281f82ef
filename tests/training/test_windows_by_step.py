"""Windows whose steps are equally likely, against the law counted out by hand."""

import pytest
import torch
from small import BOX, VECTOR, generator, tiny_model
from test_windows import numbered

from worldmodel.data.episodes import Episodes
from worldmodel.training.windows import Windows

LENGTHS, STEPS, DRAWN = [10, 2, 5], 4, 40_000


@pytest.fixture(params=[0, 10**9], ids=["stored", "held"])
def starts(request):
    """(episode, first frame) of many windows."""
    episodes = Episodes.of(numbered(LENGTHS), VECTOR)
    model = tiny_model()
    model.condenses = lambda frame: False
    windows = Windows.of(episodes, model, request.param, by_step=True)
    first = windows.draw(DRAWN, STEPS, generator()).observations[:, 0, 0].long()
    return torch.stack([first // 100, first % 100])


def test_windows_hold_equally_likely_steps(starts):
    chances = torch.zeros(3, 10)
    for episode, length in enumerate(LENGTHS):
        for step in range(length):
            for before in range(STEPS):
                start = min(max(step - before, 0), max(length - STEPS, 0))
                chances[episode, start] += 1 / (sum(LENGTHS) * STEPS)
    counted = torch.zeros(3, 10)
    counted.index_put_(tuple(starts), torch.ones(DRAWN), accumulate=True)
    torch.testing.assert_close(counted / DRAWN, chances, atol=0.01, rtol=0)


def test_an_end_is_seen_half_as_often_as_a_step_between(starts):
    ours = starts[1][starts[0] == 0]
    often = [((ours <= step) & (step < ours + STEPS)).double().mean().item() for step in range(10)]
    assert often[-1] > 0.4 * max(often), "from uniform starts it would be a quarter"


def test_the_actions_are_those_of_the_frames():
    episodes = Episodes.of(numbered(LENGTHS), VECTOR)
    drawn = Windows.of(episodes, tiny_model(), 0, by_step=True).draw(50, STEPS, generator())
    assert drawn.actions.shape == (50, STEPS, BOX.size) and drawn.mask.any(1).all()
