"""A filter that is lost says so, and begins anew."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from linear_model import BOX, PIXELS
from test_trust import trusting

from worldmodel.types import Belief
from worldmodel.world.beliefs import Filter
from worldmodel.world.filter import FilterObservation, VectorFilterObservation


@pytest.fixture
def calibrated(linear):
    """A linear world whose filter errs by less than 0.05 while all is well."""
    world = trusting(linear())
    world.trust.surprise.fill_(0.05)
    world.trust.variance.fill_(1.0)
    return world


def frame_of(world, state):
    return world.decode(np.float32(state))


def follow(world, states, lead=()):
    """Consistent, restarted, and the mean, after every frame but the first."""
    kept = Filter(world, PIXELS.space(), BOX.space(), lead)

    def shown(state):
        frame = frame_of(world, state)
        return np.stack([frame] * lead[0]) if lead else frame

    kept.begin(shown(states[0]))
    found = []
    for state in states[1:]:
        kept.advance(np.zeros((*lead, 1), np.float32), shown(state))
        infos = {name: values[0] for name, values in kept.many_infos().items()}
        found.append(
            (infos["consistent"], infos["restarted"], infos["innovation"], kept.means()[0])
        )
    return found


def turned(world, start, steps):
    states = [np.float32(start)]
    for _ in range(steps):
        with torch.no_grad():
            z = torch.from_numpy(states[-1])[None]
            states.append(world.model.transition(z, torch.zeros(1, 1))[0].numpy())
    return states


@pytest.mark.parametrize("lead", [(), (3,)], ids=["one", "many"])
def test_a_belief_that_frames_confirm_is_consistent(calibrated, lead):
    found = follow(calibrated, turned(calibrated, (0.6, -0.2), 6), lead)
    assert all(consistent and not restarted for consistent, restarted, *_ in found)
    assert max(innovation for *_, innovation, _ in found) < 0.01


@pytest.mark.parametrize("lead", [(), (3,)], ids=["one", "many"])
def test_a_belief_that_frames_contradict_twice_begins_anew(calibrated, lead):
    away = [np.float32((1.2 * (-1) ** t, 1.2 * (-1) ** t)) for t in range(4)]
    found = follow(calibrated, away, lead)
    assert [bool(consistent) for consistent, *_ in found] == [False, False, False]
    assert [bool(restarted) for _, restarted, *_ in found] == [False, True, False]
    # The innovation is what the frame predicted differs by, squared, over the variance.
    with torch.no_grad():
        start = torch.from_numpy(found[1][3])[None]
        ahead = calibrated.model.emit(calibrated.model.transition(start, torch.zeros(1, 1))).mean
    shown = calibrated.model.scale_observations(
        torch.from_numpy(frame_of(calibrated, away[3]))[None]
    )
    assert found[2][2] == pytest.approx((ahead - shown).square().sum().item(), rel=1e-4)
    # A new belief is read off the frame alone, the old one would lie in between.
    np.testing.assert_allclose(found[1][3], away[2], atol=0.05)


@pytest.mark.parametrize("lead", [(), (3,)], ids=["one", "many"])
def test_a_beginning_that_shows_the_frame_no_better_is_none(calibrated, lead):
    """Where first frames were all alike in training, every frame is read as such a one."""
    read = calibrated.model.initial
    calibrated.model.initial = lambda *seen: Belief(0.01 * read(*seen).mean, read(*seen).scale)
    away = [np.float32((1.2 * (-1) ** t, 1.2 * (-1) ** t)) for t in range(5)]
    found = follow(calibrated, away, lead)
    assert not any(restarted or consistent for consistent, restarted, *_ in found)
    # It goes on from what it was: nearer to the frame than to what was read off it.
    np.testing.assert_allclose(np.sign(found[1][3]), np.sign(away[2]))
    assert np.abs(found[1][3]).min() > 0.3


class Jumping(gym.Env):
    """Shows two pictures in turn, which no dynamics of the model lead from one to the other."""

    observation_space, action_space = PIXELS.space(), BOX.space()

    def __init__(self, world):
        self.frames = [frame_of(world, (s, s)) for s in (1.2, -1.2)]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.frames[0].copy(), {}

    def step(self, action):
        self.t += 1
        return self.frames[self.t % 2].copy(), 0.0, False, False, {}


def test_wrappers_say_so(calibrated):
    single = FilterObservation(Jumping(calibrated), calibrated)
    many = VectorFilterObservation(
        SyncVectorEnv([lambda: Jumping(calibrated)] * 2, autoreset_mode=AutoresetMode.NEXT_STEP),
        calibrated,
    )
    one, several = single.reset(seed=0)[1], many.reset(seed=0)[1]
    assert one["consistent"] is True and one["error_bound"] == float(calibrated.trust.start[0])
    for t in range(4):
        one = single.step(np.zeros(1, np.float32))[4]
        several = many.step(np.zeros((2, 1), np.float32))[4]
        assert one["restarted"] is (t % 2 == 1) and one["consistent"] is False
        assert one["error_bound"] == np.inf
        for name in ("innovation", "restarted", "consistent", "error_bound"):
            np.testing.assert_allclose(several[name], [one[name]] * 2, rtol=1e-5)
            assert several[f"_{name}"].all()


def test_without_a_calibration_nothing_is_judged(linear):
    world = linear()
    env = FilterObservation(Jumping(world), world)
    env.reset(seed=0)
    for _ in range(3):
        info = env.step(np.zeros(1, np.float32))[4]
    assert "consistent" not in info and info["error_bound"] == np.inf
