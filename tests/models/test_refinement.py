import pytest
import torch
from small import generator
from torch import nn

from worldmodel.models.codec.emission import (
    BernoulliEmission,
    CategoricalEmission,
    GaussianEmission,
    StreamEmission,
)
from worldmodel.models.fusion import Fusion
from worldmodel.models.refinement import refine

LATENT, SIZE, BATCH = 3, 5, 6


@pytest.fixture
def known():
    """A reading, a prediction, and how that may be off."""
    g = generator()
    scale = torch.rand(BATCH, LATENT, generator=g) + 0.3
    reading = torch.cat([torch.randn(BATCH, LATENT, generator=g), scale], 1)
    predicted = torch.randn(BATCH, LATENT, generator=g)
    return reading, predicted, torch.randn(BATCH, 7, LATENT, generator=g)


def emission(mean: nn.Module, scale: float = 0.4) -> GaussianEmission:
    made = GaussianEmission(mean, SIZE)
    made.log_scale.data.fill_(scale).log_()
    return made


@torch.no_grad()
def refined(emission, frame, known, visible=LATENT):
    corrected = Fusion(5, LATENT, 8, 0.7).correct(*known)
    return refine(emission, visible, frame, *known, corrected), corrected


@pytest.mark.parametrize("visible", [3, 2])
def test_of_a_linear_emission_it_is_bayes_rule(known, visible):
    """With deviations of the frame that are twice as wide."""
    torch.manual_seed(0)
    linear, frame = nn.Linear(visible, SIZE), torch.randn(BATCH, SIZE)
    (mean, scale), _ = refined(emission(linear), frame, known, visible)
    reading, predicted, spread = known
    m, s = reading.chunk(2, 1)
    slope = torch.zeros(SIZE, LATENT)
    slope[:, :visible] = linear.weight.detach()
    prior, sharp = (spread.mT @ spread).inverse(), torch.diag_embed(s.pow(-2))
    precision = prior + sharp + slope.T @ slope / 0.8**2
    told = (frame - linear.bias.detach()) @ slope / 0.8**2
    pulled = (prior @ predicted.unsqueeze(2)).squeeze(2) + m * s.pow(-2) + told
    expected = torch.linalg.solve(precision, pulled)
    torch.testing.assert_close(mean, expected, atol=2e-3, rtol=2e-3)
    width = precision.inverse().diagonal(dim1=1, dim2=2).sqrt()
    torch.testing.assert_close(scale, width, atol=2e-3, rtol=2e-3)


def test_it_undoes_what_was_read_wrongly(known):
    torch.manual_seed(0)
    mean = nn.Sequential(nn.Linear(LATENT, 16), nn.Tanh(), nn.Linear(16, SIZE))
    truth = torch.randn(BATCH, LATENT)
    reading = torch.cat([truth + 0.3, torch.full_like(truth, 0.3)], 1)
    known = reading, truth + 0.3, 0.5 * torch.eye(LATENT).expand(BATCH, -1, -1)
    (state, _), (before, _) = refined(emission(mean, 0.01), mean(truth).detach(), known)
    assert (state - truth).square().mean() < 0.2 * (before - truth).square().mean()


def test_a_step_for_the_worse_is_not_taken(known):
    """Where the emission is steep, and falls off a cliff a little further on, for some."""
    begin = Fusion(5, LATENT, 8, 0.7).correct(*known)[0].sum(1)
    cliff = torch.arange(BATCH) % 2 == 0

    class Cliff(nn.Module):
        def forward(self, state):
            place = state.sum(-1)
            lead = (slice(None), *[None] * (place.ndim - 1))
            away = (place - begin[lead]).abs() > 0.3
            return torch.where(away & cliff[lead], -10, place).unsqueeze(-1).expand(*place.shape, 5)

    frame = (begin + 1).unsqueeze(1).expand(-1, SIZE)
    (state, scale), (before, width) = refined(emission(Cliff(), 0.05), frame, known)
    assert torch.equal(state[cliff], before[cliff]) and torch.equal(scale[cliff], width[cliff])
    assert ((state.sum(1) - begin - 1).abs() < 0.1)[~cliff].all()


def test_what_is_not_finite_stays_where_it_is(known):
    torch.manual_seed(0)
    frame = torch.randn(BATCH, SIZE)
    frame[2] = torch.nan
    (state, scale), (before, width) = refined(emission(nn.Linear(LATENT, SIZE)), frame, known)
    assert state.isfinite().all() and torch.equal(state[2], before[2])
    assert torch.equal(scale[2], width[2]) and not torch.equal(state[3], before[3])


def test_every_kind_of_emission_is_as_sharp_as_it_errs():
    """Squared errors of what is drawn from it, by its sharpness, are one in the mean."""
    torch.manual_seed(0)
    parts = [
        emission(nn.Linear(LATENT, SIZE)),
        BernoulliEmission(nn.Linear(LATENT, 4), 12.0),
        CategoricalEmission(nn.Linear(LATENT, 6), (2, 4), 1.0),
    ]
    whole = StreamEmission(parts, (SIZE, 4, 6))
    state = torch.randn(1, LATENT)
    with torch.no_grad():
        mean, sharp = whole.mean(state), whole.sharpness(whole.mean(state))
        drawn = torch.cat(
            [part(state.expand(100_000, -1)).sample() for part in parts[:2]]
            + [torch.cat([d.sample() for d in parts[2](state.expand(100_000, -1)).parts], 1)],
            1,
        )
    errors = ((drawn - mean) * sharp).square().mean(0)
    torch.testing.assert_close(errors[:9], torch.ones(9), atol=0.05, rtol=0)
    # Pearson's statistic has one degree of freedom less than there are values.
    groups = torch.stack([errors[9:11].sum(), errors[11:].sum()])
    torch.testing.assert_close(groups, torch.tensor([1.0, 3.0]), atol=0.05, rtol=0.05)
