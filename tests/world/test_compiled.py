"""The compiled step against the tensor step, for every model and setting."""

import copy
import pickle

import numpy as np
import pytest
import torch
from small import BOX, DISCRETE, generator, random_batch, small_model, tiny_model

from agents.goals import reach
from worldmodel.models.registry import MODELS
from worldmodel.world import compiled
from worldmodel.world.compiled import compile_step
from worldmodel.world.denoiser import Denoiser, DenoiserConfig
from worldmodel.world.dynamics import Dynamics, Goal, SupportRule, latent_box
from worldmodel.world.env import LatentEnv
from worldmodel.world.status import DIVERGED, OUTSIDE, REFUSED, TERMINATED
from worldmodel.world.stepping import TensorStep, TensorSteps, step_of, steps_of
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World

SETTINGS = [
    {},
    {"transition": {"gate": "switching", "mixing_hidden": 7}, "latent_size": 1},
    {"transition": {"gate": "factorial", "base_matrices": 6, "leak": 0.0}},
    {"transition": {"base_matrices": 5}, "latent_size": 4, "head_hidden": 64},
    {"transition": {"base_matrices": 1, "mixing_hidden": 1}, "head_hidden": 1},
    {"transition": {"noise_floor": 0.1}},
    {"transition": {"noise_floor": 0.1, "gate": "factorial", "bound": 0.7}},
    {"transition": {"bound": 0.5}},
    {"transition": {"kind": "mlp"}},
    {"transition": {"kind": "mlp", "noise_floor": 0.2, "bound": 0.9}, "denoised": True},
    {"transition": {"bound": 0.6}, "denoised": True},
    {
        "transition": {"base_matrices": 33, "mixing_hidden": 50, "gate": "factorial"},
        "latent_size": 20,
    },
]


def prepared(model, terminates=True, denoised=False, distilled=0) -> World:
    """With scalings, perhaps a denoiser, and a support that holds many states."""
    model.requires_grad_(False)
    model.calibrate(random_batch(model.observation_spec, model.action_spec))
    g = generator(5)
    for name, parameter in model.named_parameters():
        if "log_sharpness" in name:
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=g))
    model.termination_head.seen.fill_(terminates)
    world = World(model)
    if denoised:
        world = World(model, denoiser=mover(model.latent_size, g, distilled), dream_noise=0.7)
    states = 0.6 * torch.randn(2000, model.latent_size, generator=g)
    world.support.fit(states, states[:200])
    return world


def mover(size: int, g: torch.Generator, distilled: int) -> Denoiser:
    """Moves states somewhere, some of them further than predictions from data would be."""
    denoiser = Denoiser(size, DenoiserConfig(hidden=8, distilled=distilled))
    for parameter in denoiser.parameters():
        parameter.copy_(0.5 * torch.randn(parameter.shape, generator=g))
    denoiser.mean.fill_(0.2)
    denoiser.std.fill_(0.8)
    denoiser.calibrate(torch.randn(200, size, generator=g), quantile=0.8)
    return denoiser


def tiny_world(denoised=False, terminates=True, transition=None, **changes) -> World:
    transition = {"leak": 0.3} | (transition or {})
    return prepared(tiny_model(transition=transition, **changes), terminates, denoised)


def draws(world, n, seed=1):
    """States, actions in the environment's units (some beyond their bounds), and random numbers."""
    model = world.model
    g, spec = generator(seed), model.action_spec
    state = 0.7 * torch.randn(n, model.latent_size, generator=g)
    if spec.kind == "discrete":
        action = torch.eye(spec.size)[torch.randint(spec.size, (n,), generator=g)]
    else:
        action = 2 * torch.randn(n, spec.size, generator=g)
    noise = torch.randn(n, model.noise_size, generator=g)
    ends = Dynamics(world).draw(1, n, g)[0, model.noise_size :].T
    return state, action, torch.cat([noise, ends], 1)


def clipped(world, action):
    spec = world.model.action_spec
    return action.clamp(torch.tensor(spec.low), torch.tensor(spec.high))


def agree(world, n, rule=SupportRule(), goal=None):  # noqa: B008 (frozen)
    """Assert that all steps, of many and of one, are the tensor step, with and without noise."""
    dynamics, box = Dynamics(world, rule, goal), latent_box(world)
    (steps, reason), (step, _) = steps_of(dynamics, box), step_of(dynamics, box)
    assert reason is True
    state, action, noise = draws(world, n)
    found = []
    for w in (noise, None):
        expected = dynamics.step(state, clipped(world, action), w)
        seen = np.clip(expected.next_state.numpy(), box.low, box.high)
        drawn = None if w is None else w.T.contiguous().numpy()
        arrays = steps(state.T.contiguous().numpy(), action.numpy(), drawn)
        close = dict(rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(arrays.states.T, expected.next_state, **close)
        np.testing.assert_allclose(arrays.observations, seen, **close)
        # At the very edge rounding decides, and with it the reward.
        edges = (expected.distance - 1).abs(), (expected.distance - rule.radius).abs()
        clear = torch.minimum(*edges).numpy() > 0.01
        assert clear.mean() > 0.8
        np.testing.assert_allclose(arrays.rewards[clear], expected.reward[clear], **close)
        np.testing.assert_array_equal(arrays.outside[clear], ~expected.inside.numpy()[clear])
        np.testing.assert_array_equal(arrays.terminated, expected.terminated.numpy())
        ends = OUTSIDE * arrays.outside + TERMINATED * arrays.terminated
        assert arrays.status == np.bitwise_or.reduce(ends)
        for i in clear.nonzero()[0][:4]:
            step.state[:] = state[i]
            if w is not None:
                step.noise[2] = w[i]
            reward, status = step.run(action[i].numpy(), -1 if w is None else 2)
            np.testing.assert_allclose(step.state, expected.next_state[i], **close)
            np.testing.assert_allclose(step.observation, seen[i], **close)
            assert reward == pytest.approx(expected.reward[i].item(), rel=2e-4, abs=2e-5)
            assert status == ends[i]
        found.append((arrays.outside.mean(), arrays.terminated.mean()))
    return np.array(found)


@pytest.mark.parametrize("actions", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("n", [1, 3, 64, 1000])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_compiled_as_it_is(name, n, actions):
    agree(prepared(small_model(name, actions=actions)), n)


def test_what_cannot_be_compiled_says_why_and_steps_all_the_same():
    world = prepared(small_model("rssm", stochastic="categorical"))
    env = LatentEnv(world)
    assert env.compiled == "categorical latents have no compiled form"
    env.reset(seed=0)
    state, *_ = env.step(env.action_space.sample())
    assert env.observation_space.contains(state)


@pytest.mark.parametrize("distilled", [0, 8])
@pytest.mark.parametrize("name", MODELS)
def test_every_models_denoiser_is_compiled(name, distilled):
    agree(prepared(small_model(name), denoised=True, distilled=distilled), 100)


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_every_setting_is_compiled_as_it_is(changes):
    for n in (2, 65, 300):
        agree(tiny_world(**changes), n)


def test_some_leave_the_support_and_some_end():
    world = tiny_world()
    world.model.termination_head.logit[-1].bias.zero_()
    shares = agree(world, 1000)
    assert (shares > 0.01).all() and (shares < 0.99).all()


def test_without_ends_in_the_data_none_ends():
    shares = agree(tiny_world(terminates=False), 100)
    assert not shares[:, 1].any()


@pytest.mark.parametrize("least", [-2.0, 0.5, -np.inf])
def test_rewards_are_those_of_the_one_rule(least):
    world = tiny_world()
    world.model.reward_head.min.fill_(least)
    world.model.reward_head.max.fill_(np.inf if np.isinf(least) else 1.0)
    agree(world, 300)


@pytest.mark.parametrize("denoised", [False, True])
@pytest.mark.parametrize(
    "rule", [SupportRule(0.3, 1.5), SupportRule(2.0, 1.2), SupportRule(0.0, 1.3)]
)
def test_every_rule_of_the_support_is_compiled(rule, denoised):
    agree(tiny_world(denoised=denoised), 300, rule)


def test_a_goal_is_paid_compiled_or_not_at_all():
    world = tiny_world()
    wanted = reach(world, np.zeros(3, np.float32))
    agree(world, 300, SupportRule(0.3, 1.5), wanted)
    silent = Goal(wanted.reward, wanted.minimum, wanted.maximum)
    _, reason = steps_of(Dynamics(world, goal=silent), latent_box(world))
    assert "goal" in str(reason)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("changes", [{}, {"transition": {"bound": 0.5}, "denoised": True}], ids=str)
def test_divergence_shows(bad, changes):
    world = tiny_world(**changes)
    dynamics, box = Dynamics(world), latent_box(world)
    state, action, _ = draws(world, 300)
    states = state.T.contiguous().numpy()
    for steps in (steps_of(dynamics, box)[0], TensorSteps(dynamics, box)):
        assert not steps(states, action.numpy(), None).status & DIVERGED
        broken = states.copy()
        broken[1, 299] = bad
        arrays = steps(broken, clipped(world, action).numpy(), None)
        assert arrays.status & DIVERGED or np.isfinite(arrays.states).all()
        assert arrays.status & DIVERGED or np.isinf(bad)
        assert arrays.outside[299] or not arrays.status & DIVERGED
    for step in (step_of(dynamics, box)[0], TensorStep(dynamics, box)):
        step.state[:], step.state[1] = 0.1, bad
        before = step.state.copy()
        if step.run(np.zeros(2, np.float32), -1)[1] & DIVERGED:
            np.testing.assert_array_equal(step.state, before)
        else:
            assert np.isinf(bad) and np.isfinite(step.state).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_actions_that_are_not_finite_are_refused(bad):
    world = tiny_world()
    state, action, _ = draws(world, 70)
    action[69, 1] = bad
    steps, _ = steps_of(Dynamics(world), latent_box(world))
    assert steps(state.T.contiguous().numpy(), action.numpy(), None).status & REFUSED
    step, _ = step_of(Dynamics(world), latent_box(world))
    step.state[:] = state[69]
    assert step.run(action[69].numpy(), -1)[1] == REFUSED
    np.testing.assert_array_equal(step.state, state[69])


def test_a_step_leaves_its_inputs_and_what_it_gave_alone():
    world = tiny_world()
    state, action, noise = draws(world, 300)
    steps, _ = steps_of(Dynamics(world), latent_box(world))
    states, actions = state.T.contiguous().numpy(), action.numpy()
    drawn = noise.T.contiguous().numpy()
    before = states.copy(), actions.copy(), drawn.copy()
    first = steps(states, actions, drawn)
    kept = [np.copy(array) for array in first]
    steps(first.states, actions, None)
    for array, was in zip((states, actions, drawn, *first), (*before, *kept), strict=True):
        np.testing.assert_array_equal(array, was)


def test_training_on_does_not_reach_it():
    world = tiny_world()
    state, action, _ = draws(world, 20)
    steps, _ = steps_of(Dynamics(world), latent_box(world))
    inputs = state.T.contiguous().numpy(), action.numpy(), None
    before = steps(*inputs)
    for parameter in world.model.parameters():
        parameter.add_(1)
    after = steps(*inputs)
    np.testing.assert_array_equal(before.states, after.states)
    np.testing.assert_array_equal(before.rewards, after.rewards)


def reason(world) -> str:
    program = compile_step(Dynamics(world), latent_box(world))
    assert isinstance(program, str)
    return program


def test_the_reason_is_said(monkeypatch, world):
    assert "LinearModel offers no compiled form" in reason(world)
    wide = tiny_world()
    assert "float64" in reason(World(wide.model.double(), wide.support))
    ours = tiny_world()
    assert LatentEnv(ours).compiled is True
    assert LatentVectorEnv(ours, 2).compiled is True
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: None)
    for env in (LatentEnv(ours), LatentVectorEnv(ours, 2)):
        assert env.compiled == "numba is not installed: pip install 'worldmodel[fast]'"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_of_an_environment_goes_its_own_way(copied):
    action = np.zeros(2, np.float32)
    for make in (LatentEnv, LatentVectorEnv):
        env = make(tiny_world(terminates=False))
        env.reset(seed=0)
        twin = copied(env)
        if isinstance(env, LatentVectorEnv):
            action = np.zeros((1, 2), np.float32)
        first = env.step(action)[0]
        np.testing.assert_array_equal(first, twin.step(action)[0])
        env.reset(seed=1)
        np.testing.assert_array_equal(env.reset(seed=0)[0], twin.reset(seed=0)[0])
        np.testing.assert_array_equal(env.step(action)[0], first)


def test_double_precision_is_kept_by_tensors(monkeypatch):
    world = tiny_world()
    world = World(world.model.double(), world.support)
    env = LatentEnv(world, noise=False)
    state = 0.1 * np.arange(1, 4) + 1e-12
    env.reset(options={"state": state})
    np.testing.assert_array_equal(env.state, state)
    env.step(np.zeros(2, np.float32))
    expected = world.imagine(state[None], np.zeros((1, 1, 2)))[0, 1]
    np.testing.assert_allclose(env.state, expected, rtol=1e-12)


def test_the_same_dream_compiled_or_not(monkeypatch):
    world = tiny_world(terminates=False)

    def dream():
        env = LatentEnv(world, truncate_outside=False)
        env.action_space.seed(0)
        seen = [env.reset(seed=3)[0]]
        seen += [env.step(env.action_space.sample())[0] for _ in range(20)]
        return np.stack(seen)

    fast = dream()
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: None)
    np.testing.assert_allclose(dream(), fast, rtol=1e-3, atol=1e-4)


def test_actions_that_cannot_be_written_to_compile_nothing_anew():
    from worldmodel.world import interpreter

    env, envs = LatentEnv(tiny_world()), LatentVectorEnv(tiny_world(), 2)
    one, many = np.zeros(2, np.float32), np.zeros((2, 2), np.float32)
    known = len(interpreter.step_one.signatures), len(interpreter.step_many.signatures)
    for action in (one, many):
        action.flags.writeable = False
    env.reset(seed=0)
    envs.reset(seed=0)
    env.step(one)
    envs.step(many)
    assert known == (len(interpreter.step_one.signatures), len(interpreter.step_many.signatures))


def test_noise_outlasts_what_is_drawn_ahead():
    world = tiny_world(terminates=False)
    env = LatentEnv(world, truncate_outside=False)
    env.reset(seed=0)
    action, kicks = np.zeros(2, np.float32), []
    for _ in range(2 * compiled.DRAWS + 3):
        env._step.state[:] = 0
        kicks.append(env.step(action)[0])
    assert len(np.unique(np.stack(kicks), axis=0)) == len(kicks)
