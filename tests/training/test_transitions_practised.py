"""A transition goes on learning from where the filter went, if held-out frames are told better."""

from dataclasses import replace

import pytest
import torch
from small import random_batch, tiny_model

from worldmodel.training.transitions import practise_transition
from worldmodel.types import Belief
from worldmodel.world.members import transition_weights


@pytest.fixture
def model():
    model = tiny_model().requires_grad_(False)
    model.calibrate(random_batch())
    return model


class World:
    """Episodes whose states turn by an angle at every step, and a filter that knows them."""

    def __init__(self, model, monkeypatch):
        self.model, self.means = model, {}
        monkeypatch.setattr(model, "filter_beliefs", self.beliefs, raising=False)

    def beliefs(self, observations, actions, prefix=1, seen=None):
        means = self.means[actions.data_ptr()]
        return Belief(means, torch.zeros_like(means))

    def episodes(self, seed, turn=0.3, size=60):
        batch = random_batch(size=size, seed=seed)
        torch.manual_seed(seed)
        angles = torch.rand(size, 1) * 6 + turn * torch.arange(batch.steps + 1)
        states = torch.zeros(*angles.shape, self.model.latent_size)
        states[..., 0], states[..., 1] = angles.cos(), angles.sin()
        return self.known(batch, states)

    def known(self, batch, states):
        self.means[batch.actions.data_ptr()] = states
        shown = self.model.unscale_observations(self.model.emit(states).mean)
        return replace(batch, observations=shown)

    def apart(self, batch, steps):
        """Mean squared distance after so many steps from the first states."""
        means = self.means[batch.actions.data_ptr()]
        state = means[:, 0]
        for t in range(steps):
            state = self.model.transition(state, batch.actions[:, t])
        return (state - means[:, steps]).square().mean().item()


@pytest.fixture
def world(model, monkeypatch):
    return World(model, monkeypatch)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(model, before):
    return {name for name, value in weights(model).items() if not value.equal(before[name])}


def test_dreams_go_where_the_filter_went(model, world):
    train, held = world.episodes(1), world.episodes(2)
    before = world.apart(held, 4)
    assert practise_transition(model, train, held, 300, seed=0)
    assert world.apart(held, 4) < 0.7 * before


def test_nothing_else_is_changed(model, world):
    before, moving = weights(model), set(transition_weights(model))
    assert practise_transition(model, world.episodes(1), world.episodes(2), 100, seed=0)
    assert changed(model, before) and changed(model, before) <= moving
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_what_tells_held_out_frames_no_better_is_undone(model, world):
    contrary = world.episodes(2, turn=-0.3)
    practise_transition(model, contrary, contrary, 300, seed=0)
    before = weights(model)
    assert not practise_transition(model, world.episodes(1), contrary, 100, seed=0)
    assert not changed(model, before)


def test_the_same_seed_gives_the_same_weights(model, world):
    given = model, world.episodes(1), world.episodes(2), 40
    before = weights(model)
    assert practise_transition(*given, seed=3)
    first = weights(model)
    model.load_state_dict(before)
    practise_transition(*given, seed=3)
    assert not changed(model, first)


def test_what_is_padding_teaches_nothing(model, world):
    train, held = world.episodes(1), world.episodes(2)
    short = replace(train, mask=train.mask & (torch.arange(train.steps) < 4))
    world.means[short.actions.data_ptr()][:, 5:] = torch.nan
    assert practise_transition(model, short, held, 100, seed=0)


def test_frames_that_were_not_seen_are_no_judges(model, world):
    train, held = world.episodes(1), world.episodes(2)
    seen = torch.rand(held.span.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    spoilt = held.observations.masked_fill(~seen.unflatten(1, (-1, 1)), torch.nan)
    partly = replace(held, observations=spoilt, seen=seen)
    assert practise_transition(model, train, partly, 100, seed=0)


def test_episodes_of_a_frame_teach_nothing(model, world):
    before, none = weights(model), world.episodes(1)
    none = replace(none, mask=torch.zeros_like(none.mask))
    assert not practise_transition(model, none, world.episodes(2), 10, seed=0)
    assert not practise_transition(model, world.episodes(2), none, 10, seed=0)
    assert not changed(model, before)


def test_states_that_are_lost_leave_the_transition_alone(model, world):
    train, held, before = world.episodes(1), world.episodes(2), weights(model)
    world.means[train.actions.data_ptr()][:, 3] = torch.inf
    assert not practise_transition(model, train, held, 10, seed=0)
    assert not changed(model, before)


def test_none_is_fitted_if_none_is_asked_for(model, world):
    before = weights(model)
    assert not practise_transition(model, world.episodes(1), world.episodes(2), 0, seed=0)
    assert not changed(model, before)
