"""Ends of dreams are learned from where dreams arrive, if that foresees more of them."""

from dataclasses import replace

import pytest
import torch
from small import random_batch, tiny_model
from torch.nn.functional import binary_cross_entropy

from worldmodel.evaluation.termination import predicted_ends
from worldmodel.training.ends import practise_ends
from worldmodel.world.world import World


def ended_where_it_arrives(world, batch):
    """The same episodes, ended at every step that is dreamt to arrive at a large first latent."""
    model = world.model
    beliefs = model.filter_beliefs(batch.observations, batch.actions, seen=batch.seen)
    states = beliefs.mean[:, :-1].flatten(0, 1)
    noise = torch.zeros(len(states), model.noise_size)
    arrived = world.transition(states, batch.actions.flatten(0, 1), noise)[:, 0]
    ended = arrived > arrived.quantile(0.8)
    return replace(batch, terminated=ended.reshape(batch.terminated.shape))


@pytest.fixture
def world():
    model = tiny_model().requires_grad_(False)
    model.calibrate(random_batch())
    model.termination_head.seen.fill_(True)
    return World(model)


def practise(world, train, validation, seed):
    beliefs = world.model.filter_beliefs(train.observations, train.actions, seen=train.seen)
    practise_ends(world, train, validation, beliefs.mean, seed)


def missed(world, batch):
    """Nats a step."""
    logit, ended = predicted_ends(world, batch, seed=7)
    return binary_cross_entropy(logit.sigmoid().mean(0), ended.float()).item()


def weights(part):
    return {name: value.clone() for name, value in part.state_dict().items()}


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_what_a_dream_arrives_at_tells_that_it_ends(world):
    train, validation = (
        ended_where_it_arrives(world, random_batch(size=60, seed=seed)) for seed in (1, 2)
    )
    before, guessed = weights(world.model), missed(world, validation)
    practise(world, train, validation, 0)
    after = weights(world.model)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed and all(name.startswith("termination_head.") for name in changed)
    assert not any(weight.requires_grad for weight in world.model.parameters())
    # One step in five ends, which guessing alone tells to 0.50 nats.
    assert missed(world, validation) < 0.42 < 0.5 < guessed


def test_it_is_the_same_every_time(world):
    train, validation = (
        ended_where_it_arrives(world, random_batch(size=20, seed=seed)) for seed in (1, 2)
    )
    begun = weights(world.model)
    practise(world, train, validation, 3)
    once = weights(world.model)
    world.model.load_state_dict(begun)
    practise(world, train, validation, 3)
    assert same(once, world.model.state_dict())


def test_what_foresees_no_more_of_them_is_not_taken(world):
    train = ended_where_it_arrives(world, random_batch(size=60, seed=1))
    validation = ended_where_it_arrives(world, random_batch(size=60, seed=2))
    contrary = replace(train, terminated=~train.terminated)
    practise(world, train, validation, 0)
    before = weights(world.model)
    practise(world, contrary, validation, 0)
    assert same(before, world.model.state_dict())


@pytest.mark.parametrize("split", ["train", "validation"])
def test_without_ends_nothing_is_learned(split, world):
    batches = {name: random_batch(size=8, seed=1) for name in ("train", "validation")}
    none = torch.zeros_like(batches[split].terminated)
    batches[split] = replace(batches[split], terminated=none)
    before = weights(world.model)
    practise(world, batches["train"], batches["validation"], 0)
    assert same(before, world.model.state_dict())
