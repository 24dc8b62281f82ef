import itertools
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from linear_model import LinearModel, fit_support
from small import discrete, random_batch, small_model

import worldmodel
from agents.planning import METHODS, Planner
from agents.plans import colouring
from agents.rollout import Acting, rollout
from agents.scoring import Terms
from worldmodel.errors import ConfigError, NotCompiled, ShapeError, SpecError
from worldmodel.spaces import ActionSpace
from worldmodel.systems import system_of
from worldmodel.world.dynamics import Dynamics, Goal
from worldmodel.world.filter import VectorFilterObservation
from worldmodel.world.world import World

SEARCH = {"candidates": 256, "ood_penalty": 0.0, "ood_radius": 1e6, "discount": 1.0}
# MPPI averages once over wide noise: more draws, cooler, and again.
HARD = {"cem": {"iterations": 8}, "icem": {"iterations": 8, "colour": 0.0}}
HARD["mppi"] = {"iterations": 6, "temperature": 0.05}


def states(n: int = 12) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.6, 0.6, (n, 2)).astype(np.float32)


def unbounded(world) -> Goal:
    """The model's reward, of which nothing is cut off."""
    return Goal(world.model.reward, -1e3, 1e3)


def best_push(state: np.ndarray) -> np.ndarray:
    """The action of a linear model that maximises -|F z + B u|^2 + 0.1 u, from its derivative."""
    model = LinearModel()
    F, B = model.F.detach().numpy(), model.B.numpy()[0]
    return np.clip((0.05 - state @ F.T @ B) / (B @ B), -1, 1)


@pytest.mark.parametrize("method", METHODS)
def test_a_known_optimum_is_found_under_negative_rewards(world, method):
    planner = Planner(world, method, goal=unbounded(world), horizon=1, **SEARCH, **HARD[method])
    actions, _ = planner.predict(states())
    assert actions.shape == (12, 1) and actions.dtype == np.float32
    np.testing.assert_allclose(actions[:, 0], best_push(states()), atol=0.06)


@pytest.mark.parametrize("method", METHODS)
def test_two_steps_are_planned_together(world, method):
    settings = SEARCH | {"candidates": 1024, "horizon": 2} | HARD[method]
    planner = Planner(world, method, goal=unbounded(world), **settings)
    actions, _ = planner.predict(states(4))
    grid = np.linspace(-1, 1, 81, dtype=np.float32)
    pairs = np.array(list(itertools.product(grid, grid)), np.float32)
    dynamics = Dynamics(world)
    for state, action in zip(states(4), actions, strict=True):
        at, paid = torch.from_numpy(state).expand(len(pairs), 2), torch.zeros(len(pairs))
        for t in range(2):
            control = torch.from_numpy(pairs[:, t : t + 1])
            with torch.no_grad():
                step = dynamics.model.transition(at, control)
                paid, at = paid + dynamics.model.reward(at, control, step), step
        near = np.abs(pairs[:, 0] - action) < 0.05
        assert paid[torch.from_numpy(near)].max() > paid.max() - 0.01


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_a_number_never_wins(world, method):
    """The best pushes are made to give none: the best of the rest is found."""

    def reward(state, action, next_state):
        paid = -(action[:, 0] - 0.8).square() - 5
        return torch.where(action[:, 0] > 0.3, torch.nan, paid)

    goal = Goal(reward, -1e3, 0.0)
    planner = Planner(world, method, goal=goal, horizon=1, **SEARCH, **HARD[method])
    actions, _ = planner.predict(states())
    assert (actions <= 0.301).all() and (actions > 0.1).all()


@pytest.mark.parametrize("method", METHODS)
def test_where_nothing_is_a_number_the_plan_stays(world, method):
    goal = Goal(lambda state, action, next_state: torch.full((len(state),), torch.nan), -1.0, 0.0)
    actions, plan = Planner(world, method, goal=goal, candidates=16).predict(states(3))
    assert np.isfinite(actions).all() and (plan.mean == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_planning_repeats_and_leaves_the_rest_alone(world, method):
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    planner, twin = (Planner(world, method, candidates=32, horizon=5) for _ in range(2))
    first, plan = planner.predict(states(3))
    for agent in (planner, twin):
        again, same = agent.predict(states(3))
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(plan.mean, same.mean)
    other, _ = Planner(world, method, candidates=32, horizon=5, seed=1).predict(states(3))
    assert not np.array_equal(first, other)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


@pytest.mark.parametrize("method", METHODS)
def test_one_state_is_acted_on_as_many_are(world, method):
    settings = SEARCH | {"horizon": 3, "candidates": 2048} | HARD[method]
    planner = Planner(world, method, goal=unbounded(world), **settings)
    one, plan = planner.predict(states()[4])
    many, _ = planner.predict(states())
    assert one.shape == (1,) and plan.mean.shape == (1, 3, 1)
    np.testing.assert_allclose(one, many[4], atol=0.15)


def dreamt_return(world, planner, memory: bool) -> float:
    """Of ten steps from many states, with or without what the planner remembers."""
    act, state, paid = Acting(planner), torch.from_numpy(states(200)), 0.0
    for _ in range(10):
        seen = state.numpy()
        action = act(seen) if memory else planner.predict(seen)[0]
        with torch.no_grad():
            step = Dynamics(world).step(state, torch.from_numpy(action), None)
        state, paid = step.next_state, paid + step.reward.mean().item()
    return paid


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_that_is_remembered_is_improved(world, method):
    few = {"candidates": 10, "iterations": 1, "horizon": 6, "ood_penalty": 0.0}
    planner = Planner(world, method, **few)
    assert dreamt_return(world, planner, True) > dreamt_return(world, planner, False) + 0.01


def test_a_plan_moves_on_by_a_step_and_is_void_where_an_episode_begins(world):
    planner = Planner(world, "mppi", horizon=4, candidates=64)
    _, plan = planner.predict(states(3))
    assert (plan.mean[:, -1] == 0).all() and (plan.mean[:, :-1] != 0).any()
    begun = np.array([False, True, False])
    _, anew = planner.predict(states(3), plan, begun)
    void = plan._replace(mean=plan.mean * ~begun[:, None, None])
    np.testing.assert_array_equal(anew.mean, planner.predict(states(3), void)[1].mean)
    with pytest.raises(ShapeError, match=r"\(2, 4, 1\)"):
        planner.predict(states(2), plan)


@pytest.mark.parametrize("method", METHODS)
def test_the_best_of_all_sequences_of_choices_is_found(method):
    model = LinearModel(action_spec=discrete(3))
    with torch.no_grad():
        model.B.copy_(torch.tensor([[-0.3, -0.1], [0.0, 0.0], [0.3, 0.1]]))
    world = fit_support(model, 0.7)
    world.model.can_terminate = False
    settings = SEARCH | {"horizon": 3} | HARD[method]
    planner = Planner(world, method, goal=unbounded(world), **settings)
    indices, _ = planner.predict(states())
    sequences = torch.tensor(list(itertools.product(range(3), repeat=3)))
    for state, index in zip(states(), indices, strict=True):
        at, paid = torch.from_numpy(state).expand(27, 2), torch.zeros(27)
        for t in range(3):
            control = torch.eye(3)[sequences[:, t]]
            with torch.no_grad():
                step = model.transition(at, control)
                paid, at = paid + model.reward(at, control, step), step
        assert paid[sequences[:, 0] == int(index)].max() > paid.max() - 0.02
    assert planner.predict(states()[0], deterministic=False)[0] in (0, 1, 2)


@pytest.mark.parametrize("method", METHODS)
def test_actions_of_any_space(method):
    parts = {"a": gym.spaces.Box(-2, 3, (2,)), "b": gym.spaces.Discrete(3, start=5)}
    space = gym.spaces.Dict(parts | {"c": gym.spaces.MultiBinary(2)})
    world = fit_support(LinearModel(action_spec=ActionSpace.from_space(space)), 0.7)
    planner = Planner(world, method, horizon=3, candidates=16)
    for deterministic in (True, False):
        action, plan = planner.predict(states()[0], deterministic=deterministic)
        assert space.contains(action)
        assert planner.predict(states(4), deterministic=deterministic)[0]["a"].shape == (4, 2)
    chances = plan.mean[0, :, 2:5]
    np.testing.assert_allclose(chances.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_prior_is_followed_where_the_search_finds_nothing_better(world, method):
    """Two candidates find little; the prior knows the best push of one step."""

    class Knowing:
        def predict(self, observation, deterministic=True):
            return best_push(observation)[:, None].astype(np.float32), None

    few = SEARCH | {"candidates": 8, "temperature": 1e-3, "iterations": 1, "momentum": 0.0}
    few |= {"horizon": 1, "elites": 0.1}
    alone = Planner(world, method, **few).predict(states())[0][:, 0]
    told = Planner(world, method, prior=Knowing(), prior_fraction=0.5, **few)
    guided = told.predict(states())[0][:, 0]
    error = np.abs(guided - best_push(states())).mean()
    assert error < 0.15 and error < 0.6 * np.abs(alone - best_push(states())).mean()


def test_what_comes_after_the_horizon_can_be_valued(world):
    nothing = Goal(lambda state, action, next_state: torch.zeros(len(state)), 0.0, 0.0)
    for sign in (-1, 1):
        planner = Planner(
            world, goal=nothing, terms=Terms(value=lambda seen, s=sign: s * seen[:, 0]), horizon=2
        )
        actions, _ = planner.predict(0.5 * states())
        assert (sign * actions > 0.5).all()


def test_constraints_are_kept(world):
    wanted = Goal(lambda state, action, next_state: action[:, 0], -1.0, 1.0)
    short = SEARCH | {"goal": wanted, "horizon": 3}
    assert (Planner(world, **short).predict(states())[0] > 0.9).all()
    tied = Planner(world, terms=Terms(project=lambda p: p.clip(-0.2, 0.2)), **short)
    np.testing.assert_allclose(tied.predict(states())[0], 0.2, atol=0.01)
    costly = Planner(world, terms=Terms(penalty=lambda z, a: 10 * (a[:, 0] > 0.1)), **short)
    assert (costly.predict(states())[0] <= 0.1).all()


def test_leaving_the_support_is_not_worth_it(world):
    """What is paid grows outwards, and beyond the data nothing of it is believed."""
    outwards = Goal(lambda state, action, next_state: next_state[:, 0], -4.0, 100.0)
    ends = []
    for rule in ({"ood_radius": 1.0}, {"ood_radius": 1e6, "ood_penalty": 0.0}):
        act, state = Acting(Planner(world, goal=outwards, horizon=5, **rule)), states(50)
        left = np.zeros(50, np.bool_)
        for _ in range(15):
            with torch.no_grad():
                at = torch.from_numpy(state)
                at = world.model.transition(at, torch.from_numpy(act(state)))
            state = at.numpy()
            left |= (world.distance(at) > 1).numpy()
        ends.append(left.mean())
    assert ends[0] < 0.02 < 0.1 < ends[1]


def test_no_reward_is_expected_after_an_end(world):
    """Beyond 1.2 the linear model's episodes end; each step alive pays 1."""
    world.model.can_terminate = True
    alive = Goal(lambda state, action, next_state: torch.ones(len(state)), 0.0, 1.0)
    start = np.float32([[1.25, -0.3]])
    arrived = [
        world.model.transition(torch.from_numpy(start), torch.tensor([[u]])) for u in (-1.0, 1.0)
    ]
    assert [bool(world.model.termination(z) > 0) for z in arrived] == [False, True]
    far = {"ood_radius": 1e6, "ood_penalty": 0.0}
    action, _ = Planner(world, goal=alive, horizon=4, **far).predict(start)
    with torch.no_grad():
        reached = world.model.transition(torch.from_numpy(start), torch.from_numpy(action))
    assert world.model.termination(reached) < 0


def refuse(*_):
    raise NotCompiled("for a reason")


@pytest.mark.parametrize("method", METHODS)
def test_compiled_and_tensor_steps_plan_alike(method):
    model = small_model("dvbf")
    model.calibrate(random_batch())
    world = World(model.requires_grad_(False))
    world.support.fit(0.6 * torch.randn(2000, model.latent_size), torch.randn(50, 3))
    planner = Planner(world, method, horizon=6, candidates=64)
    seen = 0.3 * np.random.default_rng(0).standard_normal((4, model.latent_size), np.float32)
    fast, _ = planner.predict(seen)
    assert planner.compiled is True
    world.model.compiled_reward = refuse
    slow = Planner(world, method, horizon=6, candidates=64)
    assert "for a reason" in str(slow.compiled)
    np.testing.assert_allclose(slow.predict(seen)[0], fast, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_has_its_colour(exponent):
    noise = np.random.default_rng(0).standard_normal((20_000, 32)) @ colouring(32, exponent)
    np.testing.assert_allclose(noise.std(0), 1, atol=0.03)
    power = (np.abs(np.fft.rfft(noise)) ** 2).mean(0)[1:-1]
    slope = np.polyfit(np.log(np.arange(1, len(power) + 1)), np.log(power), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_the_real_pendulum_stands(method):
    world = worldmodel.load("pendulum")
    source = world.require_source()
    system, real = system_of(source.env_id), source.make_vec(4)
    acted = rollout(
        Planner(world, method),
        VectorFilterObservation(real, world),
        100,
        0,
        system.task_start(4, 0),
    )
    assert system.task_metrics(acted) == {"upright_fraction": 1.0}
    assert acted.returns.mean() > -260


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "guess"}, "'guess'"),
        ({"candidates": 1}, "candidates must be at least 2, got 1"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"elites": 0.0}, "elites"),
        ({"temperature": -1.0}, "temperature must be more than 0, got -1"),
        ({"std": math.nan}, "std"),
        ({"momentum": 1.5}, r"momentum must lie in \[0, 1\], got 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(world, settings, said):
    with pytest.raises(ConfigError, match=said):
        Planner(world, **settings)


def test_what_does_not_fit_is_refused(world):
    with pytest.raises(ShapeError, match=r"\(n, 2\), got \(5, 3\)"):
        Planner(world).predict(np.zeros((5, 3)))
    with pytest.raises(SpecError, match="support is not fitted"):
        Planner(World(LinearModel()))
