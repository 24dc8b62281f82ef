import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from small import PIXELS, SEVERAL, VECTOR, generator, random_batch, tiny_model, with_fields
from test_compiled import clipped, draws, prepared
from test_vector_env import reset_each, same

from worldmodel import load
from worldmodel.errors import ConfigError, SpecError
from worldmodel.world.calibration import (
    _correct,
    calibrate,
    conformal,
    new_trust,
    rollouts,
    stream_variance,
)
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.env import LatentEnv
from worldmodel.world.stepping import TensorSteps, step_of, steps_of
from worldmodel.world.trust import TrustConfig
from worldmodel.world.vector_env import LatentVectorEnv


def trusting(world, horizon=3):
    """The same world with bounds of random weights."""
    trust, g = new_trust(world, horizon, TrustConfig(memory=5, hidden=9)), generator(2)
    for value in trust.state_dict().values():
        value.copy_(0.3 * torch.randn(value.shape, generator=g))
    trust.std.abs_().add_(0.5)
    trust.start.abs_()
    trust.unknown.zero_()
    world.trust = trust
    return world


@pytest.mark.parametrize("observations", [VECTOR, SEVERAL], ids=["one stream", "several"])
@pytest.mark.parametrize("denoised", [False, True])
def test_bounds_are_compiled_as_they_are(observations, denoised):
    world = trusting(prepared(tiny_model(observations), denoised=denoised))
    dynamics, box, n = Dynamics(world), latent_box(world), 70
    many, ok = steps_of(dynamics, box, True)
    assert ok is True
    one, _ = step_of(dynamics, box, True)
    tensors = TensorSteps(dynamics, box, True)
    state, action, noise = draws(world, n)
    action = clipped(world, action).numpy()
    for w in (noise, None):
        memory = world.trust.begin(n).T.contiguous().numpy()
        states = state.T.contiguous().numpy()
        one.state[:], one.memory[:] = states[:, 3], memory[:, 3]
        for t in range(5):
            drawn = None if w is None else w.T.contiguous()
            expected = tensors(states, action, drawn, memory)
            found = many(states, action, None if w is None else drawn.numpy(), memory)
            np.testing.assert_allclose(found.memory, expected.memory, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(found.bounds, expected.bounds, rtol=2e-3)
            # Beyond the horizon nobody knows.
            assert np.isinf(found.bounds).all() == (t >= 3) == np.isinf(found.bounds).any()
            if w is not None:
                one.noise[0] = w[3]
            one.run(action[3], -1 if w is None else 0)
            np.testing.assert_allclose(one.bounds, expected.bounds[:, 3], rtol=2e-3)
            states, memory = expected.states.copy(), expected.memory.copy()


def test_corrections_are_what_they_are_at_the_knots_and_on_lines_between():
    trust = new_trust(prepared(tiny_model()), 8, TrustConfig())
    assert trust.knots == (1, 2, 3, 5, 8)
    values = torch.tensor([0.3, -0.1, 0.5, 0.9, 0.0])
    trust.read[-1].weight.zero_()
    trust.read[-1].bias.zero_()
    edges = [1, 2, 3, 4, 7, 9]
    errors = torch.ones(40, 8, 2)
    for value, a, b in zip(values, edges, edges[1:], strict=False):
        errors[:, a - 1 : b - 1] = value.exp()
    _correct(trust, torch.zeros(40, 8, len(trust.mean)), errors, torch.arange(40), 0)
    found = trust.corrections(torch.arange(1.0, 9.0))[0, :, 0]
    expected = np.interp(np.arange(1, 9), trust.knots, values)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_conformal_quantile_counts_the_score_to_come():
    scores = torch.arange(1.0, 20.0).unsqueeze(1)  # 19: of 20 with the next, 18 are 90 %
    each = torch.arange(19)
    assert conformal(scores, 0.9, each).item() == 18
    missing = torch.cat([scores, torch.full((5, 1), torch.nan)])
    assert conformal(missing, 0.9, torch.arange(24)).item() == 18
    assert conformal(scores[:3], 0.9, each[:3]).item() == 3


def test_many_scores_of_few_episodes_are_few():
    scores = torch.arange(1.0, 101.0).unsqueeze(1)
    assert conformal(scores, 0.8, torch.arange(100)).item() == 81
    assert conformal(scores, 0.8, torch.arange(10).repeat(10)).item() == 88
    assert conformal(scores, 0.8, torch.arange(4).repeat(25)).item() == 100


@pytest.mark.parametrize("observations", [VECTOR, PIXELS, SEVERAL], ids=["vector", "pixels", "all"])
def test_bounds_hold_in_as_many_dreams_as_they_say(observations):
    world = prepared(tiny_model(observations))
    config = TrustConfig(coverage=0.8, looks=2, updates=30)
    calibrate(world, random_batch(observations, size=400, steps=6, seed=1), config)
    fresh = random_batch(observations, size=1500, steps=6, seed=2)
    for noisy in (False, True):
        dreams = rollouts(world, fresh, config, noisy, world.trust.variance)
        assert dreams.errors.shape[1] == world.trust.horizon == 5
        held = (dreams.errors <= dreams.bounds(world.trust)).double().mean(0)
        # 0.8 but for chance: of 200 that correct, 0.03, more where two knots share a correction.
        assert (held - 0.8).abs().max() < 0.13, held
        assert (held.mean(0) - 0.8).abs().max() < 0.06, held


def test_errors_are_fractions_of_each_streams_variance():
    world, batch = prepared(tiny_model(SEVERAL)), random_batch(SEVERAL, size=30, steps=4)
    joints = batch.observations["joints"].flatten(0, 1)
    world.model.calibrate(batch)
    found = rollouts(world, batch, TrustConfig(looks=1), variance=stream_variance(world, batch))
    states = world.rollout(
        world.model.filter_beliefs(batch.observations, batch.actions, 1).mean[:, 0], batch.actions
    )
    shown = world.decode(states[:, 2].numpy())["joints"]
    error = (shown - batch.observations["joints"][:, 2].numpy()) ** 2
    # Components are scaled alike, and count alike.
    share = (error / joints.var(0).numpy()).mean(-1)
    place = 2 + SEVERAL.names.index("joints")
    np.testing.assert_allclose(found.errors[:, 1, place], share, rtol=0.02)
    assert torch.equal(found.errors[..., 0], found.errors[..., 2:].amax(-1))


def test_a_checkpoint_keeps_its_bounds(tmp_path):
    world = trusting(prepared(tiny_model()))
    world.save(tmp_path / "kept")
    again = load(tmp_path / "kept")
    state, action, noise = draws(world, 4)
    given = world.trust.begin(4), state, action, noise, state, torch.ones(4)
    assert torch.equal(world.trust(*given)[1], again.trust(*given)[1])
    config = json.loads((tmp_path / "kept" / "config.json").read_text())
    del config["trust"]  # as releases before wrote it
    (tmp_path / "kept" / "config.json").write_text(json.dumps(config))
    assert load(tmp_path / "kept").trust is None


def test_a_world_without_bounds_says_that_they_are_infinite(world):
    single, many = LatentEnv(world), LatentVectorEnv(world, num_envs=3)
    for info in (single.reset(seed=0)[1], single.step(single.action_space.sample())[4]):
        assert info["error_bound"] == info["reward_bound"] == np.inf
    for info in (many.reset(seed=0)[1], many.step(many.action_space.sample())[4]):
        assert np.isinf(info["error_bound"]).all() and info["_error_bound"].all()


@pytest.fixture
def pair(linear):
    """Many dreams at once, and Gymnasium's loop over single ones; they agree without noise."""

    def make(mode, rule):
        world = trusting(linear(alike=True), 4)
        kwargs = {"noise": False, "truncate_outside": rule}
        native = LatentVectorEnv(world, 4, 6, mode, **kwargs)

        def single():
            return gym.wrappers.TimeLimit(LatentEnv(world, **kwargs), 6)

        return native, SyncVectorEnv([single] * 4, autoreset_mode=mode)

    return make


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("rule", [True, False, 0.8, "bound"])
def test_bounds_of_many_are_those_of_single_dreams_through_resets(pair, mode, rule):
    native, loop = pair(mode, rule)
    reset_each(native, loop)
    for t in range(15):
        actions = np.full((4, 1), 0.3, np.float32)
        found, expected = native.step(actions), loop.step(actions)
        for a, b in zip(found[:4], expected[:4], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=str(t))
        same(found[4], expected[4])
        done = found[2] | found[3]
        if mode is AutoresetMode.DISABLED and done.any():
            a = native.reset(options={"reset_mask": done})[1]
            same(a, loop.reset(options={"reset_mask": done})[1])


@pytest.mark.parametrize("rule", ["never", 0, -1.0, np.nan, None, "0.1"])
def test_a_rule_that_is_none_is_refused(world, rule):
    with pytest.raises(SpecError, match=r"truncate_outside must be .* got"):
        LatentEnv(world, truncate_outside=rule)


def test_a_rule_of_bounds_needs_bounds(world):
    for rule in (0.2, "bound"):
        with pytest.raises(SpecError, match="the model has none"):
            LatentVectorEnv(world, 2, truncate_outside=rule)


def test_too_few_episodes_are_refused():
    with pytest.raises(SpecError, match="90% of dreams need 40 held-out episodes or more, got 12"):
        calibrate(prepared(tiny_model()), random_batch(size=12))


@pytest.mark.parametrize("changes", [{"coverage": 1.0}, {"coverage": 0.2}, {"looks": 0}])
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        TrustConfig(**changes)


def test_bounds_of_a_rollout_are_those_of_the_environment():
    world = trusting(prepared(tiny_model()), 4)
    env = LatentEnv(world, noise=False, truncate_outside=False)
    start = 0.1 * np.ones(world.model.latent_size, np.float32)
    infos = [env.reset(options={"state": start})[1]]
    actions = np.float32([env.action_space.sample() for _ in range(6)])
    for action in actions:
        infos.append(env.step(action)[4])
    dream = world.dream(start[np.newaxis], actions[np.newaxis])
    assert dream.states.shape[:2] == dream.error_bound.shape == (1, 7)
    for name in ("error_bound", "reward_bound"):
        found = [info[name] for info in infos]
        np.testing.assert_allclose(getattr(dream, name)[0], found, rtol=1e-3)
    assert np.isinf(dream.error_bound[0, 5:]).all()


def test_bounds_of_a_noisy_rollout_are_of_its_own_noise():
    world = trusting(prepared(tiny_model()), 4)
    start, actions = np.zeros((3, world.model.latent_size), np.float32), np.zeros((3, 4, 2))
    dream, other = (world.dream(start, actions, seed) for seed in (1, 2))
    np.testing.assert_array_equal(dream.states, world.imagine(start, actions, 1))
    again = world.dream(start, actions, 1)
    np.testing.assert_array_equal(dream.error_bound, again.error_bound)
    assert (dream.error_bound[:, 1:] != other.error_bound[:, 1:]).all()


def test_short_episodes_are_dreamt_along_as_far_as_they_go():
    world, batch = prepared(tiny_model()), random_batch(size=90, steps=6)
    lengths = torch.tensor([1, 4, 6]).repeat(30)
    mask = torch.arange(6) < lengths.unsqueeze(1)
    found = rollouts(world, with_fields(batch, mask=mask), TrustConfig(looks=2))
    # Of the median episode half is filtered, and of one step nothing is left.
    assert set(lengths[found.episodes].tolist()) == {4, 6}
    known = (~found.errors[..., 0].isnan()).sum(1)
    assert torch.equal(known, lengths[found.episodes] - found.begun)
    assert set(found.begun.tolist()) == {1, 2, 3, 4, 5}, "from every other place of the shorter"
    first = found.first()
    assert first.episodes.tolist() == torch.nonzero(lengths > 1).squeeze(1).tolist()
    assert (first.begun == 1).all() and len(first.errors) == 60 and not first.noisy


def test_bounds_hold_wherever_in_an_episode_a_dream_begins():
    config = TrustConfig(coverage=0.8, updates=100)

    def falling(size, seed):
        """Episodes of unlike lengths, whose frames are the wilder the later."""
        batch = random_batch(size=size, steps=8, seed=seed)
        wilder = batch.observations * torch.arange(1, 10).view(1, -1, 1)
        lengths = torch.randint(2, 9, (size, 1), generator=torch.Generator().manual_seed(seed))
        return with_fields(batch, observations=wilder, mask=torch.arange(8) < lengths)

    world = prepared(tiny_model())
    calibrate(world, falling(600, 1), config)
    dreams = rollouts(world, falling(600, 2), config, variance=world.trust.variance)
    held = (dreams.errors <= dreams.bounds(world.trust))[:, 0, 0]
    # 0.5 if all that it is fitted to began at the second frame.
    assert abs(held.double().mean() - 0.8) < 0.06
