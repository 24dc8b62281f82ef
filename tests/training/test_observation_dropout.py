import pytest
import torch
from small import generator

from worldmodel.training.losses.observation_dropout import observation_dropout

SIZE, FRAMES = 20_000, 9


@pytest.fixture(scope="module")
def observed():
    return observation_dropout(SIZE, FRAMES, 0.4, generator())


def test_once_cut_a_sequence_stays_cut_and_the_first_frame_is_seen(observed):
    assert observed.shape == (SIZE, FRAMES) and observed[:, 0].all()
    assert not (observed[:, 1:] & ~observed[:, :-1]).any()


def test_the_share_of_cut_sequences_is_the_one_asked_for(observed):
    cut = (~observed.all(1)).float().mean()
    assert abs(cut - 0.4) < 4 * (0.4 * 0.6 / SIZE) ** 0.5


def test_cuts_are_uniform_over_all_frames_but_the_first(observed):
    lengths = observed[~observed.all(1)].sum(1)
    counts = torch.bincount(lengths, minlength=FRAMES + 1)
    assert counts[0] == 0 and counts[FRAMES] == 0
    expected = len(lengths) / (FRAMES - 1)
    assert ((counts[1:FRAMES] - expected).abs() < 4.5 * expected**0.5).all()


@pytest.mark.parametrize("share, whole", [(0.0, True), (1.0, False)])
def test_the_extremes_are_all_or_none(share, whole):
    observed = observation_dropout(200, FRAMES, share, generator())
    assert (observed.all(1) == whole).all()


def test_a_single_frame_is_always_seen():
    assert observation_dropout(5, 1, 1.0, generator()).tolist() == [[True]] * 5


def test_the_generator_decides():
    draws = [observation_dropout(50, FRAMES, 0.5, generator(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
