"""Every model keeps the contract of ``worldmodel/models/ssm.py``, whatever it is made of."""

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from small import BOX, DISCRETE, PIXELS, SEVERAL, VECTOR, generator, random_batch, small_model
from tensordict import TensorDict

from worldmodel.errors import ShapeError
from worldmodel.models.dvbf_config import RecognitionConfig, TransitionConfig
from worldmodel.models.registry import MODELS, fitting
from worldmodel.spaces import map_arrays
from worldmodel.types import Belief, to_numpy
from worldmodel.world.world import World

# Every registered model as it is by default, and variants that have parts of their own.
VARIANTS = {name: (name, {}) for name in MODELS} | {
    "dvbf-mlp": ("dvbf", {"transition": TransitionConfig("mlp")}),
    "dvbf-fusion": ("dvbf", {"recognition": RecognitionConfig("fusion")}),
    "rssm-categorical": ("rssm", {"stochastic": "categorical"}),
}
OBSERVATIONS = {"pixels": PIXELS, "vector": VECTOR, "several": SEVERAL}
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


def by_stream(model, observations):
    """Observations by name, also where there is one stream."""
    if isinstance(observations, Mapping | TensorDict):
        return dict(observations.items())
    return {model.observation_spec.names[0]: observations}


def states_of(model, n=SIZE, seed=0):
    with torch.no_grad():
        return model.initial_prior(n, generator(seed))


def assert_doubted(model, belief):
    """A belief may know a part of the state exactly, but none that process noise moves."""
    assert (belief.scale >= 0).all()
    assert ((belief.scale > 0).sum(1) >= min(model.latent_size, model.noise_size)).all()


def test_beliefs_have_a_mean_and_a_scale_from_one_frame_on(case):
    model, batch = case
    for frames in (1, 2, STEPS + 1):
        belief = model.initial(batch.observations[:, :frames], batch.actions[:, : frames - 1])
        for value in (belief.mean, belief.scale):
            assert value.shape == (SIZE, model.latent_size) and torch.isfinite(value).all()
        assert_doubted(model, belief)
    after = model.update(belief, batch.actions[:, 0], batch.observations[:, 1])
    assert after.mean.shape == after.scale.shape == (SIZE, model.latent_size)
    assert_doubted(model, after)


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
    # A part of the state may be the same in all first states.
    assert (states.std(0) > 0).sum() >= min(model.latent_size, model.noise_size)


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
    noise = 3 * torch.randn(SIZE, model.noise_size, generator=generator(1))
    assert not torch.equal(still, model.transition(state, action, noise))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_transition_and_its_reward_are_differentiable_in_all_they_depend_on(case):
    model, batch = case
    state, noise = states_of(model), torch.zeros(SIZE, model.noise_size)
    inputs = [v.clone().requires_grad_() for v in (state, batch.actions[:, 0], noise)]
    # What is chosen passes gradients on to what it was chosen by, and none to the noise.
    felt = inputs if model.smooth else inputs[:2]
    after = model.transition(*inputs)
    weights = torch.randn(after.shape, generator=generator(2))
    for gradient in torch.autograd.grad((weights * after).sum(), felt):
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    after = model.transition(*inputs)
    reward = model.reward(inputs[0], inputs[1], after)
    for gradient in torch.autograd.grad(reward.sum(), felt):
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_the_transitions_gradient_agrees_with_finite_differences(case):
    model, batch = case
    if not model.smooth:
        pytest.skip("there are no finite differences of a choice")
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
    likelihood = emission.log_prob(torch.zeros_like(emission.mean))
    assert likelihood.shape == emission.mean.shape and torch.isfinite(likelihood).all()
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
    restored = by_stream(model, model.unscale_observations(scaled))
    wild = by_stream(model, model.unscale_observations(scaled * 400))
    recorded = by_stream(model, batch.observations)
    for stream in model.observation_spec.streams:
        values = restored[stream.name]
        assert str(values.dtype) == f"torch.{stream.dtype}"
        if stream.kind == "vector":
            torch.testing.assert_close(values, recorded[stream.name])
        else:
            assert torch.equal(values, recorded[stream.name])
        if stream.kind == "pixels":
            assert wild[stream.name].min() == 0 and wild[stream.name].max() == 255


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
    wide = world.filter(to_numpy(batch.observations), batch.actions.numpy())
    assert wide.dtype == np.float64
    np.testing.assert_allclose(wide, narrow, atol=1e-4)
    dream = world.imagine(wide[:, 0], batch.actions.numpy(), seed=1)
    assert dream.dtype == np.float64


def test_numpy_in_numpy_out(case):
    model, batch = case
    world = World(model)
    frames, actions = to_numpy(batch.observations), batch.actions.numpy()
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
    recorded, decoded = by_stream(model, frames), by_stream(model, world.decode(latents))
    assert list(decoded) == list(recorded)
    for name, values in recorded.items():
        assert decoded[name].shape == values.shape and decoded[name].dtype == values.dtype
    for name, values in by_stream(model, world.decode(latents[0, 0])).items():
        assert values.shape == model.observation_spec[name].shape


def test_a_filter_needs_frames_and_no_steps(case):
    model, batch = case
    one = World(model).filter(to_numpy(batch.observations[:, :1]), batch.actions[:, :0].numpy())
    assert one.shape == (SIZE, 1, model.latent_size)


def test_arrays_that_do_not_fit_are_refused(case):
    model, batch = case
    world = World(model)
    frames, actions = to_numpy(batch.observations), batch.actions.numpy()

    def other_kind(values):
        return values.astype(np.uint8 if values.dtype.kind == "f" else np.float32)

    for bad in (
        (map_arrays(other_kind, frames), actions),
        (map_arrays(lambda values: values[..., :-1], frames), actions),
        (map_arrays(lambda values: values[:, :, None], frames), actions),
        (map_arrays(lambda values: values[:, :-1], frames), actions),
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
