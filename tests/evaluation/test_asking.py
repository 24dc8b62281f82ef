"""Requests are for where dreams begin to fail, which is known of a linear system that is pushed."""

import numpy as np
import pytest
import torch
from linear_model import LinearModel, fit_support
from small import box, vector

from worldmodel import data
from worldmodel.errors import ConfigError
from worldmodel.evaluation.requests import AskConfig, ask, grouped
from worldmodel.types import Batch
from worldmodel.world.world import World

USUAL = AskConfig()
STEPS, KICKED = 30, {1: 12, 3: 20}
SOURCE = data.Source("worldmodel/Pendulum-v0")


@pytest.fixture(scope="module")
def world() -> World:
    return fit_support(LinearModel(vector(4), box(-1.0, 1.0)), 1.0)


def probe(world: World, kicked: dict[int, int], seed: int = 0) -> Batch:
    """Episodes that the model predicts exactly, but for those that are kicked at a frame."""
    g = torch.Generator().manual_seed(seed)
    actions = 2 * torch.rand(6, STEPS, 1, generator=g) - 1
    states = [torch.randn(6, 2, generator=g)]
    for t, action in enumerate(actions.unbind(1)):
        arrived = world.model.transition(states[-1], action)
        for episode, frame in kicked.items():
            arrived[episode] += 3.0 * (t + 1 == frame)
        states.append(arrived.detach())
    seen = torch.stack(states, 1)
    never = torch.zeros(6, STEPS, dtype=torch.bool)
    frames = world.model.emit(seen).mean.detach()
    return Batch(frames, actions, torch.zeros(6, STEPS), never, ~never, seen)


def asked(world, batches, frames=1000, config=USUAL, source=SOURCE):
    seeds = {name: list(range(100, 100 + len(batch))) for name, batch in batches.items()}
    return ask(world, source, batches, seeds, np.zeros((5, 2)), frames, 0.1, config)


@pytest.mark.parametrize("lead", [0, 4])
def test_requests_begin_before_the_dream_fails_and_act_as_the_probe(world, lead, monkeypatch):
    monkeypatch.setattr("worldmodel.evaluation.requests.resets_to", lambda *_: True)
    batch = probe(world, KICKED)
    found = asked(world, {"square": batch}, config=AskConfig(lead=lead, steps=8))
    episodes = [episode for request in found.requests for episode in request.episodes]
    assert found.resettable and {e.seed - 100 for e in episodes} == set(KICKED)
    assert sum(request.dreams for request in found.requests) == 2
    assert sum(request.share for request in found.requests) == pytest.approx(1)
    for episode in episodes:
        begin = KICKED[episode.seed - 100] - 1 - lead
        expected = batch.states[episode.seed - 100, begin].numpy()
        np.testing.assert_allclose(episode.options["state"], expected, rtol=1e-6)
        actions = batch.actions[episode.seed - 100, begin : begin + 8].numpy()
        np.testing.assert_array_equal(episode.actions, actions)


def test_what_cannot_be_reset_begins_at_the_reset_and_is_led_there(world):
    batch = probe(world, {1: 12})
    (request,) = asked(world, {"held": batch}, source=data.Source("Pendulum-v1")).requests
    (episode,) = request.episodes
    assert episode.options is None and episode.seed == 101 and request.probe == "held"
    np.testing.assert_array_equal(episode.actions, batch.actions[1, : 12 - 1 - 4 + 14].numpy())


def test_no_more_frames_are_asked_for_than_there_may_be(world, monkeypatch):
    monkeypatch.setattr("worldmodel.evaluation.requests.resets_to", lambda *_: True)
    batch = probe(world, dict.fromkeys(range(6), 15))
    for frames, expected in ((14, 0), (15, 1), (44, 2), (1000, 6)):
        found = asked(world, {"square": batch}, frames)
        assert sum(len(request.episodes) for request in found.requests) == expected
        assert found.frames == 15 * expected


def test_a_dream_that_is_not_finite_fails(world, monkeypatch):
    batch = probe(world, {1: 12})
    (request,) = asked(world, {"held": batch}).requests
    assert request.error < 1e3
    monkeypatch.setattr(world, "arrive", lambda *a: (torch.full_like(a[0], 1e30), a[0][:, 0]))
    found = asked(world, {"held": batch}).requests
    assert sum(request.dreams for request in found) == 6 and found[0].error == 1e6


def test_where_no_dream_fails_nothing_is_asked_for(world):
    assert asked(world, {"held": probe(world, {})}).requests == ()


def test_groups_are_about_the_heaviest_and_every_point_has_its_nearest():
    points = np.array([[0.0], [0.1], [5.0], [5.2], [9.0]])
    middles, group = grouped(points, np.array([1.0, 1.0, 2.0, 3.0, 0.5]), 0.5, 2)
    assert middles.tolist() == [2, 0] and group.tolist() == [1, 1, 0, 0, 0]
    middles, _ = grouped(points, np.ones(5), 0.5, 10)
    assert len(middles) == 3


def test_settings_that_make_no_sense_are_refused(world):
    with pytest.raises(ConfigError, match="lead must be at least 0, got -1"):
        AskConfig(lead=-1)
    with pytest.raises(ConfigError, match="frames must be at least 0, got -1"):
        asked(world, {"held": probe(world, {})}, -1)
