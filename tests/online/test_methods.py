"""Every way of getting better goes on where it was; and what is told of a round."""

from dataclasses import replace

import numpy as np
import pytest
from online_worlds import CONFIG, build
from test_going_on import Killed, Stopping, outcome

import worldmodel
from agents import forecast
from agents.planning import Planner, PlanningConfig
from agents.sac import SACConfig
from worldmodel.cli.runs import policy_of
from worldmodel.data import Source, Wrapping
from worldmodel.errors import ConfigError, SpecError
from worldmodel.online import judging
from worldmodel.online.learn import learn
from worldmodel.plots.learning import read_progress

PLANNING = PlanningConfig(horizon=3, candidates=8)
SETTINGS = {
    "planner": replace(CONFIG, method="planner", planning=PLANNING),
    "sac": replace(CONFIG, method="sac", sac=SACConfig(6, 4, 3, branch=4, batch_size=8, hidden=8)),
    "disagreement": replace(CONFIG, intrinsic="disagreement", intrinsic_steps=60),
    "empowerment": replace(CONFIG, intrinsic="empowerment", intrinsic_steps=60),
}


@pytest.mark.parametrize("name", ["planner", "sac", "disagreement"])
def test_killed_it_ends_bit_for_bit_as_it_would_have(name, tmp_path):
    whole, parted, c = tmp_path / "whole", tmp_path / "parted", SETTINGS[name]
    learn("test/Cart-v0", whole, 80, c, build)
    with pytest.raises(Killed):
        learn("test/Cart-v0", parted, 80, c, build, watcher=Stopping("improving the agent", 3))
    learn("test/Cart-v0", parted, 80, c, build)
    world = worldmodel.load(whole)
    agents = [policy_of(run, worldmodel.load(run)) for run in (whole, parted)]
    seen = np.random.default_rng(0).normal(0, 0.3, (4, 2)).astype(np.float32)
    first, second = (agent.predict(seen, deterministic=True)[0] for agent in agents)
    np.testing.assert_array_equal(first, second)
    if name != "sac":  # which has a file of its own
        assert outcome(whole) == outcome(parted)
    assert isinstance(agents[0], Planner) == (name == "planner")
    assert world.support.fitted


def test_what_is_sought_beside_the_task_weighs_less_and_less(tmp_path):
    learn("test/Cart-v0", tmp_path, 110, SETTINGS["empowerment"], build)
    weights = [row["intrinsic"] for row in read_progress(tmp_path)]
    assert 0 < weights[0] <= 1 and weights[-1] == 0
    assert weights == sorted(weights, reverse=True)


def test_by_default_the_unknown_is_sought_as_long_as_nothing_tells_the_task():
    assert [CONFIG.intrinsic_after(500, quiet) for quiet in (True, False)] == [1.0, 0.0]
    assert SETTINGS["planner"].intrinsic_after(500, True) == 0
    assert replace(CONFIG, intrinsic="none").intrinsic_after(500, True) == 0


def test_every_evaluation_was_forecast(tmp_path):
    learn("test/Cart-v0", tmp_path, 110, CONFIG, build)
    rows = read_progress(tmp_path)
    for row in rows:
        assert (row["forecast"] is None) == (row["clean_return"] is None)
    told = [row for row in rows if row["forecast"] is not None]
    assert len(told) >= 2
    for row in told:
        assert row["forecast_low"] <= row["forecast"] <= row["forecast_high"]


@pytest.mark.parametrize(("name", "skip", "steps"), [("Cart", 3, 4), ("Timed", 1, 7)])
def test_forecasts_are_of_as_many_actions_as_an_episode_takes(
    name, skip, steps, tmp_path, monkeypatch
):
    dreamt = []

    def dream_on(world, agent, states, steps, generator):
        dreamt.append(steps)
        return forecast.dream_on(world, agent, states, steps, generator)

    monkeypatch.setattr(judging, "dream_on", dream_on)
    source = Source(f"test/{name}-v0", {}, Wrapping(frame_skip=skip))
    learn(source, tmp_path, 90, replace(CONFIG, episode_steps=None), build)
    told = [row["forecast"] for row in read_progress(tmp_path)]
    assert dreamt.count(steps) == len(told) - told.count(None) > 0


def test_who_searches_seeks_the_task_alone():
    with pytest.raises(ConfigError, match="--intrinsic disagreement is for --method actor-critic"):
        replace(SETTINGS["planner"], intrinsic="disagreement")


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"method": "sac"}, "--method sac"), ({"intrinsic": "empowerment"}, "--intrinsic emp")],
)
def test_what_choices_cannot_do_is_said_before_anything_is_acted(asked, said, tmp_path):
    with pytest.raises(SpecError, match=f"{said}.* needs numbers"):
        learn("CartPole-v1", tmp_path, 50, replace(CONFIG, **asked))
    assert not (tmp_path / "data").exists()
