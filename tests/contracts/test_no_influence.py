"""What must have no influence on any model's terms and beliefs: padding, the future, the task."""

import pytest
import torch
from small import (
    BOX,
    PIXELS,
    SEVERAL,
    VECTOR,
    generator,
    random_batch,
    small_model,
    with_fields,
)

from worldmodel.models.registry import fitting
from worldmodel.types import Batch

PER_FRAME = ("distortion", "reconstruction", "calibration", "rate", "entropy", "observed")
PER_STEP = ("reward", "termination")


CASES = [(name, spec) for spec in (PIXELS, VECTOR, SEVERAL) for name in fitting(spec)]


@pytest.fixture(
    params=CASES, ids=lambda case: f"{case[0]}-{'-'.join(s.kind for s in case[1].streams)}"
)
def case(request):
    name, spec = request.param
    model, batch = small_model(name, spec, BOX), random_batch(spec, BOX)
    model.calibrate(batch)
    return model, batch


def cut_at(batch, frame):
    """Observed before ``frame`` only, in every second sequence."""
    observed = torch.ones(len(batch), batch.steps + 1, dtype=torch.bool)
    observed[::2, frame:] = False
    return observed


def garbage_after(space, batch: Batch, steps: int, seed: int = 9) -> Batch:
    """The same episodes, whose frames, actions and rewards after ``steps`` are others'."""
    other = random_batch(space, BOX, seed=seed)
    changes = {}
    for name, value in batch.items():
        keep = steps + (name in ("observations", "states"))
        changes[name] = torch.cat([value[:, :keep], getattr(other, name)[:, keep:]], 1)
    return with_fields(batch, **changes)


def test_a_filter_sees_no_further_than_the_frame_it_arrives_at(case):
    model, batch = case
    beliefs = model.filter_beliefs(batch.observations, batch.actions)
    for t in range(batch.steps):
        later = garbage_after(model.observation_spec, batch, t)
        mean = model.filter_beliefs(later.observations, later.actions).mean
        assert torch.equal(mean[:, : t + 1], beliefs.mean[:, : t + 1])
        assert not torch.equal(mean[:, t + 1], beliefs.mean[:, t + 1])


def test_unobserved_frames_tell_nothing_and_cost_what_the_draw_costs(case):
    model, batch = case
    observed = cut_at(batch, 3)
    terms = model.terms(batch, generator(), observed, prefix=1)
    assert (terms.rate[~observed] == 0).all() and (terms.entropy[~observed] == 0).all()
    frames = batch.observations.clone()
    frames[~observed] = random_batch(model.observation_spec, BOX, seed=4).observations[~observed]
    changed = model.terms(with_fields(batch, observations=frames), generator(), observed, prefix=1)
    torch.testing.assert_close(changed.states, terms.states)
    torch.testing.assert_close(changed.rate, terms.rate)
    assert not torch.equal(changed.reconstruction, terms.reconstruction)
    narrow = model.terms(batch, generator(), observed, unobserved_scale=0.5)
    paid = narrow.rate[~observed]
    assert paid.min() > 0 and (paid - paid[0]).abs().max() < 1e-5


def test_the_initial_network_sees_its_prefix_and_no_more(case):
    model, batch = case
    first = model.filter_beliefs(batch.observations, batch.actions, prefix=4).mean[:, 0]
    for frames, same in ((4, True), (3, False)):
        later = garbage_after(model.observation_spec, batch, frames - 1)
        changed = model.filter_beliefs(later.observations, later.actions, prefix=4).mean[:, 0]
        assert torch.equal(changed, first) == same


@pytest.mark.parametrize("prefix", [1, 3, None])
@pytest.mark.parametrize("garbage", ["others", "nan"])
def test_padding_changes_no_term(case, prefix, garbage):
    model, batch = case
    recorded = 4
    mask = torch.arange(batch.steps) < recorded
    padded = with_fields(
        garbage_after(model.observation_spec, batch, recorded),
        mask=mask.expand_as(batch.mask).clone(),
    )
    if garbage == "nan":
        padded.actions[:, recorded:] = padded.rewards[:, recorded:] = torch.nan
        for stream in model.observation_spec.streams:
            values = padded.observations
            values = values if isinstance(values, torch.Tensor) else values[stream.name]
            if values.is_floating_point():
                values[:, recorded + 1 :] = torch.nan
    # Draws are made for all frames at once, so compare with other padding, not with a short batch.
    reference = with_fields(batch, mask=padded.mask)
    expected = model.terms(reference, generator(), prefix=prefix)
    terms = model.terms(padded, generator(), prefix=prefix)
    short = model.terms(batch.window(0, recorded), generator(), prefix=prefix)
    for name in PER_FRAME + PER_STEP:
        value, kept = getattr(terms, name), recorded + (name in PER_FRAME)
        assert (value[:, kept:] == 0).all(), name
        torch.testing.assert_close(value, getattr(expected, name))
        assert getattr(short, name).shape[1] == kept
    torch.testing.assert_close(
        terms.rate[:, 0], short.rate[:, 0], msg="the first state's belief must not see padding"
    )


def test_padding_gives_no_gradient(case):
    model, batch = case
    mask = torch.arange(batch.steps) < 4

    def gradient(padded):
        model.zero_grad()
        terms = model.terms(with_fields(padded, mask=mask.expand_as(batch.mask)), generator())
        loss = (terms.rate - terms.reconstruction).sum()
        if terms.filtering is not None:
            loss = loss - terms.filtering.sum()
        loss.backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    ours, theirs = gradient(batch), gradient(garbage_after(model.observation_spec, batch, 4))
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, msg=name)


def owners(model):
    """Names of the parts that have received a gradient."""
    return {
        name.split(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }


@pytest.mark.parametrize(
    "term, part", [("reward", "reward_head"), ("termination", "termination_head")]
)
def test_no_task_leaks_into_the_state_space(case, term, part):
    model, batch = case
    getattr(model.terms(batch, generator()), term).sum().backward()
    assert owners(model) == {part}
