import gymnasium as gym
import numpy as np
import pytest
import torch
from linear_model import LinearModel, RealEnv, fit_support
from small import discrete

from worldmodel.errors import SpecError
from worldmodel.play.data_states import DataStates
from worldmodel.play.session import LOOKING, Session
from worldmodel.world.filter import FilterObservation

PUSHES = np.random.default_rng(0).uniform(-1, 1, (30, 1)).astype(np.float32)


class Unending(RealEnv):
    """Never terminates, so that long comparisons can be made."""

    def step(self, action):
        frame, paid, _, _, info = super().step(action)
        return frame, paid, False, False, info


@pytest.fixture
def unending(linear):
    return Unending(linear)


def filtered(world, env, seed: int, steps: int) -> np.ndarray:
    """What the filter believes after each frame, by the wrapper that agents use."""
    env = FilterObservation(env, world)
    first, _ = env.reset(seed=seed)
    return np.stack([first, *(env.step(PUSHES[t])[0] for t in range(steps))])


def test_the_dream_alone_is_the_models_rollout(play, linear):
    session = play("dream")
    start = session.state.copy()
    for push in PUSHES[:8]:
        session.step(push)
    expected = linear.imagine(start[None], PUSHES[None, :8])[0]
    np.testing.assert_allclose(session.state, expected[-1], atol=1e-6)
    np.testing.assert_array_equal(session.frame["observation"], linear.decode(session.state))
    paths = np.stack([moment.path for moment in session.history])
    np.testing.assert_allclose(paths[:, 0], expected[:-1], atol=1e-6)
    np.testing.assert_allclose(paths[:, 1], expected[1:], atol=1e-6)
    assert session.blind == 8 and session.real_frame is None
    assert all(np.isnan(m.real_reward) and m.real_path is None for m in session.history)


def test_rewards_and_distances_are_the_models(play, linear):
    session = play("dream", seed=3)
    session.step(PUSHES[0])
    before, after = (torch.from_numpy(row)[None] for row in session.history[0].path)
    reward = linear.model.reward(before, torch.from_numpy(PUSHES[:1]), after)
    assert session.history[0].reward == pytest.approx(min(float(reward), 0.0), abs=1e-6)
    away = float(linear.support.distance(after))
    assert session.history[0].distance == session.distance == pytest.approx(away)


def test_noise_is_the_models_and_follows_the_seed(play, linear):
    def dream(seed: int, noise: bool) -> np.ndarray:
        session = play("dream", seed=seed, noise=noise)
        session.reset_to(0)
        for push in PUSHES[:5]:
            session.step(push)
        return np.stack([m.path for m in session.history])

    paths = dream(0, True)
    np.testing.assert_array_equal(paths, dream(0, True))
    assert not np.allclose(paths, dream(1, True))
    np.testing.assert_array_equal(dream(0, False), dream(1, False))
    drawn = paths[:, 1] - linear.imagine(paths[:, 0], PUSHES[:5, None])[:, 1]
    assert 0.02 < drawn.std() < 0.3, "the model's own noise is 0.1"


def test_noise_can_be_switched(play):
    session = play("dream")
    assert session.toggle_noise() == "process noise on" and session.noise
    assert session.toggle_noise() == "process noise off" and not session.noise


def test_the_filter_follows_reality(play, linear, unending):
    session = play("filter", real=unending, seed=5)
    states = [session.state.copy()]
    for push in PUSHES[:12]:
        session.step(push)
        states.append(session.state.copy())
    expected = filtered(linear, Unending(linear), 5, 12)
    np.testing.assert_allclose(np.stack(states), expected, atol=1e-6)
    np.testing.assert_array_equal(session.real_frame["observation"], linear.decode(unending.state))
    assert session.blind == 0 and session.looking


def test_beside_reality_the_dream_looks_and_then_runs_open_loop(play, linear, unending):
    session = play("compare", real=unending, seed=5)
    for t, push in enumerate(PUSHES[:20]):
        assert session.looking == (t < LOOKING)
        session.step(push)
    believed = filtered(linear, Unending(linear), 5, 20)
    shown = np.stack([m.path[1] for m in session.history])
    np.testing.assert_allclose(shown[:LOOKING], believed[1 : LOOKING + 1], atol=1e-6)
    dreamt = linear.imagine(believed[None, LOOKING], PUSHES[None, LOOKING:20])[0, 1:]
    np.testing.assert_allclose(shown[LOOKING:], dreamt, atol=1e-5)
    assert session.blind == 20 - LOOKING
    real = np.stack([m.real_path[1] for m in session.history])
    np.testing.assert_allclose(real, believed[1:], atol=1e-6)
    assert {m.real_reward for m in session.history} == {-1.0}


def test_a_look_sets_the_dream_to_what_the_filter_believes(play, linear, unending):
    session = play("compare", real=unending, noise=True)
    for push in PUSHES[:20]:
        session.step(push)
    believed = session.history[-1].real_path[1]
    assert not np.allclose(session.state, believed, atol=1e-3)
    session.look()
    np.testing.assert_array_equal(session.state, believed)
    np.testing.assert_array_equal(session.frame["observation"], linear.decode(believed))
    assert session.blind == 0
    session.step(PUSHES[20])
    assert session.blind == 1, "it runs open loop again"


@pytest.mark.parametrize("mode", ["dream", "filter"])
def test_only_a_dream_beside_reality_looks(play, unending, mode):
    session = play(mode, real=unending)
    before = session.state.copy()
    assert "only a dream against reality" in session.look()
    np.testing.assert_array_equal(session.state, before)


def test_modes_go_on_from_what_is_shown(play, unending):
    session = play("filter", real=unending)
    for push in PUSHES[:12]:
        session.step(push)
    believed = session.state.copy()
    assert session.switch("compare") == "dream against reality"
    np.testing.assert_array_equal(session.state, believed)
    assert not session.looking, "the filter knew enough"
    session.step(PUSHES[12])
    dreamt = session.state.copy()
    session.switch("dream")
    np.testing.assert_array_equal(session.state, dreamt)
    assert session.real_frame is None
    session.step(PUSHES[13])
    session.switch("filter")
    assert len(session.history) == 0, "reality stood still, so it begins anew"
    assert session.real_frame is not None


def test_from_the_comparison_to_the_filter_the_belief_is_shown(play, unending):
    session = play("compare", real=unending, noise=True)
    for push in PUSHES[:15]:
        session.step(push)
    session.switch("filter")
    np.testing.assert_array_equal(session.state, session.history[-1].real_path[1])


def test_without_reality_there_is_the_dream_alone(play, linear):
    session = play("dream", real=None)
    assert "no real environment" in session.switch("compare")
    assert session.mode == "dream"
    session.close()
    with pytest.raises(SpecError, match="'filter'"):
        play("filter", real=None)


def test_a_reset_begins_anew(play, unending):
    session = play("compare", real=unending)
    first = session.state.copy()
    for push in PUSHES[:15]:
        session.step(push)
    revision = session.revision
    session.reset()
    assert not session.history and session.looking and session.revision > revision
    assert not np.array_equal(session.state, first), "another episode"


def test_the_end_of_the_real_episode_stops_the_game(play, linear):
    session = play("compare", real=gym.wrappers.TimeLimit(Unending(linear), 4))
    said = [session.step(PUSHES[t]) for t in range(6)]
    assert said == ["", "", "", "the real episode has ended", "", ""]
    assert len(session.history) == 4
    assert session.look() == session.ended
    session.reset()
    assert not session.ended and session.step(PUSHES[0]) == ""


def test_the_end_of_the_dreamt_episode_stops_the_game(play):
    world = fit_support(LinearModel(), 0.7)
    world.support.states[:] = torch.tensor([0.9, 0.0])
    session = play("dream", world=world)
    while not session.ended:  # the world terminates where its first dimension exceeds 1.2
        session.step(np.ones(1, np.float32))
        assert len(session.history) < 50
    assert "ended" in session.ended and session.state[0] > 1.2


def test_a_dream_that_diverges_stops_at_its_last_finite_state(play):
    world = fit_support(LinearModel(drift=1e18), 0.7)
    session = play("dream", world=world)
    for _ in range(10):
        session.step(-np.ones(1, np.float32))
        if session.ended:
            break
    assert session.ended
    assert np.isfinite(session.state).all()


def test_the_agent_sees_the_dream_alone_or_reality_through_the_filter(play, linear, unending):
    seen = []

    def policy(state):
        seen.append(state)
        return np.array([0.5], np.float32)

    session = play("dream", real=unending, policy=policy)
    shown = session.state.copy()
    session.step(PUSHES[0])
    assert not seen, "nobody asked it to act"
    assert session.toggle_agent() == "the agent acts"
    shown = session.state.copy()
    session.step(PUSHES[1])
    np.testing.assert_array_equal(seen[-1], shown)
    assert session.history[-1].action == pytest.approx(0.5)
    session.switch("compare")
    for t in range(15):
        session.step(PUSHES[t])
    np.testing.assert_allclose(seen[-1], session.history[-1].real_path[0], atol=1e-6)
    assert session.toggle_agent() == "you act"
    session.step(PUSHES[0])
    assert session.history[-1].action == pytest.approx(PUSHES[0])


def test_without_an_agent_it_is_said(play):
    session = play("dream")
    assert "worldmodel agent" in session.toggle_agent()
    assert not session.agent_acts


def test_discrete_actions_reach_dream_and_reality():
    world = fit_support(LinearModel(action_spec=discrete(3)), 0.7)
    taken = []

    class Discrete(Unending):
        def step(self, action):
            taken.append(action)
            control = np.eye(3, dtype=np.float32)[None, action]
            self.state = self.world.imagine(self.state[None], control[None])[0, 1]
            return self._frame(), -1.0, False, False, {}

    session = Session(world, DataStates.of_support(world), Discrete(world), mode="compare")
    session.step(np.asarray(2))
    assert taken == [2]
    np.testing.assert_array_equal(session.history[-1].action, [0, 0, 1])


def test_a_data_state_is_where_the_dream_begins(play, linear):
    session = play("dream")
    assert "data state 4 of 1024" in session.reset_to(3)
    np.testing.assert_allclose(session.state, linear.support.states[3].numpy())
    session.reset_to(-1)
    assert session.chosen == 1023
    session.reset()
    assert session.chosen is None


def test_reality_that_cannot_be_put_there_is_left_out(play, unending):
    session = play("compare", real=unending)
    assert "cannot be put there" in session.reset_to(3)
    assert session.mode == "dream" and session.real_frame is None


def test_reality_is_put_where_the_data_were(pendulum_session, pendulum_states):
    session = pendulum_session("compare")
    for index in (0, 17, 500):
        assert "cannot" not in session.reset_to(index)
        assert session.mode == "compare" and not session.looking
        np.testing.assert_allclose(
            session.real.unwrapped._state[0], pendulum_states.truths[index], atol=1e-5
        )
        np.testing.assert_allclose(session.state, pendulum_states.latents[index], atol=1e-6)
    for _ in range(10):
        session.step(np.zeros(1, np.float32))
    off = session.frame["observation"].astype(float) - session.real_frame["observation"]
    assert np.sqrt((off**2).mean()) < 25, "a second later the dream still shows what is there"
    session.close()


def test_an_environment_that_ignores_the_option_is_found_out(pendulum, pendulum_states):
    class Ignorant(gym.Wrapper):
        def reset(self, *, seed=None, options=None):
            return self.env.reset(seed=seed)

    real = Ignorant(gym.make("worldmodel/Pendulum-v0"))
    session = Session(pendulum, pendulum_states, real, mode="compare")
    assert "cannot be put there" in session.reset_to(5)
    session.close()
