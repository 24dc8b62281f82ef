import gymnasium as gym
import numpy as np
import pytest
import torch
from linear_model import LinearModel
from small import SEVERAL, random_batch, small_model

import worldmodel
from agents.goals import idle_controls, reach, target
from worldmodel.errors import ShapeError, SpecError
from worldmodel.spaces import ActionSpace
from worldmodel.world.world import World


def test_the_target_is_the_state_that_shows_it(world):
    """The linear model's emission is known, and so is the state in which it does not move."""
    rest = torch.zeros(1, 2)
    frame = world.decode(rest.numpy())[0]
    wanted = target(world, frame)
    np.testing.assert_allclose(wanted.state, rest[0], atol=0.05)
    away = torch.tensor([[0.3, -0.4], [0.0, 0.0]])
    expected = ((away - wanted.state) / world.support.scale).square().mean(1)
    torch.testing.assert_close(wanted.distance(away), expected)


def test_nearer_pays_more_and_the_furthest_data_least(world):
    wanted = reach(world, world.decode(np.zeros(2, np.float32)))
    states = world.support.states
    paid = wanted.reward(states, torch.zeros(len(states), 1), states)
    assert paid.min().item() == pytest.approx(wanted.minimum)
    assert wanted.maximum == 0 and wanted.outside == wanted.minimum
    near = states.norm(dim=1) < 0.2
    assert paid[near].min() > paid[states.norm(dim=1) > 1].max()


def test_a_still_picture_is_a_pendulum_at_rest():
    """One dreamt step without torque hardly moves it, and it looks as what was shown."""
    world = worldmodel.load("pendulum")
    env = world.require_source().make()
    for angle in (0.0, 2.5, -1.2):
        shown, _ = env.reset(options={"state": (angle, 0.0)})
        wanted = target(world, shown)
        moving = torch.from_numpy(world.imagine(wanted.state[None].numpy(), np.zeros((1, 1, 1))))
        moved = wanted.distance(moving[0, 1:]).sqrt().item()
        # Gravity alone moves a still one little in the first tenth of a second.
        assert moved < 0.35
        picture = world.decode(wanted.state.numpy())
        assert np.abs(picture.astype(float) - shown).mean() < 12


def test_several_streams_are_a_target_too():
    model = small_model("dvbf", SEVERAL)
    model.calibrate(random_batch(SEVERAL))
    world = World(model)
    states = torch.randn(500, model.latent_size)
    world.support.fit(states, states[:100])
    seen = SEVERAL.space().sample()
    assert target(world, seen).state.shape == (model.latent_size,)


def test_idle_is_nothing_or_the_nearest_to_it():
    space = gym.spaces.Dict(
        {
            "a": gym.spaces.Box(np.float32([-1, 2, -5]), np.float32([1, 3, -4])),
            "b": gym.spaces.Discrete(4),
            "c": gym.spaces.MultiBinary(2),
            "d": gym.spaces.MultiDiscrete([2, 3]),
        }
    )
    idle = idle_controls(ActionSpace.from_space(space))
    expected = [0, 2, -4, *[1 / 4] * 4, 0, 0, *[1 / 2] * 2, *[1 / 3] * 3]
    np.testing.assert_allclose(idle, expected, rtol=1e-6)


def test_what_is_no_observation_is_refused(world):
    with pytest.raises(ShapeError):
        target(world, np.zeros((3, 3, 1), np.uint8))
    with pytest.raises(SpecError, match="support is not fitted"):
        target(World(LinearModel()), np.zeros((4, 4, 1), np.uint8))
