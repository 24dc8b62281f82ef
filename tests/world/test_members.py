"""Members of an ensemble: for every model, against their definition and against the data."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import (
    VECTOR,
    box,
    generator,
    random_batch,
    rotation_batch,
    small_model,
    tiny_model,
    vector,
)
from test_compiled import clipped, draws, prepared
from torch.func import functional_call

from agents.intrinsic import seeking
from worldmodel import load
from worldmodel.errors import ConfigError
from worldmodel.models.registry import MODELS
from worldmodel.training.dreaming import DreamConfig, fit_world
from worldmodel.world import members
from worldmodel.world.calibration import calibrate
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.members import Members, Transitions, filtered_transitions
from worldmodel.world.stepping import TensorSteps, step_of, steps_of
from worldmodel.world.trust import TrustConfig


def joined(world, count=3, updates=5):
    """The same world with members that learned a little."""
    batch = random_batch(world.model.observation_spec, world.model.action_spec)
    world.members = Members(world.model, count)
    world.members.fit(filtered_transitions(world.model, batch), 0, updates)
    return world


def bounded(world):
    batch = random_batch(world.model.observation_spec, world.model.action_spec, 60, 6, seed=1)
    return calibrate(world, batch, TrustConfig(looks=2, updates=5))


class Named(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *args):
        return self.model.transition(*args)


@pytest.mark.parametrize("name", MODELS)
def test_every_member_goes_its_own_way_beside_the_dream(name):
    world = joined(prepared(small_model(name)))
    model, ensemble = world.model, world.members
    start, action, noise = draws(world, 7)
    action, noise = clipped(world, action), noise[:, : model.noise_size]
    offsets, state = torch.zeros(7, ensemble.offsets_size), start
    own = [start.clone(), start.clone()]
    kept = {name: name.replace(".", "-") for name, _ in Named(model).named_parameters()}
    for t in range(3):
        # What moves the dream besides its own transition moves its members, too.
        arrived = model.transition(state, action, noise if t else None)
        pushed = arrived - model.transition(state, action)
        for k in range(2):
            weights = {
                name: ensemble.get_parameter(short)[k]
                for name, short in kept.items()
                if short in dict(ensemble.named_parameters())
            }
            own[k] = functional_call(Named(model), weights, (own[k], action)) + pushed
        offsets, state = ensemble.follow(offsets, state, action), arrived
    expected = torch.stack([each - state for each in own], 1)
    assert (expected.abs() < 10 * ensemble.scale).all() and expected.abs().max() > 1e-3
    torch.testing.assert_close(offsets, expected.flatten(1), rtol=1e-3, atol=1e-4)
    spread = (expected / ensemble.scale).square().mean(1).sqrt()
    torch.testing.assert_close(ensemble.apart(offsets).exp(), spread, rtol=1e-2, atol=2e-4)


@pytest.mark.parametrize("name", MODELS)
def test_bounds_that_see_members_are_compiled_as_they_are(name):
    world = bounded(joined(prepared(small_model(name))))
    dynamics, box = Dynamics(world), latent_box(world)
    many, able = steps_of(dynamics, box, True)
    assert able is True or name in str(able).lower(), able
    one, _ = step_of(dynamics, box, True)
    tensors = TensorSteps(dynamics, box, True)
    state, action, noise = draws(world, 40)
    action, noise = clipped(world, action).numpy(), noise.T.contiguous()
    states = 0.3 * state.T.contiguous().numpy()
    memory = world.trust.begin(40).T.contiguous().numpy()
    for _ in range(3):
        expected = tensors(states, action, noise, memory)
        found = many(states, action, noise.numpy() if able is True else noise, memory)
        np.testing.assert_allclose(found.memory, expected.memory, rtol=2e-3, atol=1e-3)
        np.testing.assert_allclose(found.bounds, expected.bounds, rtol=1e-2)
        one.state[:], one.memory[:] = states[:, 3], memory[:, 3]
        one.noise[0] = noise[:, 3]
        one.run(action[3], 0)
        np.testing.assert_allclose(one.bounds, expected.bounds[:, 3], rtol=1e-2)
        states, memory = expected.states.copy(), expected.memory.copy()


def test_they_agree_where_there_are_data_and_part_elsewhere():
    model = tiny_model(VECTOR)
    g = generator(3)
    states = torch.rand(800, model.latent_size, generator=g) - 1  # in one corner
    actions = 2 * torch.rand(800, 2, generator=g) - 1
    known = Transitions(states, actions, model.transition(states, actions).detach())
    ensemble = Members(model, 4)
    ensemble.fit(known, 0, 250)
    still = torch.zeros(200, 2)
    near = ensemble.disagreement(states[:200], still).mean()
    far = ensemble.disagreement(states[:200] + 4, still).mean()
    assert 0.5 < near < 2 and far > 3 * near
    place = (states[:5] + 2).requires_grad_()
    ensemble.disagreement(place, still[:5]).sum().backward()
    assert place.grad.isfinite().all() and place.grad.norm() > 0


def test_a_checkpoint_keeps_members_and_the_bounds_that_see_them(tmp_path):
    world = bounded(joined(prepared(tiny_model())))
    world.save(tmp_path / "kept")
    again = load(tmp_path / "kept")
    assert again.members.count == 3
    start, actions = np.zeros((2, world.model.latent_size), np.float32), np.ones((2, 4, 2))
    dream, other = world.dream(start, actions, 0), again.dream(start, actions, 0)
    np.testing.assert_array_equal(dream.error_bound, other.error_bound)
    np.testing.assert_array_equal(
        *(w.members.disagreement(torch.ones(1, 3), torch.ones(1, 2)) for w in (world, again))
    )


@pytest.mark.parametrize("count", [1, 3])
def test_training_makes_as_many_as_are_asked_for(count, monkeypatch):
    monkeypatch.setattr(members, "UPDATES", 20)
    batch = rotation_batch(12, 6, 0)
    model = tiny_model(vector(2), box(-1.0, 1.0))
    model.calibrate(batch)
    config = replace(DreamConfig(), members=count)
    world = fit_world(model, config, batch, batch, 4, 0, progress=False)
    found = 1 if world.members is None else world.members.count
    assert found == count
    goal = seeking("disagreement", world, batch, 1.0, 0)
    means = model.filter_beliefs(batch.observations, batch.actions).mean
    step = means[:, 0], batch.actions[:, 0], means[:, 1]
    plain = seeking("none", world, batch, 1.0, 0)
    assert plain is None and goal.reward(*step).shape == (12,)


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_are_refused(count):
    with pytest.raises(ConfigError, match="members"):
        DreamConfig(members=count)


@pytest.mark.parametrize("name", MODELS)
def test_a_world_of_each_other_member_steps_as_that_member_does(name):
    world = joined(prepared(small_model(name)))
    state, action, _ = draws(world, 7)
    action = clipped(world, action)
    expected = world.members.step(state.expand(2, -1, -1), action.expand(2, -1, -1))
    before = world.model.transition(state, action)
    for other, arrived in zip(world.alternatives(world.members), expected, strict=True):
        torch.testing.assert_close(other.model.transition(state, action), arrived)
        assert other.trust is None and other.support is world.support
    torch.testing.assert_close(world.model.transition(state, action), before)
    assert (expected - before).abs().max() > 1e-3
