"""The verdict on agents in a world whose dream is right, and in ones where it is not."""

import json
import re

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from linear_model import LinearModel, RealEnv, fit_support
from scipy.stats import permutation_test

from agents.evaluation import Random, compare
from agents.verdict import advantage, judge, reasons, sentences
from worldmodel.plots.verdict import verdict_rows, verdict_section

GOOD = {
    "episodes": 20,
    "returns": {"dream": -5.0, "real": -5.5, "random": -20.0, "random_dream": -21.0},
    "deviations": {"dream": 1.0, "real": 1.0, "random": 2.0, "random_dream": 2.0},
    "lengths": {"dream": 30.0, "real": 30.0, "random": 30.0, "random_dream": 30.0},
    "models": 1,
    "by_model": [-5.0],
    "interval": [-7.0, -4.0],
    "length_interval": [30.0, 30.0],
    "right": True,
    "length_right": True,
    "alone_interval": [-7.0, -4.0],
    "alone_length_interval": [30.0, 30.0],
    "alone_right": True,
    "p_random": 0.0001,
    "beats_random": True,
    "reference": None,
    "reached": None,
    "outside_dream": 0.01,
    "outside_real": 0.0,
    "leaves_after": 30.0,
    "ends_foreseen": None,
    "reward_error": 0.05,
    "filter_error": 0.01,
}
BAD = {"right": False, "alone_right": False, "outside_dream": 0.01}


class Honest(RealEnv):
    """Pays what the model says, and goes on for ever."""

    def step(self, action):
        before = torch.tensor(self.state)
        frame, _, _, _, info = super().step(action)
        acted = torch.tensor(np.clip(action, -1, 1))
        paid = self.world.model.reward(before, acted, torch.tensor(self.state)).item()
        return frame, paid, False, False, info


class Steering:
    """Pushes against where the point is going."""

    def predict(self, observation, deterministic=True):
        return -np.sign(observation[:, :1]).astype(np.float32), None


def world(terminates=False):
    model = LinearModel()
    model.can_terminate = terminates
    return fit_support(model, 0.7)


def seen(world, kind=Honest, agent=None, n=12, steps=20, others=()):
    make = [lambda: kind(world)] * n
    real = SyncVectorEnv(make, autoreset_mode=AutoresetMode.NEXT_STEP)
    return compare(agent or Steering(), world, real, steps, seed=3, random=True, others=others)


def test_a_dream_that_is_right_and_an_agent_that_is_good_are_told_so():
    ours = world()
    verdict = judge(ours, seen(ours), reference=-100.0)
    assert verdict["right"] and verdict["length_right"] and verdict["beats_random"]
    assert verdict["reached"] and verdict["p_random"] < 0.01
    assert verdict["reward_error"] < 0.5 and verdict["filter_error"] < 0.5
    assert verdict["ends_foreseen"] is None and verdict["lengths"]["real"] == 20
    assert [line.split()[:4] for line in verdict["said"]] == [
        ["The", "dream", "was", "right:"],
        ["The", "agent", "beats", "random"],
        ["It", "reaches", "-100,", "from"],
    ]
    assert json.loads(json.dumps(verdict, allow_nan=False)) == verdict
    assert len(verdict_rows(verdict)) == 9 and "in reality" in verdict_section(verdict)


def test_chance_does_not_beat_chance():
    ours = world()
    verdict = judge(ours, seen(ours, agent=Random(ours.model.action_spec, 99)))
    assert not verdict["beats_random"] and verdict["p_random"] > 0.05
    assert any("DOES NOT BEAT" in line for line in verdict["said"])


def test_a_reality_that_pays_otherwise_and_ends_is_not_foreseen():
    """The real system pays -1 a step, and ends where the model has never seen an end."""
    ours = world()
    verdict = judge(ours, seen(ours, RealEnv, agent=Random(ours.model.action_spec, 99)))
    assert verdict["ends_foreseen"] == 0 and verdict["reward_error"] > 0.5
    told = " ".join(reasons(verdict, ours))
    assert "no recorded episode ended" in told and "model of the reward is wrong" in told


def test_ends_that_the_model_knows_are_foreseen():
    ours = world(terminates=True)
    found = judge(ours, seen(ours, RealEnv, agent=Random(ours.model.action_spec, 99)))
    assert 0.1 < found["ends_foreseen"] <= 1


@pytest.mark.parametrize("seed", range(2))
def test_the_test_against_chance_is_a_permutation_test(seed):
    rng = np.random.default_rng(seed)
    ours, theirs = rng.normal(0.4 * seed, 1, 12), rng.normal(0, 1, 15)
    expected = permutation_test(
        (ours, theirs),
        lambda x, y: x.mean() - y.mean(),
        alternative="greater",
        n_resamples=5_000,
        rng=rng,
    ).pvalue
    assert advantage(ours, theirs) == pytest.approx(expected, abs=0.03)


def test_equal_returns_are_no_advantage():
    assert advantage(np.full(10, 500.1), np.full(10, 500.1)) == 1


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"outside_dream": 0.6, "leaves_after": 12.0},
            "60% of its dreamt steps and 0% of its real",
        ),
        ({"reward_error": 0.8}, "errs by 80% of the rewards' deviation"),
        ({"filter_error": 3.0}, "filter is lost: .* 300%"),
        ({"ends_foreseen": 0.1}, "gave the real ones a chance of 10%"),
        ({}, "none of what is measured here"),
    ],
)
def test_the_likely_reason_is_named_with_its_number(changed, told):
    ours = world(terminates=True)
    (reason,) = reasons(GOOD | BAD | changed, ours)
    assert re.search(told, reason)
    assert sentences(GOOD | BAD | changed, ours)[-1] == f"Likely: {reason}"


def test_rewards_that_are_all_equal_are_nothing_to_aim_at():
    ours = world()
    ours.model.reward_range = (-1.0, -1.0)
    assert "every recorded reward is -1" in reasons(GOOD | BAD, ours)[0]


def test_a_mean_that_is_off_by_chance_is_said_to_be():
    numbers = GOOD | {"interval": [0.0, 1.0]}
    real = numbers["returns"]["real"]
    assert not 0 <= real <= 1
    assert "no further off than chance" in sentences(numbers, world())[0]
    around = numbers | {"interval": [real - 1, real + 1]}
    assert "chance takes" not in sentences(around, world())[0]


def test_a_length_that_was_not_foreseen_is_said():
    numbers = GOOD | {
        "length_right": False,
        "alone_right": False,
        "length_interval": [270.0, 290.0],
    }
    told = sentences(numbers, world())
    assert "WRONG about how long" in told[1] and "between 270 and 290 steps" in told[1]


def test_other_models_of_the_data_widen_what_is_foretold():
    """Reality ends where z_1 exceeds 1; the model has never seen an end, another one has."""
    ours, other = world(), world(terminates=True)
    other.model.termination = lambda z: 1e3 * (z[..., 0] - 1)
    space = ours.model.action_spec
    alone = judge(ours, seen(ours, RealEnv, Random(space, 99)))
    both = judge(ours, seen(ours, RealEnv, Random(space, 99), others=[other]))
    assert not alone["length_right"] and alone["models"] == 1
    assert alone["interval"] == alone["alone_interval"] == both["alone_interval"]
    assert both["models"] == 2 and len(both["by_model"]) == 2
    assert both["length_right"] and not both["alone_right"]
    assert both["length_interval"][1] == 20 > both["lengths"]["real"] > both["length_interval"][0]


def test_what_only_other_models_foresaw_is_said_with_its_numbers():
    numbers = GOOD | {"models": 3, "by_model": [-2.0, -5.0, -9.0], "alone_right": False}
    numbers |= {"alone_interval": [-2.5, -1.5], "alone_length_interval": [40.0, 50.0]}
    told = sentences(numbers | {"interval": [-10.0, -1.5]}, world())
    assert "dreamt by 3 models" in told[0] and "between -10 and -1.5" in told[0]
    assert "alone it was WRONG: returns between -2.5 and -1.5, -5.5 in reality; 40 to 50" in told[1]
    assert "mean returns are -2, -5, -9" in told[1] and told[-1].startswith("Likely: ")
