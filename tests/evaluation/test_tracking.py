"""The live filter by stretch of the episode, and the ceiling of what frames can tell."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from linear_model import LinearModel
from small import BOX, VECTOR, as_dataset, random_batch, tiny_model

from worldmodel.evaluation.evaluate import evaluate
from worldmodel.evaluation.tracking import ceiling, tracked, tracked_by_network
from worldmodel.types import Belief
from worldmodel.world.world import World


def named(states):
    return {"place": states[..., 0], "speed": states[..., 1], "hidden": states[..., 2]}


def moving(size, steps, seed):
    """A point at constant speed, seen where it is; what is hidden shows nowhere."""
    g = torch.Generator().manual_seed(seed)
    batch = random_batch(VECTOR, BOX, size, steps, seed)
    speed, hidden = torch.randn(2, size, steps + 1, generator=g)
    speed = speed[:, :1].expand(size, steps + 1)
    place = torch.randn(size, 1, generator=g) + 0.2 * speed * torch.arange(steps + 1)
    states = torch.stack([place, speed, hidden], -1)
    seen = torch.stack([place, place.sin(), torch.ones_like(place)], -1)
    mask = torch.arange(steps) < torch.randint(steps // 2, steps + 1, (size, 1), generator=g)
    return replace(batch, observations=seen, states=states, mask=mask)


class Forgetful(LinearModel):
    """A filter that knows all about 15 frames, in coordinates of its own, and then nothing."""

    def filter_beliefs(self, observations, actions, prefix=1, seen=None):
        place = observations[..., 0]
        known = torch.stack([place, place.diff(dim=1, prepend=place[:, :1])], -1)
        mean = known @ torch.tensor([[1.0, 0.5], [-0.5, 2.0]]) + 3
        mean[:, 15:] = 0
        return Belief(mean, torch.ones_like(mean))


def test_a_filter_that_loses_itself_after_its_window_is_told():
    train, test = moving(300, 14, 0), moving(100, 60, 1)
    found = tracked(Forgetful(), train, test, named)
    assert {name: list(by) for name, by in found.items()} == {
        name: ["0-15", "15-40", "40-100"] for name in ("place", "speed", "hidden")
    }
    assert found["place"]["0-15"] > 0.95 and found["place"]["15-40"] < 0.1
    assert found["place"]["40-100"] < 0.1 and abs(found["hidden"]["0-15"]) < 0.05


def test_the_ceiling_is_what_two_frames_tell():
    train, validation, test = moving(300, 20, 0), moving(60, 20, 1), moving(60, 44, 2)
    model = tiny_model()
    model.calibrate(train)
    found = ceiling(model, train, validation, test, named, updates=800)
    assert list(found["place"]) == ["0-15", "15-40", "40-100"]
    assert found["place"]["0-15"] > 0.99 and found["speed"]["0-15"] > 0.9
    assert found["hidden"]["0-15"] < 0.1
    again = ceiling(model, train, validation, test, named, updates=800)
    assert again == found


class Bent(LinearModel):
    """A filter that knows where the point is by the sine of it alone, as an angle's may."""

    def filter_beliefs(self, observations, actions, prefix=1, seen=None):
        place = observations[..., 0].clamp(-2, 2)
        mean = torch.stack([torch.sin(place), torch.cos(place)], -1) * torch.tensor([5.0, 0.02])
        return Belief(mean, torch.ones_like(mean))


def test_a_network_reads_what_a_line_does_not():
    train, validation, test = moving(200, 20, 0), moving(60, 20, 1), moving(60, 44, 2)
    splits = train, validation, test = [
        replace(b, states=b.states.clamp(-2, 2)) for b in (train, validation, test)
    ]
    found = tracked_by_network(Bent(), *splits, named, updates=1500)
    line = tracked(Bent(), train, test, named)
    assert found.keys() == line.keys() and found["place"].keys() == line["place"].keys()
    assert found["place"]["0-15"] > 0.99 and line["place"]["0-15"] < 0.95
    assert found["hidden"]["0-15"] < 0.1
    assert found == tracked_by_network(Bent(), *splits, named, updates=1500)


@pytest.mark.parametrize("supervised", [True, False])
def test_an_evaluation_tells_both(supervised):
    splits = {name: moving(40, 20, i) for i, name in enumerate(("train", "validation", "test"))}
    model = tiny_model()
    model.calibrate(splits["train"])
    dataset = as_dataset(VECTOR, BOX, **splits)
    metrics = evaluate(
        World(model), dataset, train_steps=9, targets=named, supervised=supervised
    ).metrics
    assert set(metrics["tracking"]) == {"place", "speed", "hidden"}
    assert ("ceiling" in metrics) == ("tracking_network" in metrics) == supervised
    assert all(np.isfinite(list(by.values())).all() for by in metrics["tracking"].values())
