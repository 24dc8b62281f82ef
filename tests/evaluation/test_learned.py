"""What a model has learned at all, of systems whose answer is known."""

import numpy as np
import pytest
import torch
from linear_model import LinearModel
from small import box, generator, vector, with_fields

from worldmodel.data.influence import memory
from worldmodel.evaluation.learned import learned
from worldmodel.evaluation.shortcomings import unlearned
from worldmodel.types import Batch
from worldmodel.world.world import World

SPECS = vector(2), box(-1.0, 1.0)
GOOD = {
    "prediction": 0.05,
    "last_frame": 0.6,
    "mean_frame": 1.0,
    "exchanged_actions": [0.3, 0.4],
    "next_frame": 0.01,
    "next_frame_still": 0.1,
    "next_frame_of_one": 0.09,
    "memory": 0.9,
}


def walk(size=80, steps=10) -> Batch:
    """Episodes of the linear system itself."""
    model, g = LinearModel(*SPECS), generator()
    state = torch.rand(size, 2, generator=g) * 4 - 2
    actions = 2 * torch.rand(size, steps, 1, generator=g) - 1
    frames = model.unscale_observations(model.emit(World(model).rollout(state, actions)).mean)
    never = torch.zeros(size, steps, dtype=torch.bool)
    return Batch(frames.detach(), actions, torch.zeros(size, steps), never, ~never)


def said(model: LinearModel, batch: Batch) -> list[str]:
    return unlearned(learned(World(model), batch, 5))


def test_the_system_itself_knows_all_of_it():
    found = learned(World(LinearModel(*SPECS)), walk(), 5)
    assert found["prediction"] < 0.01 < 0.1 < found["last_frame"]
    assert found["mean_frame"] == pytest.approx(1, abs=0.3)
    assert min(found["exchanged_actions"]) > 3 * found["prediction"]
    assert unlearned(found) == []


def test_who_ignores_actions_is_told_so():
    model = LinearModel(*SPECS)
    model.B.zero_()
    (told,) = said(model, walk())
    assert told.startswith("NO EFFECT OF ACTIONS")
    assert unlearned(learned(World(model), walk(), 5), controlled=False) == []


@pytest.mark.parametrize("episodes", [1, 2, 4, 9, 10])
def test_of_few_episodes_none_is_exchanged_with_itself(episodes):
    found = learned(World(LinearModel(*SPECS)), walk(episodes), 5)
    assert len(found["exchanged_actions"]) == min(9, episodes - 1)
    assert min(found["exchanged_actions"], default=1) > 2 * found["prediction"]
    assert unlearned(found) == []


def test_actions_that_do_nothing_are_no_effect_though_the_model_believes_in_one():
    batch = walk()
    order = torch.randperm(len(batch), generator=generator())
    told = said(LinearModel(*SPECS), with_fields(batch, actions=batch.actions[order]))
    assert any(line.startswith("NO EFFECT OF ACTIONS") for line in told)


def test_who_knows_no_more_than_the_mean_is_told_so():
    model = LinearModel(*SPECS)
    model.B.zero_()
    model.F.data.zero_()
    (told,) = said(model, walk())
    assert told.startswith("NOTHING LEARNED")


def test_frames_that_never_change_teach_nothing():
    batch = walk()
    (told,) = said(LinearModel(*SPECS), with_fields(batch, observations=batch.observations * 0))
    assert "all frames are the same" in told


@pytest.mark.parametrize("observed", [1, 2])
def test_a_velocity_that_is_not_seen_takes_two_frames(observed):
    rng = np.random.default_rng(0)
    angle, state = 0.3, rng.normal(size=(200, 2)).astype("f4")
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], "f4")
    frames = [state]
    controls = rng.uniform(-1, 1, (200, 8, 1))
    for t in range(8):
        frames.append(
            frames[-1] @ turn + np.pad(0.1 * controls[:, t].astype("f4"), ((0, 0), (1, 0)))
        )
    told = memory(np.stack(frames, 1)[:, :, :observed], controls)
    assert (told > 0.8) if observed == 1 else (told < 0.3)


def test_nothing_is_remembered_where_nothing_moves():
    assert memory(np.zeros((50, 6, 3), "f4"), np.ones((50, 5, 1))) is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"prediction": 0.97}, "NOTHING LEARNED: predictions err by 97%"),
        ({"prediction": None}, "NOTHING LEARNED: predictions are not finite"),
        ({"exchanged_actions": [0.0504, 0.0502]}, "NO EFFECT OF ACTIONS"),
        ({"exchanged_actions": [0.3, 0.04]}, "NO EFFECT OF ACTIONS"),
        ({"next_frame": 0.088}, "NO VELOCITY"),
        ({"next_frame": 0.088, "memory": 0.1}, ""),
        ({"next_frame": 0.088, "memory": None}, ""),
        ({"next_frame": 0.01, "next_frame_of_one": 0.01}, ""),
        ({"next_frame_of_one": None}, ""),
    ],
)
def test_what_is_missing_is_said_loudly_and_once(changed, told):
    found = unlearned(GOOD | changed)
    assert len(found) == bool(told) and all(told in line for line in found)
