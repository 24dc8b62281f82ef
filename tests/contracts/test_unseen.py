"""Frames that nobody saw: no model learns from them, and every filter predicts through them."""

import pytest
import torch
from small import BOX, PIXELS, SEVERAL, VECTOR, as_dataset, generator, random_batch, small_model
from small import with_fields as changed

from worldmodel.errors import ShapeError
from worldmodel.evaluation.evaluate import evaluate
from worldmodel.models.registry import fitting
from worldmodel.training.losses.constrained import Constrained, ConstrainedConfig
from worldmodel.training.losses.elbo import AnnealedELBO, ELBOConfig
from worldmodel.world.world import World

PER_FRAME = ("states", "distortion", "reconstruction", "calibration", "rate", "entropy", "observed")
CASES = [(name, spec) for spec in (PIXELS, VECTOR, SEVERAL) for name in fitting(spec)]


@pytest.fixture(
    params=CASES, ids=lambda case: f"{case[0]}-{'-'.join(s.kind for s in case[1].streams)}"
)
def case(request):
    name, spec = request.param
    model, batch = small_model(name, spec, BOX), random_batch(spec, BOX, size=8)
    model.calibrate(batch)
    return model, batch


def looks(batch, seed=2):
    """Which frames were seen, of each episode others; the first always."""
    seen = torch.rand(len(batch), batch.steps + 1, generator=generator(seed)) < 0.6
    seen[:, 0] = True
    assert not seen.all(1).any()
    return seen


def garbage(model, batch, seen, nan=False):
    """The same, with anything where nobody looked, and anything paid on the way there."""
    other = random_batch(model.observation_spec, BOX, size=len(batch), steps=batch.steps, seed=9)
    observations = batch.observations.clone()
    observations[~seen] = other.observations[~seen]
    for stream in model.observation_spec.streams if nan else ():
        whole = isinstance(observations, torch.Tensor)
        values = observations if whole else observations[stream.name]
        if values.is_floating_point():
            values[~seen] = torch.nan
    rewards = torch.where(seen[:, 1:], batch.rewards, torch.nan if nan else other.rewards)
    return changed(batch, observations=observations, rewards=rewards, seen=seen)


def gradients(model, objective, batch, prefix):
    model.zero_grad()
    terms = model.terms(batch, generator(), prefix=prefix)
    objective.loss(terms, 10).backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("prefix", [1, 3, None])
@pytest.mark.parametrize("nan", [False, True])
def test_what_stands_where_nobody_looked_changes_no_term_and_no_gradient(case, prefix, nan):
    model, batch = case
    seen = looks(batch)
    plain, other = changed(batch, seen=seen), garbage(model, batch, seen, nan)
    expected = model.terms(plain, generator(), prefix=prefix)
    terms = model.terms(other, generator(), prefix=prefix)
    for name in (*PER_FRAME, "reward", "termination", "weight_kl", "unevenness"):
        assert torch.equal(getattr(terms, name), getattr(expected, name)), name
    for objective in (Constrained(ConstrainedConfig()), AnnealedELBO(ELBOConfig())):
        pairs = zip(
            gradients(model, objective, plain, prefix),
            gradients(model, objective, other, prefix),
            strict=True,
        )
        for one, two in pairs:
            assert one.isfinite().all() and torch.equal(one, two)


def test_nothing_is_asked_of_a_frame_that_nobody_saw(case):
    model, batch = case
    seen = looks(batch)
    terms = model.terms(changed(batch, seen=seen), generator())
    for name in ("distortion", "reconstruction", "calibration"):
        values = getattr(terms, name)
        assert not values[~seen].any() and values[terms.frame_mask].all(), name
    assert not terms.observed[~seen].any() and not terms.frame_mask[~seen].any()
    assert not terms.reward[~seen[:, 1:]].any()


def test_with_all_frames_seen_terms_are_as_without_the_mask(case):
    model, batch = case
    seen = torch.ones(len(batch), batch.steps + 1, dtype=torch.bool)
    for prefix in (1, 3, None):
        expected = model.terms(batch, generator(), prefix=prefix)
        terms = model.terms(changed(batch, seen=seen), generator(), prefix=prefix)
        for name in (*PER_FRAME, "frame_mask", "reward", "termination", "unevenness"):
            assert torch.equal(getattr(terms, name), getattr(expected, name)), name


def test_a_filter_predicts_through_what_it_does_not_see(case):
    model, batch = case
    seen = looks(batch)
    other = garbage(model, batch, seen)
    found = model.filter_beliefs(batch.observations, batch.actions, 1, seen)
    same = model.filter_beliefs(other.observations, other.actions, 1, seen)
    assert torch.equal(found.mean, same.mean) and torch.equal(found.scale, same.scale)
    with torch.no_grad():
        arrived = model.transition(found.mean[:, :-1].flatten(0, 1), batch.actions.flatten(0, 1))
    arrived = arrived.unflatten(0, batch.mask.shape)
    blind = ~seen[:, 1:]
    torch.testing.assert_close(found.mean[:, 1:][blind], arrived[blind])
    assert not torch.isclose(found.mean[:, 1:][~blind], arrived[~blind]).all()
    whole = model.filter_beliefs(batch.observations, batch.actions)
    before_the_gap = seen.long().cumprod(1).bool()
    torch.testing.assert_close(found.mean[before_the_gap], whole.mean[before_the_gap])


def test_a_first_state_is_read_from_the_leading_frames_that_were_seen(case):
    model, batch = case
    seen = looks(batch)
    other = garbage(model, batch, seen)
    first = model.filter_beliefs(batch.observations, batch.actions, 5, seen).mean
    same = model.filter_beliefs(other.observations, other.actions, 5, seen).mean
    assert torch.equal(first, same)
    alone = model.filter_beliefs(batch.observations, batch.actions, 1, seen).mean[:, 0]
    assert not torch.equal(first[:, 0], alone)


def test_errors_leave_out_what_nobody_saw(case):
    model, batch = case
    batch = random_batch(model.observation_spec, BOX, size=8, steps=12)
    seen = looks(batch)
    other = changed(garbage(model, batch, seen), rewards=batch.rewards)
    one, two = (
        evaluate(World(model), as_dataset(model.observation_spec, BOX, test=test), train_steps=5)
        for test in (changed(batch, seen=seen), other)
    )
    assert one.metrics == two.metrics
    assert (
        one.metrics
        != evaluate(
            World(model), as_dataset(model.observation_spec, BOX, test=batch), train_steps=5
        ).metrics
    )


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (torch.ones(8, 6, dtype=torch.bool), r"seen must be \(8, 7\) bool, got \(8, 6\)"),
        (torch.ones(8, 7), r"got \(8, 7\) torch\.float32"),
        (torch.arange(7).expand(8, 7) > 0, "True at the first frame, got False in episode 0"),
    ],
)
def test_masks_that_do_not_fit_are_refused(seen, message):
    model, batch = small_model("dvbf"), random_batch(size=8)
    with pytest.raises(ShapeError, match=message):
        World(model).filter(batch.observations.numpy(), batch.actions.numpy(), seen=seen.numpy())
