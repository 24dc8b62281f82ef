"""A filter whose errors shrink by a known factor per frame is back when arithmetic says so."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from linear_model import LinearModel
from small import as_dataset, box, generator, random_batch, tiny_model, vector

from worldmodel.evaluation import recovery as measured
from worldmodel.evaluation.evaluate import evaluate
from worldmodel.evaluation.recovery import SHORTEST, recovery
from worldmodel.evaluation.tracking import fitted_line
from worldmodel.models.linear_gaussian import LinearGaussian
from worldmodel.plots.table import result_rows
from worldmodel.types import Batch, Belief
from worldmodel.world.world import World

SPECS = vector(2), box(-1.0, 1.0)
DRIFT, NOISE = 0.9, 0.1


class Gained(LinearModel):
    """Corrects a fixed share of what it sees to be wrong; dimensions do not disturb each other."""

    def __init__(self, gain):
        super().__init__(*SPECS, drift=DRIFT)
        self.gain = gain

    def update(self, belief, action, observation):
        predicted = self.transition(belief.mean, action)
        mean = predicted + self.gain * (self._read(observation) - predicted)
        return Belief(mean, belief.scale)


def named(states):
    return {"first": states[..., 0], "second": states[..., 1], "hidden": states[..., 2]}


def episodes(size, steps, seed):
    """Of the linear system, with process noise, from its stationary distribution."""
    model, g = Gained(0.5), generator(seed)
    batch = random_batch(*SPECS, size, steps, seed)
    with torch.no_grad():
        states = [NOISE / math.sqrt(1 - DRIFT**2) * torch.randn(size, 2, generator=g)]
        for action in batch.actions.unbind(1):
            noise = torch.randn(size, 2, generator=g)
            states.append(model.transition(states[-1], action, noise))
        state = torch.stack(states, 1)
        seen = model.emit(state).mean
    hidden = torch.randn(size, steps + 1, 1, generator=g)
    return replace(batch, observations=seen, states=torch.cat([state, hidden], -1))


def left(gain: float) -> tuple[float, float]:
    """Variance of the settled filter's error, and how much of one frame's is left at the next."""
    shrink = ((1 - gain) * DRIFT) ** 2
    return (1 - gain) ** 2 * NOISE**2 / (1 - shrink), shrink


def frames_until_back(error: float, gain: float, variance: float) -> int:
    """Of errors of some variance at first: R^2 within 90 % of the settled filter's."""
    rest, shrink = left(gain)
    frames = 0
    while error > 0.1 * variance + 0.9 * rest:
        error, frames = rest + shrink * (error - rest), frames + 1
    return frames


@pytest.mark.parametrize("gain", [0.8, 0.3, 0.1, 0.06])
def test_it_is_back_when_its_errors_have_shrunk(gain):
    model, train, test = Gained(gain), episodes(200, 30, 0), episodes(400, 90, 1)
    # The map is that of the filter alone: what is measured is not how it shrinks towards a mean.
    line = fitted_line(Gained(0.99), train, named)
    found = recovery(model, line, test, named, generator(2))
    assert found is not None
    unseen = rest = left(gain)[0]
    for _ in range(10):
        unseen = DRIFT**2 * unseen + NOISE**2
    for i, name in enumerate(("first", "second")):
        variance = test.states[:, 40:81, i].var().item()
        assert found["level"][name] == pytest.approx(1 - rest / variance, abs=0.03)
        # What another episode believes has nothing to do with the truth.
        errors = {"blind": unseen, "kidnapped": 2 * variance - rest}
        for after, error in errors.items():
            frames = frames_until_back(error, gain, variance)
            assert abs(found[after][name] - frames) <= 1 + 0.1 * frames, (after, found, frames)


def test_a_filter_that_throws_away_what_surprises_it_never_comes_back():
    train, test = episodes(200, 30, 0), episodes(100, 90, 1)
    line = fitted_line(Gained(0.99), train, named)

    class Stubborn(Gained):
        """Right as long as nobody disturbs it: knows the truth that it is not shown."""

        def update(self, belief, action, observation):
            seen = self._read(observation)
            believed = self.transition(belief.mean, action)
            near = (seen - believed).abs().amax(-1, keepdim=True) < 0.5
            return Belief(torch.where(near, seen, believed * 0 + 3), belief.scale)

    found = recovery(Stubborn(0.5), line, test, named, generator(2))
    assert found is not None
    assert found["level"]["first"] > 0.99
    assert found["kidnapped"]["first"] is None and found["kidnapped"]["second"] is None
    assert found["blind"]["hidden"] is None and found["kidnapped"]["hidden"] is None


def test_a_filter_that_trusts_the_frame_alone_is_back_with_it():
    train, test = episodes(200, 30, 0), episodes(100, 90, 1)
    found = recovery(Gained(1.0), fitted_line(Gained(1.0), train, named), test, named, generator(2))
    assert found is not None
    assert found["kidnapped"] == {"first": 1, "second": 1, "hidden": None}
    assert found["blind"]["first"] == found["blind"]["second"] == 1


def test_the_same_generator_gives_the_same_and_padding_does_not_count():
    model, test = Gained(0.3), episodes(60, SHORTEST + 10, 1)
    line = fitted_line(model, episodes(100, 30, 0), named)
    found = recovery(model, line, test, named, generator(2))
    assert found == recovery(model, line, test, named, generator(2))
    padding = random_batch(*SPECS, 60, 20, 3)
    mask = torch.cat([test.mask, torch.zeros_like(padding.mask)], 1)
    padded = Batch(
        torch.cat([test.observations, padding.observations[:, 1:]], 1),
        torch.cat([test.actions, padding.actions], 1),
        torch.cat([test.rewards, padding.rewards], 1),
        torch.cat([test.terminated, padding.terminated], 1),
        mask,
        torch.cat([test.states, torch.full((60, 20, 3), 9.0)], 1),
    )
    assert recovery(model, line, padded, named, generator(2)) == found


@pytest.mark.parametrize(("steps", "there"), [(SHORTEST - 1, False), (SHORTEST, True)])
def test_episodes_that_are_too_short_are_not_measured(steps, there):
    model = Gained(0.3)
    line = fitted_line(model, episodes(100, 30, 0), named)
    found = recovery(model, line, episodes(30, steps, 1), named, generator(2))
    assert (found is not None) == there
    assert recovery(model, line, episodes(30, 60, 1)[:1], named, generator(2)) is None


def test_beliefs_with_covariances_are_exchanged_with_them():
    train, test = episodes(100, 30, 0), episodes(20, 60, 1)
    model = LinearGaussian(LinearGaussian.config_type(latent_size=2), *SPECS, 0)
    model.calibrate(train)
    with torch.no_grad():
        belief = model.initial(test.observations[:, :1], test.actions[:, :0])
    assert belief.factor is not None
    exchanged = measured._exchanged([belief], generator(0))
    assert exchanged.factor is not None
    for row, mean in enumerate(exchanged.mean[:20]):
        (other,) = (belief.mean == mean).all(-1).nonzero().flatten().tolist()
        assert other != row and torch.equal(exchanged.factor[row], belief.factor[other])
    found = recovery(model, fitted_line(model, train, named), test, named, generator(2))
    assert found is not None and set(found) == {"level", "blind", "kidnapped"}


@pytest.mark.parametrize("steps", [30, SHORTEST])
def test_an_evaluation_tells_it_or_that_it_could_not(steps):
    splits = {"train": episodes(20, 20, 0), "test": episodes(10, steps, 1)}
    model = tiny_model(*SPECS)
    model.calibrate(splits["train"])
    dataset = as_dataset(*SPECS, **splits)
    metrics = evaluate(World(model), dataset, train_steps=9, targets=named).metrics
    assert (metrics["recovery"] is not None) == (steps == SHORTEST)
    assert metrics["dimensions"]["of"] == 3
    if metrics["recovery"]:
        assert np.isfinite(list(metrics["recovery"]["level"].values())).all()


def test_it_is_printed_beside_what_is_not_held():
    metrics = {
        "bound": {},
        "prediction_mse": [],
        "recovery": {
            "level": {"velocity": 0.9, "hidden": 0.01},
            "blind": {"velocity": 2, "hidden": None},
            "kidnapped": {"velocity": None, "hidden": None},
        },
        "dimensions": {"used": 3, "of": 8},
    }
    rows = {title.strip(): here for group in result_rows(metrics, {}) for title, here, _ in group}
    assert rows["velocity"] == "2 / > 30" and rows["hidden"] == "- / -"
    assert rows["latent dimensions that predictions need"] == "3 of 8"
