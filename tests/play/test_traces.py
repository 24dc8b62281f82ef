import numpy as np
import pytest
from linear_model import LinearModel, fit_support

from worldmodel.play.pen import DREAM, REAL, SERIES
from worldmodel.play.traces import TRACES, actions, distances, rewards
from worldmodel.types import ActionSpec

PUSHES = np.random.default_rng(0).uniform(-1, 1, (30, 1)).astype(np.float32)


def test_traces_are_the_sessions_history(play):
    session = play("dream")
    for push in PUSHES[:9]:
        session.step(push)
    np.testing.assert_allclose(actions(session, 0.1).lines[0].values, PUSHES[:9, 0])
    paid = [moment.reward for moment in session.history]
    np.testing.assert_array_equal(rewards(session, 0.1).lines[0].values, paid)
    away = [moment.distance for moment in session.history]
    np.testing.assert_array_equal(distances(session, 0.1).lines[0].values, away)


def test_axes_have_units(play):
    assert [trace(play("dream", action_unit="N m"), 0.1).title for trace in TRACES] == [
        "action (N m)",
        "reward",
        "distance from data (radii)",
    ]
    assert actions(play("dream"), 0.1).title == "action", "nobody knows"


def test_no_component_of_an_action_has_the_colour_of_dream_or_reality():
    assert not {DREAM, REAL} & set(SERIES)


def test_reality_has_a_line_of_its_own(play):
    session = play("filter")
    session.step(PUSHES[0])
    lines = {line.name: line.values[-1] for line in rewards(session, 0.1).lines}
    assert set(lines) == {"model", "real"} and lines["real"] == -1.0


@pytest.mark.parametrize(("interval", "steps"), [(0.1, 100), (0.5, 20), (1.0, 20), (0.001, 600)])
def test_ten_seconds_are_shown_or_as_many_as_are_kept(play, interval, steps):
    session = play("dream")
    trace = rewards(session, interval)
    assert (trace.steps, trace.seconds) == (steps, pytest.approx(steps * interval))
    for _ in range(25):
        session.step(PUSHES[0] * 0)
    assert len(rewards(session, interval).lines[0].values) == min(25, steps)


@pytest.mark.parametrize(
    "paid", [(1.0, 1.0), (-1.0, -1.0), (0.0, 0.0), (-16.3, 0.0), (0.02, 0.9), (-np.inf, np.inf)]
)
def test_any_range_of_rewards_has_room_and_readable_marks(play, paid):
    world = fit_support(LinearModel(), 0.7)
    world.model.reward_range = paid
    session = play("dream", world=world)
    for _ in range(2):
        for trace in (trace(session, 0.1) for trace in TRACES):
            assert np.isfinite([trace.low, trace.high, *trace.marks]).all()
            assert trace.low < trace.high
            assert all(trace.low <= mark <= trace.high for mark in trace.marks)
        trace = rewards(session, 0.1)
        if np.isfinite(paid).all():
            assert trace.low <= paid[0] and paid[1] <= trace.high
        assert all(len(f"{mark:g}") <= 6 for mark in trace.marks)
        session.step(PUSHES[0])


def test_discrete_actions_are_traced_by_their_index(play):
    spec = ActionSpec("discrete", (0.0,) * 3, (1.0,) * 3)
    session = play("dream", world=fit_support(LinearModel(action_spec=spec), 0.7))
    session.reset_to(int(session.known.latents[:, 0].argmin()))  # far from where episodes end
    for action in (1, 0, 2):
        session.step(np.asarray(action))
    trace = actions(session, 0.1)
    np.testing.assert_array_equal(trace.lines[0].values, [1, 0, 2])
    assert trace.low < 0 and trace.high > 2


def test_of_long_actions_the_first_components_are_traced(play):
    spec = ActionSpec("box", (-1.0,) * 9, (1.0,) * 9)
    session = play("dream", world=fit_support(LinearModel(action_spec=spec), 0.7))
    session.step(np.arange(9, dtype=np.float32) / 10)
    lines = actions(session, 0.1).lines
    np.testing.assert_allclose([line.values[0] for line in lines], np.arange(6) / 10)
    assert len({line.colour for line in lines}) == 6
