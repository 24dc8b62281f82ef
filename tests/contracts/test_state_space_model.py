"""Every model keeps the contract of ``worldmodel/models/ssm.py``, whatever it is made of."""

import itertools

import numpy as np
import pytest
import torch
from small import BOX, DISCRETE, PIXELS, VECTOR, generator, random_batch, small_model

from worldmodel.errors import ShapeError
from worldmodel.models.registry import MODELS, fitting
from worldmodel.types import Belief
from worldmodel.world.world import World

# Every registered model as it is by default, and variants that have parts of their own.
VARIANTS = {name: (name, {}) for name in MODELS} | {
    "dvbf-mlp": ("dvbf", {"transition": "mlp"}),
    "dvbf-fusion": ("dvbf", {"recognition": "fusion"}),
}
OBSERVATIONS = {"pixels": PIXELS, "vector": VECTOR}
ACTIONS = {"box": BOX, "discrete": DISCRETE}
CASES = [
    case
    for case in itertools.product(VARIANTS, OBSERVATIONS, ACTIONS)
    if VARIANTS[case[0]][0] in fitting(OBSERVATIONS[case[1]])
]
SIZE, STEPS = 4, 5


def make(params, **seed):
    name, changes = VARIANTS[params[0]]
    specs = OBSERVATIONS[params[1]], ACTIONS[params[2]]
    return small_model(name, *specs, **seed, **changes)


@pytest.fixture(params=CASES, ids="-".join)
def case(request):
    model = make(request.param)
    batch = random_batch(model.observation_spec, model.action_spec, size=SIZE, steps=STEPS)
    model.calibrate(batch)
    return model, batch


def states_of(model, n=SIZE, seed=0):
    with torch.no_grad():
        return model.initial_prior(n, generator(seed))


def test_beliefs_have_a_mean_and_a_positive_scale_from_one_frame_on(case):
    model, batch = case
    for frames in (1, 2, STEPS + 1):
        belief = model.initial(batch.observations[:, :frames], batch.actions[:, : frames - 1])
        for value in (belief.mean, belief.scale):
            assert value.shape == (SIZE, model.latent_size) and torch.isfinite(value).all()
        assert (belief.scale > 0).all()
    after = model.update(belief, batch.actions[:, 0], batch.observations[:, 1])
    assert after.mean.shape == after.scale.shape == (SIZE, model.latent_size)
    assert (after.scale > 0).all()


def test_updates_depend_on_belief_action_and_frame(case):
    model, batch = case
    belief = model.initial(batch.observations[:, :1], batch.actions[:, :0])
    action, frame = batch.actions[:, 0], batch.observations[:, 1]
    after = model.update(belief, action, frame).mean
    moved = Belief(belief.mean + 1, belief.scale)
    other = torch.roll(action, 1, 0) if model.action_spec.kind == "discrete" else action + 0.5
    assert (model.update(moved, action, frame).mean - after).abs().max() > 1e-3
    assert (model.update(belief, other, frame).mean - after).abs().max() > 1e-6
    assert (model.update(belief, action, batch.observations[:, 3]).mean - after).abs().max() > 1e-6


def test_sequences_of_a_batch_do_not_see_each_other(case):
    model, batch = case
    whole = model.filter_beliefs(batch.observations, batch.actions, prefix=3)
    for i in range(SIZE):
        alone = model.filter_beliefs(
            batch.observations[i : i + 1], batch.actions[i : i + 1], prefix=3
        )
        torch.testing.assert_close(alone.mean[0], whole.mean[i], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone.scale[0], whole.scale[i], atol=1e-5, rtol=1e-4)


def test_the_prior_repeats_under_its_generator_and_varies(case):
    model, _ = case
    states = states_of(model, 50)
    assert states.shape == (50, model.latent_size)
    assert torch.equal(states, states_of(model, 50))
    assert not torch.equal(states, states_of(model, 50, seed=1))
    assert (states.std(0) > 0).all()


@pytest.mark.parametrize("params", CASES, ids="-".join)
def test_the_same_seed_makes_the_same_model_and_leaves_the_global_one_alone(params):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (make(params, seed=seed) for seed in (3, 3, 4))
    batch = random_batch(first.observation_spec, first.action_spec, size=SIZE, steps=STEPS)
    first.terms(batch, generator())
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.parameters(), second.parameters(), other.parameters(), strict=True)
    same, different = zip(
        *((torch.equal(a, b), torch.equal(a, c)) for a, b, c in pairs), strict=True
    )
    assert all(same) and not all(different)


def test_no_noise_is_the_noise_prior_mean_and_nothing_is_drawn(case):
    model, batch = case
    state, action = states_of(model), batch.actions[:, 0]
    before = torch.get_rng_state()
    still = model.transition(state, action)
    assert still.shape == state.shape
    assert torch.equal(still, model.transition(state, action))
    zero = torch.zeros(SIZE, model.noise_size)
    assert torch.equal(still, model.transition(state, action, zero))
    assert not torch.equal(still, model.transition(state, action, zero + 1))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_transition_and_its_reward_are_differentiable_in_all_they_depend_on(case):
    model, batch = case
    state, noise = states_of(model), torch.zeros(SIZE, model.noise_size)
    inputs = [v.clone().requires_grad_() for v in (state, batch.actions[:, 0], noise)]
    after = model.transition(*inputs)
    for gradient in torch.autograd.grad(after.square().sum(), inputs):
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    after = model.transition(*inputs)
    reward = model.reward(inputs[0], inputs[1], after)
    for gradient in torch.autograd.grad(reward.sum(), inputs):
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_the_transitions_gradient_agrees_with_finite_differences(case):
    model, batch = case
    model.double()
    state = states_of(model)[:2]
    action, noise = batch.actions[:2, 0].double(), torch.zeros(2, model.noise_size).double()
    inputs = [v.requires_grad_() for v in (state, action, noise)]
    assert torch.autograd.gradcheck(model.transition, inputs)


def test_a_rollout_is_the_transition_repeated(case):
    model, batch = case
    state = states_of(model)
    world = World(model)
    rollout = world.rollout(state, batch.actions)
    assert rollout.shape == (SIZE, STEPS + 1, model.latent_size)
    noisy = world.rollout(state, batch.actions, generator())
    assert torch.equal(noisy, world.rollout(state, batch.actions, generator()))
    assert not torch.equal(noisy, rollout)
    with torch.no_grad():
        for t in range(STEPS):
            assert torch.equal(rollout[:, t], state)
            state = model.transition(state, batch.actions[:, t])
    assert torch.equal(rollout[:, STEPS], state)


def test_emission_reward_and_termination_take_any_leading_shape(case):
    model, batch = case
    z = World(model).rollout(states_of(model), batch.actions)
    emission, alone = model.emit(z), model.emit(z[:, 0])
    assert emission.mean.shape == (SIZE, STEPS + 1, model.observation_spec.size)
    assert (emission.stddev > 0).all()
    torch.testing.assert_close(emission.mean[:, 0], alone.mean, atol=1e-5, rtol=1e-4)
    reward = model.reward(z[:, :-1], batch.actions, z[:, 1:])
    assert reward.shape == (SIZE, STEPS)
    alone = model.reward(z[:, 0], batch.actions[:, 0], z[:, 1])
    torch.testing.assert_close(alone, reward[:, 0], atol=1e-5, rtol=1e-4)
    assert model.termination(z[:, 1:]).shape == (SIZE, STEPS)


def test_scaling_is_undone_exactly(case):
    model, batch = case
    scaled = model.scale_observations(batch.observations)
    assert scaled.shape == (SIZE, STEPS + 1, model.observation_spec.size)
    restored = model.unscale_observations(scaled)
    assert restored.dtype == model.observation_spec.dtype
    if model.observation_spec.pixels:
        assert scaled.min() >= 0 and scaled.max() <= 1
        assert torch.equal(restored, batch.observations)
        wild = model.unscale_observations(scaled * 4 - 2)
        assert wild.min() == 0 and wild.max() == 255
    else:
        torch.testing.assert_close(restored, batch.observations)


def test_every_term_has_a_value_per_frame_or_per_step(case):
    model, batch = case
    terms = model.terms(batch, generator())
    frames, steps = (SIZE, STEPS + 1), (SIZE, STEPS)
    assert terms.states.shape == (*frames, model.latent_size)
    for name in ("distortion", "reconstruction", "calibration", "rate", "entropy"):
        value = getattr(terms, name)
        assert value.shape == frames and torch.isfinite(value).all(), name
    for name in ("reward", "termination"):
        value = getattr(terms, name)
        assert value.shape == steps and torch.isfinite(value).all(), name
    assert (terms.rate >= 0).all() and (terms.distortion >= 0).all()
    assert torch.equal(terms.states, model.terms(batch, generator()).states)
    # A first frame may be context alone.
    assert terms.observed[:, 1:].all() and terms.frame_mask[:, 1:].all()


def test_recorded_ranges_are_known_after_calibration(case):
    model, batch = case
    least, greatest = model.reward_range
    assert least == batch.rewards.min() and greatest == batch.rewards.max()
    assert model.can_terminate


def test_the_model_follows_its_parameters_into_64_bits(case):
    model, batch = case
    narrow = model.filter_beliefs(batch.observations, batch.actions).mean
    world = World(model.double())
    assert states_of(model).dtype == torch.float64
    assert model.terms(batch, generator()).states.dtype == torch.float64
    wide = world.filter(batch.observations.numpy(), batch.actions.numpy())
    assert wide.dtype == np.float64
    np.testing.assert_allclose(wide, narrow, atol=1e-4)
    dream = world.imagine(wide[:, 0], batch.actions.numpy(), seed=1)
    assert dream.dtype == np.float64


def test_numpy_in_numpy_out(case):
    model, batch = case
    world = World(model)
    frames, actions = batch.observations.numpy(), batch.actions.numpy()
    latents = world.filter(frames, actions)
    assert isinstance(latents, np.ndarray)
    assert latents.shape == (SIZE, STEPS + 1, model.latent_size)
    cold = model.initial(batch.observations[:, :1], batch.actions[:, :0])
    np.testing.assert_allclose(latents[:, 0], cold.mean.detach(), atol=1e-6)
    whole = world.filter(frames, actions, prefix=STEPS + 1)
    assert not np.array_equal(whole[:, 0], latents[:, 0])
    dream = world.imagine(latents[:, 0], actions)
    assert dream.shape == latents.shape
    np.testing.assert_array_equal(dream[:, 0], latents[:, 0])
    noisy = [world.imagine(latents[:, 0], actions, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(noisy[0], noisy[1]) and not np.array_equal(noisy[0], noisy[2])
    decoded = world.decode(latents)
    assert decoded.shape == frames.shape and decoded.dtype == frames.dtype
    assert world.decode(latents[0, 0]).shape == model.observation_spec.shape


def test_a_filter_needs_frames_and_no_steps(case):
    model, batch = case
    one = World(model).filter(batch.observations[:, :1].numpy(), batch.actions[:, :0].numpy())
    assert one.shape == (SIZE, 1, model.latent_size)


def test_arrays_that_do_not_fit_are_refused(case):
    model, batch = case
    world = World(model)
    frames, actions = batch.observations.numpy(), batch.actions.numpy()
    wrong_dtype = frames.astype(np.float32) if frames.dtype == np.uint8 else frames.astype(np.uint8)
    for bad in (
        (wrong_dtype, actions),
        (frames[..., :-1], actions),
        (frames[:, :, None], actions),
        (frames[:, :-1], actions),
        (frames, actions[..., :-1]),
        (frames, actions[:2]),
        (frames, actions[:, 0]),
    ):
        with pytest.raises(ShapeError, match=r"got|need"):
            world.filter(*bad)
    state = world.filter(frames, actions)[:, 0]
    for bad in (
        (state[0], actions),
        (state[:, :-1], actions),
        (state, actions[:2]),
        (state, actions[..., :-1]),
        (state, actions[:, 0]),
    ):
        with pytest.raises(ShapeError, match="got"):
            world.imagine(*bad)
    with pytest.raises(ShapeError, match="latents must be"):
        world.decode(state[:, :-1])
