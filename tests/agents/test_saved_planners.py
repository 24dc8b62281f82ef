"""A planner from a file plans as the one that was saved."""

import numpy as np
import pytest
from linear_model import LinearModel, fit_support
from small import box

from agents.planning import Planner
from agents.saved import load_agent
from agents.scoring import Terms
from worldmodel.errors import FileFormatError, SpecError
from worldmodel.world.dynamics import Goal

SETTINGS = {"candidates": 16, "horizon": 4, "seed": 3, "ood_radius": np.inf}


def seen():
    return np.random.default_rng(0).uniform(-0.6, 0.6, (5, 2)).astype(np.float32)


def frame(world):
    return world.decode(np.array([0.3, -0.2], np.float32))


@pytest.mark.parametrize("aims", [False, True])
def test_it_plans_alike(world, tmp_path, aims):
    goal = frame(world) if aims else None
    planner = Planner(world, "mppi", goal=goal, **SETTINGS)
    planner.save(tmp_path / "policy.safetensors")
    again = load_agent(tmp_path / "policy.safetensors", world)
    assert isinstance(again, Planner) and again.config == planner.config
    for ours, theirs in zip(planner.predict(seen())[1], again.predict(seen())[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    other = Planner(world, "mppi", goal=None if aims else frame(world), **SETTINGS)
    assert (other.predict(seen())[0] != again.predict(seen())[0]).any()


def test_another_model_is_refused(world, tmp_path):
    Planner(world, **SETTINGS).save(tmp_path / "p.safetensors")
    wide = box((-1.0, -1.0), (1.0, 1.0))
    with pytest.raises(SpecError, match="1 numbers on 2 latent dimensions; the model has 2 and 2"):
        load_agent(tmp_path / "p.safetensors", fit_support(LinearModel(action_spec=wide), 0.7))


@pytest.mark.parametrize("damage", [lambda raw: raw[:-7], lambda raw: b"nothing"])
def test_a_corrupt_file_is_said(world, tmp_path, damage):
    path = tmp_path / "p.safetensors"
    Planner(world, goal=frame(world), **SETTINGS).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileFormatError, match="truncated or corrupt"):
        load_agent(path, world)


@pytest.mark.parametrize(
    "more",
    [
        {"terms": Terms(penalty=lambda states, actions: np.zeros(len(states)))},
        {"goal": Goal(lambda state, action, following: following[:, 0], -1.0, 1.0)},
    ],
)
def test_what_no_file_can_hold_is_refused(world, tmp_path, more):
    with pytest.raises(SpecError, match="cannot be saved"):
        Planner(world, **more, **SETTINGS).save(tmp_path / "p.safetensors")
    assert not list(tmp_path.iterdir())
