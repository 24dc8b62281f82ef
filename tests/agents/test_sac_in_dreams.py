"""SAC that goes on from one model to the next, however it was kept in between."""

import numpy as np
import pytest
import torch
from linear_model import LinearModel, fit_support
from small import discrete

from agents.sac import DreamtSAC, SACConfig
from agents.sb3 import LatentVecEnv
from worldmodel.errors import ConfigError, SpecError
from worldmodel.types import Belief

CONFIG = SACConfig(6, 4, dreams=3, branch=4, batch_size=8, hidden=8)
STARTS = Belief(torch.linspace(-0.3, 0.3, 10).reshape(5, 2), torch.full((5, 2), 0.01))


def acted(agent):
    """What it does in some states."""
    seen = np.random.default_rng(0).uniform(-0.6, 0.6, (5, 2)).astype(np.float32)
    return agent.predict(seen, deterministic=True)[0]


def test_kept_in_a_file_it_goes_on_as_if_it_had_not_been(world):
    wider = fit_support(world.model, 0.9)
    whole = DreamtSAC(CONFIG, 1)
    whole.improve(world, STARTS, 0)
    parted = DreamtSAC(CONFIG, 1)
    parted.restore(whole.to_bytes(), world)
    ours, theirs = (learner.improve(wider, STARTS, 1) for learner in (whole, parted))
    np.testing.assert_array_equal(acted(ours), acted(theirs))


def test_it_is_seeded_and_leaves_the_worlds_own_draws_alone(world):
    np.random.seed(7)
    torch.manual_seed(7)
    expected = np.random.rand(), torch.rand(()).item()
    np.random.seed(7)
    torch.manual_seed(7)
    first = DreamtSAC(CONFIG, 1).improve(world, STARTS, 0)
    assert (np.random.rand(), torch.rand(()).item()) == expected
    again, other = (DreamtSAC(CONFIG, s).improve(world, STARTS, 0) for s in (1, 2))
    np.testing.assert_array_equal(acted(first), acted(again))
    assert (acted(first) != acted(other)).any()


def test_dreams_begin_and_begin_anew_where_they_are_told_to(world):
    numbers = iter(range(100))

    def starts(n):
        return np.array([[0.001 * next(numbers), 0.1] for _ in range(n)], np.float32)

    env = LatentVecEnv(world, 3, 2, starts=starts)
    np.testing.assert_allclose(env.reset(), [[0, 0.1], [0.001, 0.1], [0.002, 0.1]], atol=1e-6)
    env.step(np.zeros((3, 1), np.float32))
    shown, _, done, told = env.step(np.zeros((3, 1), np.float32))
    assert done.all() and told[0]["TimeLimit.truncated"]
    np.testing.assert_allclose(shown, [[0.003, 0.1], [0.004, 0.1], [0.005, 0.1]], atol=1e-6)
    assert np.abs(told[0]["terminal_observation"] - shown[0]).max() > 1e-3
    following, *_ = env.step(np.zeros((3, 1), np.float32))
    assert np.isfinite(following).all()


def test_choices_are_refused():
    world = fit_support(LinearModel(action_spec=discrete(3)), 0.7)
    with pytest.raises(SpecError, match="needs numbers"):
        DreamtSAC(CONFIG, 0).improve(world, STARTS, 0)


def test_a_discount_of_one_is_refused():
    with pytest.raises(ConfigError, match="discount"):
        SACConfig(discount=1.0)
