"""Rewards are learned from what a filter believes in, if that tells held-out ones better."""

from dataclasses import replace

import pytest
import torch
from small import random_batch, tiny_model

from worldmodel.training.rewards import practise_rewards


@pytest.fixture
def model():
    model = tiny_model().requires_grad_(False)
    model.calibrate(random_batch())
    return model


def means(model, batch):
    return model.filter_beliefs(batch.observations, batch.actions, seen=batch.seen).mean


def paid_by_place(model, batch):
    """The same episodes, paid by a distance that has an edge."""
    distance = (means(model, batch)[:, 1:, 0] - 0.1).abs()
    return replace(batch, rewards=-distance)


def practise(model, train, validation, seed=0):
    practise_rewards(
        model, train, validation, (means(model, train), means(model, validation)), seed
    )


def missed(model, batch):
    """Fraction of the rewards' variance."""
    states = means(model, batch)
    told = model.reward(states[:, :-1], batch.actions, states[:, 1:])
    known = batch.mask & ~batch.terminated
    error = (told - batch.rewards)[known].square().mean()
    return (error / batch.rewards[known].var()).item()


def weights(part):
    return {name: value.clone() for name, value in part.state_dict().items()}


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def batches(model):
    train, validation = (paid_by_place(model, random_batch(size=60, seed=seed)) for seed in (1, 2))
    model.reward_head.calibrate(train.rewards[train.mask])
    return train, validation


def test_what_is_paid_between_filtered_states_is_learned(model, batches):
    before, guessed = weights(model), missed(model, batches[1])
    practise(model, *batches)
    after = weights(model)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed and all(name.startswith("reward_head.") for name in changed)
    assert missed(model, batches[1]) < 0.35 < 0.7 < guessed


@pytest.mark.parametrize("learns", [True, False])
def test_a_model_that_goes_on_learning_still_can(model, batches, learns):
    model.requires_grad_(learns)
    practise(model, *batches)
    assert all(weight.requires_grad is learns for weight in model.parameters())
    assert all(weight.grad is None for weight in model.parameters())


def test_it_is_the_same_every_time(model, batches):
    begun = weights(model)
    practise(model, *batches, seed=3)
    once = weights(model)
    model.load_state_dict(begun)
    practise(model, *batches, seed=3)
    assert same(once, model.state_dict())


def test_what_tells_held_out_rewards_no_better_is_not_taken(model, batches):
    practise(model, *batches)
    before = weights(model)
    contrary = replace(batches[0], rewards=-batches[0].rewards)
    practise(model, contrary, batches[1])
    assert same(before, model.state_dict())


def test_without_rewards_nothing_is_learned(model, batches):
    model.reward_head.silence()
    before = weights(model)
    practise(model, *(replace(batch, rewards=None) for batch in batches))
    assert same(before, model.state_dict())
