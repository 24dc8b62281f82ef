"""A world's dreams: its model's transition, the noise as calibrated, and the denoiser once."""

import numpy as np
import pytest
import torch
from small import SEVERAL, box, generator, pixels, random_batch, small_model

import worldmodel
from worldmodel.errors import DivergenceError, ShapeError
from worldmodel.world.denoiser import DenoiserConfig, fit_denoiser
from worldmodel.world.support import Support
from worldmodel.world.world import World


def denoiser_of(latent_size, seed=0):
    states = torch.randn(200, latent_size, generator=generator())
    return fit_denoiser(states, DenoiserConfig(updates=20, hidden=8, seed=seed), progress=False)


@pytest.fixture
def batch():
    return random_batch()


@pytest.fixture
def world(batch):
    """Its denoiser moves states, and its dreams have half of the model's noise."""
    model = small_model("dvbf")
    model.calibrate(batch)
    return World(model, denoiser=denoiser_of(model.latent_size), dream_noise=0.5)


@pytest.fixture
def inputs(world, batch):
    state = world.model.initial_prior(len(batch), generator())
    noise = torch.randn(len(batch), world.model.noise_size, generator=generator(1))
    return state, batch.actions[:, 0], noise


@torch.no_grad()
def test_a_step_is_the_models_with_its_noise_scaled_then_denoised_once(world, inputs):
    state, action, noise = inputs
    expected = world.denoiser(world.model.transition(state, action, noise / 2))
    assert torch.equal(world.transition(state, action, noise), expected)
    assert not torch.allclose(expected, world.model.transition(state, action, noise / 2))
    still = world.transition(state, action)
    assert torch.equal(still, world.transition(state, action, 0 * noise))


def test_a_denoised_steps_gradient_agrees_with_finite_differences(world, inputs):
    wide = World(world.model.double(), denoiser=world.denoiser, dream_noise=0.5)
    wide_inputs = [value[:2].double().requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(wide.transition, wide_inputs)


def test_a_denoised_rollout_is_the_transition_repeated(world, batch, inputs):
    state = inputs[0]
    rollout = world.rollout(state, batch.actions)
    noisy = world.rollout(state, batch.actions, generator())
    assert torch.equal(noisy, world.rollout(state, batch.actions, generator()))
    assert not torch.equal(noisy, rollout)
    with torch.no_grad():
        for t in range(batch.steps):
            assert torch.equal(rollout[:, t], state)
            state = world.transition(state, batch.actions[:, t])
    assert torch.equal(rollout[:, -1], state)


def test_support_and_denoiser_follow_the_model_into_64_bits(world, batch):
    wide = World(world.model.double(), Support(world.model.latent_size), world.denoiser)
    latents = wide.filter(batch.observations.numpy(), batch.actions.numpy())
    dream = wide.imagine(latents[:, 0], batch.actions.numpy(), seed=1)
    assert latents.dtype == dream.dtype == np.float64
    wide.support.fit(*torch.as_tensor(latents).flatten(0, 1).chunk(2))
    assert wide.support.states.dtype == torch.float64


def test_another_denoiser_changes_nothing_else(world):
    world.source, world.metrics = worldmodel.load("pendulum").source, {"a": 1.0}
    other = world.denoised_by(denoiser_of(world.model.latent_size, seed=1))
    assert other.denoiser is not world.denoiser
    for name in ("model", "support", "dream_noise", "source", "metrics"):
        assert getattr(other, name) is getattr(world, name), name


NAN = np.full((1, 3), np.nan)
FRAMES, PUSHES = np.zeros((1, 3, 16, 16, 1), np.uint8), np.zeros((1, 2, 1), np.float32)
MISUSED = {
    "imagine text": (lambda w: w.imagine("abc", PUSHES), "state must be .*numbers, got 'abc'"),
    "imagine nothing": (lambda w: w.imagine(None, PUSHES), "state must be .*numbers"),
    "imagine ragged": (lambda w: w.imagine([[1], [1, 2]], PUSHES), "state must be .*numbers"),
    "imagine NaN": (lambda w: w.imagine(NAN, PUSHES), "state must be finite.*nan"),
    "imagine beyond": (lambda w: w.imagine([[1e39, 0, 0, 0]], PUSHES), r"finite.*1e\+39"),
    "imagine shape": (lambda w: w.imagine(np.zeros(3), PUSHES), r"state must be \(B, 4\)"),
    "imagine actions": (lambda w: w.imagine(np.zeros((1, 4)), "left"), "actions must be .*numbers"),
    "imagine few": (lambda w: w.imagine(np.zeros((1, 4)), PUSHES[0]), "actions must be"),
    "decode text": (lambda w: w.decode("abc"), "latents must be .*numbers, got 'abc'"),
    "decode NaN": (lambda w: w.decode(NAN), "latents must be finite.*nan"),
    "decode shape": (lambda w: w.decode(np.zeros(2)), r"latents must be \(\.\.\., 4\)"),
    "filter nothing": (lambda w: w.filter(None, None), "observations must be .*numbers"),
    "filter text": (lambda w: w.filter("abc", PUSHES), "observations must be .*numbers"),
    "filter scalar": (lambda w: w.filter(np.uint8(3), PUSHES), "observation must be"),
    "filter complex": (lambda w: w.filter(FRAMES * 1j, PUSHES), "observations must be .*numbers"),
    "filter double": (lambda w: w.filter(FRAMES / 1, PUSHES), "observation must be"),
    "filter no actions": (lambda w: w.filter(FRAMES, None), "actions must be .*numbers"),
    "filter NaN": (lambda w: w.filter(FRAMES, PUSHES * np.nan), "actions must be finite"),
    "filter few": (lambda w: w.filter(FRAMES, PUSHES[:, :1]), "1 actions need 2 observations"),
    "filter none": (lambda w: w.filter(FRAMES, PUSHES, prefix=0), "prefix must.*3 frames, got 0"),
    "filter more": (lambda w: w.filter(FRAMES, PUSHES, prefix=9), "prefix must.*3 frames, got 9"),
}


@pytest.mark.parametrize(("use", "match"), MISUSED.values(), ids=MISUSED)
def test_what_cannot_be_used_is_refused_by_name(use, match):
    with pytest.raises(ShapeError, match=match):
        use(worldmodel.load("pendulum"))


def test_streams_that_do_not_fit_are_refused():
    several = World(small_model("dvbf", SEVERAL))
    batch = random_batch(SEVERAL)
    streams = {name: value.numpy() for name, value in batch.observations.items()}
    actions = batch.actions.numpy()
    assert several.filter(streams, actions).shape[:2] == streams["joints"].shape[:2]
    for wrong, match in (
        ({k: v for k, v in streams.items() if k != "gear"}, "lack the stream 'gear'"),
        ({"joints": streams["joints"]}, "camera must be|lack"),
        (streams | {"gear": streams["gear"][:, :2]}, "gear"),
        (streams | {"gear": streams["gear"] + 7}, r"gear must lie in \[0, 2\], got"),
        (streams | {"joints": "abc"}, "joints must be .*numbers"),
    ):
        with pytest.raises(ShapeError, match=match):
            several.filter(wrong, actions)


def test_it_makes_its_environments():
    world = worldmodel.load("pendulum")
    env, dreams = world.env(noise=False), world.vector_env(3)
    assert isinstance(env, worldmodel.LatentEnv)
    assert isinstance(dreams, worldmodel.LatentVectorEnv) and dreams.num_envs == 3
    assert env.observation_space == dreams.single_observation_space
    state, _ = env.reset(seed=0)
    action = env.action_space.sample()
    expected = world.imagine(state[None], action[None, None])[0, 1]
    np.testing.assert_allclose(env.step(action)[0], expected, atol=1e-5)


def test_actions_beyond_the_bounds_are_clipped_at_every_door():
    """As ``step`` does it; else a finite action of 1e9 led to states of 1e8."""
    world = worldmodel.load("pendulum")
    far, most = PUSHES + np.float32([[1e9], [-3e38]]), PUSHES + np.float32([[5], [-5]])
    start = np.zeros((1, 4), np.float32)
    np.testing.assert_array_equal(world.imagine(start, far), world.imagine(start, most))
    np.testing.assert_array_equal(world.filter(FRAMES, far), world.filter(FRAMES, most))
    free = {"noise": False, "truncate_outside": False}
    env, vector = world.env(**free), world.vector_env(2, **free)
    for one in (env, vector):
        seen = [
            one.reset(options={"observations": FRAMES[0], "actions": actions[0]})[0]
            for actions in (far, most)
        ]
        np.testing.assert_array_equal(*seen)
    env.reset(options={"state": start[0]})
    for action in far[0]:
        stepped, *_ = env.step(action)
    box = env.observation_space
    dreamt = np.clip(world.imagine(start, far)[0, -1], box.low, box.high)
    np.testing.assert_allclose(stepped, dreamt, atol=1e-5)


DIVERGING = {
    "imagine": (lambda w, z: w.imagine(z, PUSHES), "the dream is not finite at frame 1"),
    "filter": (lambda w, z: w.filter(FRAMES, PUSHES), "belief is not finite at frame 1"),
    "decode": (lambda w, z: w.decode(z), r"what the model shows of array\(.* is not finite"),
}


@pytest.mark.parametrize(("use", "match"), DIVERGING.values(), ids=DIVERGING)
def test_what_diverges_is_said_and_never_given_back(use, match):
    world = World(small_model("dvbf", pixels(16, 16), box(-5.0, 5.0)))
    with torch.no_grad():
        for parameter in world.model.parameters():
            if parameter.ndim == 2:
                parameter.fill_(1e30)
    with pytest.raises(DivergenceError, match=match):
        use(world, np.full((1, world.model.latent_size), 1e30, np.float32))
