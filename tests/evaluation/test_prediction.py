"""Errors are checked on a rotation whose frames are its state, so that the truth is known."""

from dataclasses import replace

import pytest
import torch
from small import box, pixels, vector
from torch.distributions import Normal

from worldmodel.errors import ConfigError, ShapeError
from worldmodel.evaluation.prediction import (
    baseline_errors,
    filter_error,
    frame_variance,
    open_loop_error,
)
from worldmodel.models.codec import Codec, CodecConfig
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.types import Batch, Belief
from worldmodel.world.world import World

VECTOR = vector(2)
GAIN = 0.5  # of the filter's correction


VECTOR = vector(2)


class Rotation(StateSpaceModel):
    """z' = R z + u, x = z; ``bias`` is added to every predicted state."""

    latent_size = noise_size = 2

    def __init__(self, bias: float = 0.0, observations=VECTOR):
        super().__init__()
        self.observation_spec = observations
        self.action_spec = box((-1.0, -1.0), (1.0, 1.0))
        self.codec = Codec(observations, CodecConfig("dense"))
        self.config, self.bias = None, bias
        angle = torch.tensor(0.4)
        turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
        self.turn = torch.nn.Parameter(turn)

    def initial(self, observations, actions, seen=None):
        mean = observations[:, 0] if observations.shape[1] > 1 else 0 * observations[:, 0]
        return Belief(mean, torch.ones_like(mean))

    def initial_prior(self, n, generator):
        return torch.randn(n, 2, generator=generator)

    def update(self, belief, action, observation):
        predicted = self.transition(belief.mean, action)
        return Belief(predicted + GAIN * (observation - predicted), belief.scale)

    def transition(self, state, action, noise=None):
        return state @ self.turn.T + action + self.bias

    def emit(self, state):
        return Normal(state, 0.1)

    def reward(self, state, action, next_state):
        return state[..., 0]

    def termination(self, next_state):
        return next_state[..., 0]

    def terms(self, batch, generator, observed=None, prefix=None, unobserved_scale=1.0):
        raise AssertionError("prediction needs no terms")


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    actions = 0.3 * torch.randn(8, 9, 2, generator=generator)
    model = Rotation()
    frames = World(model).rollout(model.initial_prior(8, generator), actions)
    return Batch(
        frames, actions, torch.zeros(8, 9), torch.zeros(8, 9).bool(), torch.ones(8, 9).bool()
    )


def test_the_true_model_predicts_without_error(batch):
    error = open_loop_error(World(Rotation()), batch, filtered=3)
    assert error.shape == (7,)
    assert error.max() < 1e-10


def test_a_biased_model_errs_by_the_bias_it_accumulates(batch):
    """The bias adds up as sum_j R^j b on top of the filter's own steady part, known in closed form.

    With error e of the filtered state, prediction errs by R^k e + sum_{j<k} R^j b.
    """
    model = Rotation(bias=0.2)
    turn, bias = model.turn.detach(), torch.full((2,), 0.2)
    error = torch.zeros(2)
    for _ in range(2):  # two filter steps after the exact first state
        error = (1 - GAIN) * (turn @ error + bias)
    expected = []
    for _ in range(7):
        error = turn @ error + bias
        expected.append(error.square().mean())
    torch.testing.assert_close(
        open_loop_error(World(model), batch, filtered=3),
        torch.stack(expected),
        rtol=1e-4,
        atol=1e-6,
    )


class Walk(Rotation):
    """The same, whose noise does not turn: z' = R z + u + w."""

    def transition(self, state, action, noise=None):
        return super().transition(state, action) + (0 if noise is None else noise)


@pytest.mark.parametrize("dreams", [2, 8])
def test_the_predictive_mean_errs_by_nothing_but_its_bias_however_few_dreams(dreams):
    """The truth has no noise: dreams spread by k after k steps, and their mean is off by 1/2."""
    size, steps = 20_000, 6
    actions, ended = torch.zeros(size, steps, 2), torch.zeros(size, steps, dtype=torch.bool)
    frames = World(Walk()).rollout(torch.randn(size, 2), actions)
    frames[:, 2:] += 0.5
    batch = Batch(frames, actions, torch.zeros(size, steps), ended, ~ended)
    generator = torch.Generator().manual_seed(1)
    error = open_loop_error(World(Walk()), batch, 2, dreams, generator)
    torch.testing.assert_close(error, torch.full((steps - 1,), 0.25), rtol=0, atol=0.1)


@pytest.mark.parametrize("dreams", [1, -1])
def test_one_dream_does_not_tell_its_spread(batch, dreams):
    with pytest.raises(ConfigError, match=f"got {dreams}"):
        open_loop_error(World(Walk()), batch, 3, dreams, torch.Generator())


def test_a_picture_that_diverges_is_clipped_before_it_is_averaged(batch):
    class Diverging(Walk):
        def update(self, belief, action, observation):
            return belief

        def transition(self, state, action, noise=None):
            return torch.full_like(state, 1e9)

        def emit(self, state):
            return Normal(state.repeat_interleave(32, -1), 0.1)

    model = Diverging(observations=pixels(8, 8))
    dark = replace(batch, observations=torch.zeros(8, 10, 8, 8, 1, dtype=torch.uint8))
    model.initial = lambda observations, actions, seen: Belief(torch.zeros(8, 2), torch.ones(8, 2))
    error = open_loop_error(World(model), dark, 3, 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(error, torch.ones(7))


def test_a_dream_that_is_lost_has_no_error(batch):
    class Overflowing(Rotation):
        def transition(self, state, action, noise=None):
            return 1e16 * (state + 1)

    error = open_loop_error(World(Overflowing()), batch, filtered=1)
    assert torch.isfinite(error[0]) and torch.isnan(error[1:]).all()


def test_padded_frames_do_not_count(batch):
    mask = batch.mask.clone()
    mask[:4, 5:] = False
    garbage = batch.observations.clone()
    garbage[:4, 6:] = 1e3
    padded = replace(batch, observations=garbage, mask=mask)
    model = Rotation(bias=0.1)
    late = slice(3, None)  # horizons at which half of the episodes have ended
    torch.testing.assert_close(
        open_loop_error(World(model), padded, 3)[late],
        open_loop_error(World(model), batch[4:], 3)[late],
    )
    torch.testing.assert_close(
        baseline_errors(model, padded, 3)["last_frame"][late],
        baseline_errors(model, batch[4:], 3)["last_frame"][late],
    )
    assert frame_variance(model, padded) < 10
    assert filter_error(model, padded).max() < 10


def test_baselines_are_what_their_names_say(batch):
    errors = baseline_errors(Rotation(), batch, filtered=4)
    frames = batch.observations
    still = (frames[:, 4:] - frames[:, 3:4]).square().mean((0, 2))
    constant = (frames[:, 4:] - frames.mean((0, 1))).square().mean((0, 2))
    torch.testing.assert_close(errors["last_frame"], still)
    torch.testing.assert_close(errors["mean_frame"], constant)


def test_variance_is_the_mean_frames_error_over_all_frames(batch):
    frames = batch.observations.flatten(0, 1)
    expected = frames.var(0, unbiased=False).mean().item()
    assert frame_variance(Rotation(), batch) == pytest.approx(expected, rel=1e-5)


def test_a_filter_that_starts_wrong_halves_its_error_at_every_frame(batch):
    """From a cold start the model believes zero; each frame corrects by GAIN, R keeps lengths."""
    start = batch.observations[:, 0].square().mean()
    expected = start * (1 - GAIN) ** (2 * torch.arange(10.0))
    torch.testing.assert_close(filter_error(Rotation(), batch), expected, rtol=1e-4, atol=1e-7)


def test_other_baselines_see_what_was_filtered_and_nothing_else(batch):
    seen = []

    def oracle(past: Batch, steps: int) -> torch.Tensor:
        seen.append(past)
        return batch.observations[:, -steps:]

    def late(past: Batch, steps: int) -> torch.Tensor:
        return batch.observations[:, -steps - 1 : -1]

    errors = baseline_errors(Rotation(), batch, 4, {"oracle": oracle, "late": late})
    assert list(errors) == ["last_frame", "mean_frame", "oracle", "late"]
    assert errors["oracle"].shape == (6,) and (errors["oracle"] == 0).all()
    lag = (batch.observations[:, 4:] - batch.observations[:, 3:-1]).square().mean((0, 2))
    torch.testing.assert_close(errors["late"], lag)
    (past,) = seen
    assert torch.equal(past.observations, batch.observations[:, :4]) and past.steps == 3


def test_a_baseline_of_another_shape_is_refused_by_name(batch):
    def short(past: Batch, steps: int) -> torch.Tensor:
        return batch.observations[:, -steps + 1 :]

    with pytest.raises(ShapeError, match=r"'short' must predict \(8, 6, 2\), got \(8, 5, 2\)"):
        baseline_errors(Rotation(), batch, 4, {"short": short})
