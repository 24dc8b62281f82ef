import pytest
import torch
from small import PIXELS, generator, random_batch, tiny_model, with_fields

from worldmodel.errors import DivergenceError
from worldmodel.training.dreaming import fit_dreams
from worldmodel.world.denoiser import DenoiserConfig


@pytest.fixture
def model(monkeypatch):
    brief = DenoiserConfig(noise=0.1, updates=5, hidden=8)
    monkeypatch.setattr("worldmodel.models.learned._denoising", lambda noise: brief)
    return tiny_model(PIXELS, denoise=0.1)


def fit(model, seed=0):
    train, validation = random_batch(PIXELS, seed=1), random_batch(PIXELS, seed=2)
    fit_dreams(model, train, validation, window=4, seed=seed, progress=False)


def test_noise_is_scaled_as_predicts_best(model, monkeypatch):
    def error(model, batch, filtered, dreams, generator):
        assert batch.steps == 4 and filtered == 2 and dreams > 1
        scale = model.dream_noise
        return torch.stack([(scale - 0.27) ** 2, torch.ones(())])

    monkeypatch.setattr("worldmodel.training.dreaming.open_loop_error", error)
    fit(model)
    assert model.dream_noise == pytest.approx(0.25)
    monkeypatch.setattr(
        "worldmodel.training.dreaming.open_loop_error",
        lambda model, *_: torch.where(model.dream_noise > 0.5, torch.nan, model.dream_noise)[None],
    )
    fit(model)
    assert model.dream_noise == pytest.approx(0.12)


def test_the_scale_is_that_of_the_noise_in_dreams_alone(model):
    batch = random_batch(PIXELS)
    state, action = model.initial_prior(5, generator()), batch.actions[:, 0]
    noise = torch.randn(5, model.noise_size, generator=generator(3))
    model.dream_noise.fill_(0.25)
    quieter = model.transition(state, action, noise)
    model.dream_noise.fill_(1.0)
    assert torch.equal(quieter, model.transition(state, action, 0.25 * noise))
    assert not torch.equal(quieter, model.transition(state, action, noise))


def test_only_dreams_are_fitted_and_the_same_way_every_time(model):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fit(model)
    after = {k: v.clone() for k, v in model.state_dict().items()}
    changed = {k.split(".")[0] for k in after if not torch.equal(before[k], after[k])}
    assert "denoiser" in changed and changed <= {"denoiser", "dream_noise"}
    fit(model)
    assert all(torch.equal(after[k], v) for k, v in model.state_dict().items())


def test_a_model_without_a_denoiser_stays_as_it_is():
    model = tiny_model(PIXELS)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fit(model)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("longest", [2, 5])
def test_padding_has_no_influence(model, longest):
    """Neither where one episode is shorter than the window, nor where all are longer."""
    train, validation = (random_batch(PIXELS, seed=seed) for seed in (1, 2))
    mask = train.mask.clone()
    mask[0, longest:] = False
    padding = torch.nn.functional.pad(~mask, (1, 0))[..., None, None, None]
    reached = []
    for value in (0, 255):
        frames = train.observations.masked_fill(padding, value)
        padded = with_fields(train, observations=frames, mask=mask)
        fit_dreams(model, padded, validation, window=4, seed=0, progress=False)
        reached.append({k: v.clone() for k, v in model.state_dict().items()})
    assert all(torch.equal(reached[0][k], v) for k, v in reached[1].items())


def test_what_diverges_is_said(model, monkeypatch):
    train, validation = random_batch(PIXELS, seed=1), random_batch(PIXELS, seed=2)
    monkeypatch.setattr(
        "worldmodel.training.dreaming.open_loop_error", lambda *_: torch.full((2,), torch.nan)
    )
    with pytest.raises(DivergenceError, match="at any scale"):
        fit_dreams(model, train, validation, window=4, seed=0, progress=False)
    with pytest.raises(DivergenceError, match="states to be denoised"):
        model.denoiser.fit(torch.full((10, model.latent_size), torch.nan), progress=False)
