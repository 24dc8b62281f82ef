"""The compiled step against the tensor step, for every model and setting."""

import copy
import pickle

import numpy as np
import pytest
import torch
from small import BOX, DISCRETE, generator, random_batch, small_model, tiny_model

from worldmodel.models.registry import MODELS
from worldmodel.world import compiled, interpreter
from worldmodel.world.compiled import DIVERGED, OUTSIDE, REFUSED, TERMINATED, compile_step
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.env import LatentEnv
from worldmodel.world.stepping import TensorStep, TensorSteps, step_of, steps_of
from worldmodel.world.vector_env import LatentVectorEnv

SETTINGS = [
    {},
    {"gate": "switching", "mixing_hidden": 7, "latent_size": 1},
    {"gate": "factorial", "base_matrices": 6, "leak": 0.0},
    {"base_matrices": 5, "latent_size": 4, "head_hidden": 64},
    {"base_matrices": 1, "mixing_hidden": 1, "head_hidden": 1},
    {"noise_floor": 0.1},
    {"noise_floor": 0.1, "gate": "factorial", "bound": 0.7},
    {"bound": 0.5},
    {"transition": "mlp"},
    {"transition": "mlp", "noise_floor": 0.2, "bound": 0.9, "denoise": 0.2},
    {"denoise": 0.2, "bound": 0.6},
    {"latent_size": 20, "base_matrices": 33, "mixing_hidden": 50, "gate": "factorial"},
]


def prepared(model, terminates=True):
    """With scalings, a denoiser that moves states, and a support that holds many of them."""
    model.requires_grad_(False)
    model.calibrate(random_batch(actions=model.action_spec))
    g = generator(5)
    for name, parameter in model.named_parameters():
        if name.startswith("denoiser") or "log_sharpness" in name:
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=g))
    if model.denoiser is not None:
        model.dream_noise.fill_(0.7)
        model.denoiser.shift.fill_(0.2)
        model.denoiser.spread.fill_(0.8)
    model.termination_head.seen.fill_(terminates)
    states = 0.6 * torch.randn(2000, model.latent_size, generator=g)
    model.support.fit(states, states[:200])
    return model


def draws(model, n, seed=1):
    """States, actions in the environment's units (some beyond their bounds), and noise."""
    g, spec = generator(seed), model.action_spec
    state = 0.7 * torch.randn(n, model.latent_size, generator=g)
    if spec.kind == "discrete":
        action = torch.eye(spec.size)[torch.randint(spec.size, (n,), generator=g)]
    else:
        action = 2 * torch.randn(n, spec.size, generator=g)
    return state, action, torch.randn(n, model.noise_size, generator=g)


def clipped(model, action):
    return action.clamp(torch.tensor(model.action_spec.low), torch.tensor(model.action_spec.high))


def agree(model, n):
    """Assert that all steps, of many and of one, are the tensor step, with and without noise."""
    dynamics, box = Dynamics(model), latent_box(model)
    (steps, reason), (step, _) = steps_of(dynamics, box), step_of(dynamics, box)
    assert reason is True
    state, action, noise = draws(model, n)
    found = []
    for w in (noise, None):
        expected = dynamics.step(state, clipped(model, action), w)
        seen = np.clip(expected.next_state.numpy(), box.low, box.high)
        drawn = None if w is None else w.T.contiguous().numpy()
        arrays = steps(state.T.contiguous().numpy(), action.numpy(), drawn)
        close = dict(rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(arrays.states.T, expected.next_state, **close)
        np.testing.assert_allclose(arrays.observations, seen, **close)
        # At the very edge rounding decides, and with it the reward.
        clear = (model.support.distance(expected.next_state) - 1).abs().numpy() > 0.01
        assert clear.mean() > 0.8
        np.testing.assert_allclose(arrays.rewards[clear], expected.reward[clear], **close)
        np.testing.assert_array_equal(arrays.outside[clear], ~expected.inside.numpy()[clear])
        np.testing.assert_array_equal(arrays.terminated, expected.terminated.numpy())
        ends = OUTSIDE * arrays.outside + TERMINATED * arrays.terminated
        assert arrays.status == np.bitwise_or.reduce(ends)
        for i in clear.nonzero()[0][:4]:
            step.state[:], step.action[:] = state[i], action[i]
            if w is not None:
                step.noise[2] = w[i]
            reward, status = step(-1 if w is None else 2)
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


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"kalman"}))
def test_every_models_denoiser_is_compiled(name):
    agree(prepared(small_model(name, denoise=0.2)), 100)


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_every_setting_is_compiled_as_it_is(changes):
    for n in (2, 65, 300):
        agree(prepared(tiny_model(**({"leak": 0.3} | changes))), n)


def test_some_leave_the_support_and_some_end():
    model = prepared(tiny_model(leak=0.3))
    model.termination_head.logit[-1].bias.zero_()
    shares = agree(model, 1000)
    assert (shares > 0.01).all() and (shares < 0.99).all()


def test_without_ends_in_the_data_none_ends():
    shares = agree(prepared(tiny_model(), terminates=False), 100)
    assert not shares[:, 1].any()


@pytest.mark.parametrize("least", [-2.0, 0.5, -np.inf])
def test_rewards_are_those_of_the_one_rule(least):
    model = prepared(tiny_model(leak=0.3))
    model.reward_head.least.fill_(least)
    model.reward_head.greatest.fill_(np.inf if np.isinf(least) else 1.0)
    agree(model, 300)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("changes", [{}, {"bound": 0.5, "denoise": 0.2}], ids=str)
def test_divergence_shows(bad, changes):
    model = prepared(tiny_model(**changes))
    dynamics, box = Dynamics(model), latent_box(model)
    state, action, _ = draws(model, 300)
    states = state.T.contiguous().numpy()
    for steps in (steps_of(dynamics, box)[0], TensorSteps(dynamics, box)):
        assert not steps(states, action.numpy(), None).status & DIVERGED
        broken = states.copy()
        broken[1, 299] = bad
        arrays = steps(broken, clipped(model, action).numpy(), None)
        assert arrays.status & DIVERGED or np.isfinite(arrays.states).all()
        assert arrays.status & DIVERGED or np.isinf(bad)
        assert arrays.outside[299] or not arrays.status & DIVERGED
    for step in (step_of(dynamics, box)[0], TensorStep(dynamics, box)):
        step.state[:], step.state[1] = 0.1, bad
        before = step.state.copy()
        if step(-1)[1] & DIVERGED:
            np.testing.assert_array_equal(step.state, before)
        else:
            assert np.isinf(bad) and np.isfinite(step.state).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_actions_that_are_not_finite_are_refused(bad):
    model = prepared(tiny_model())
    state, action, _ = draws(model, 70)
    action[69, 1] = bad
    steps, _ = steps_of(Dynamics(model), latent_box(model))
    assert steps(state.T.contiguous().numpy(), action.numpy(), None).status & REFUSED
    step, _ = step_of(Dynamics(model), latent_box(model))
    step.state[:], step.action[:] = state[69], action[69]
    assert step(-1)[1] == REFUSED
    np.testing.assert_array_equal(step.state, state[69])


def test_a_step_leaves_its_inputs_and_what_it_gave_alone():
    model = prepared(tiny_model())
    state, action, noise = draws(model, 300)
    steps, _ = steps_of(Dynamics(model), latent_box(model))
    states, actions = state.T.contiguous().numpy(), action.numpy()
    drawn = noise.T.contiguous().numpy()
    before = states.copy(), actions.copy(), drawn.copy()
    first = steps(states, actions, drawn)
    kept = [np.copy(array) for array in first]
    steps(first.states, actions, None)
    for array, was in zip((states, actions, drawn, *first), (*before, *kept), strict=True):
        np.testing.assert_array_equal(array, was)


def test_training_on_does_not_reach_it():
    model = prepared(tiny_model())
    state, action, _ = draws(model, 20)
    steps, _ = steps_of(Dynamics(model), latent_box(model))
    inputs = state.T.contiguous().numpy(), action.numpy(), None
    before = steps(*inputs)
    for parameter in model.parameters():
        parameter.add_(1)
    after = steps(*inputs)
    np.testing.assert_array_equal(before.states, after.states)
    np.testing.assert_array_equal(before.rewards, after.rewards)


def reason(model) -> str:
    program = compile_step(model, latent_box(model))
    assert isinstance(program, str)
    return program


def test_the_reason_is_said(monkeypatch, model):
    assert "LinearModel offers no compiled form" in reason(model)
    assert "float64" in reason(prepared(tiny_model()).double())
    ours = prepared(tiny_model())
    assert LatentEnv.from_model(ours).compiled is True
    assert LatentVectorEnv.from_model(ours, 2).compiled is True
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: None)
    for env in (LatentEnv.from_model(ours), LatentVectorEnv.from_model(ours, 2)):
        assert env.compiled == "numba is not installed: pip install 'worldmodel[fast]'"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_of_an_environment_goes_its_own_way(copied):
    action = np.zeros(2, np.float32)
    for make in (LatentEnv.from_model, lambda model: LatentVectorEnv.from_model(model, 1)):
        env = make(prepared(tiny_model(), terminates=False))
        env.reset(seed=0)
        twin = copied(env)
        if isinstance(env, LatentVectorEnv):
            action = np.zeros((1, 2), np.float32)
        first = env.step(action)[0]
        np.testing.assert_array_equal(first, twin.step(action)[0])
        env.reset(seed=1)
        np.testing.assert_array_equal(env.reset(seed=0)[0], twin.reset(seed=0)[0])
        np.testing.assert_array_equal(env.step(action)[0], first)


def test_without_a_place_for_numbas_cache_it_does_without(monkeypatch):
    kept = []

    def njit(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        kept.append(options)
        return lambda function: function

    monkeypatch.setattr(interpreter, "njit", njit)
    assert interpreter._jit(lambda: 3)() == 3
    assert kept[0]["error_model"] == "numpy"


def test_double_precision_is_kept_by_tensors(monkeypatch):
    model = prepared(tiny_model()).double()
    env = LatentEnv.from_model(model, noise=False)
    state = 0.1 * np.arange(1, 4) + 1e-12
    env.reset(options={"state": state})
    np.testing.assert_array_equal(env.state, state)
    env.step(np.zeros(2, np.float32))
    expected = model.imagine(state[None], np.zeros((1, 1, 2)))[0, 1]
    np.testing.assert_allclose(env.state, expected, rtol=1e-12)


def test_the_same_dream_compiled_or_not(monkeypatch):
    model = prepared(tiny_model(), terminates=False)

    def dream():
        env = LatentEnv.from_model(model, truncate_outside=False)
        env.action_space.seed(0)
        seen = [env.reset(seed=3)[0]]
        seen += [env.step(env.action_space.sample())[0] for _ in range(20)]
        return np.stack(seen)

    fast = dream()
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: None)
    np.testing.assert_allclose(dream(), fast, rtol=1e-3, atol=1e-4)


def test_noise_outlasts_what_is_drawn_ahead():
    model = prepared(tiny_model(), terminates=False)
    env = LatentEnv.from_model(model, truncate_outside=False)
    env.reset(seed=0)
    action, kicks = np.zeros(2, np.float32), []
    for _ in range(2 * compiled.DRAWS + 3):
        env._step.state[:] = 0
        kicks.append(env.step(action)[0])
    assert len(np.unique(np.stack(kicks), axis=0)) == len(kicks)
