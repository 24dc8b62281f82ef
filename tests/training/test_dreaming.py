import pytest
import torch
from small import PIXELS, generator, random_batch, tiny_model, with_fields

from worldmodel.errors import DivergenceError
from worldmodel.training import dreaming
from worldmodel.training.dreaming import DreamConfig, fit_world
from worldmodel.world.denoiser import Denoiser
from worldmodel.world.ends import Ends
from worldmodel.world.world import World


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(dreaming, "FITTED", {"updates": 5, "hidden": 8})
    return tiny_model(PIXELS)


def fit(model, denoise=0.1, train=None, seed=0) -> World:
    train = random_batch(PIXELS, seed=1) if train is None else train
    validation = random_batch(PIXELS, seed=2)
    return fit_world(model, DreamConfig(denoise), train, validation, 4, seed, progress=False)


def weights(world: World) -> dict[str, torch.Tensor]:
    parts = [world.model, world.support, *([world.denoiser] if world.denoiser else [])]
    return {
        f"{i}.{k}": v.clone() for i, part in enumerate(parts) for k, v in part.state_dict().items()
    }


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def test_noise_is_scaled_as_predicts_best(model, monkeypatch):
    def error(world, batch, filtered, dreams, generator):
        assert batch.steps == 4 and filtered == 2 and dreams > 1
        return torch.tensor([(world.dream_noise - 0.27) ** 2, 1.0])

    monkeypatch.setattr(dreaming, "open_loop_error", error)
    assert fit(model).dream_noise == pytest.approx(0.25)
    monkeypatch.setattr(
        dreaming,
        "open_loop_error",
        lambda world, *_: torch.tensor(
            [torch.nan if world.dream_noise > 0.5 else world.dream_noise]
        ),
    )
    assert fit(model).dream_noise == pytest.approx(0.12)


def test_the_scale_is_that_of_the_noise_in_dreams_alone(model):
    batch = random_batch(PIXELS)
    state, action = model.initial_prior(5, generator()), batch.actions[:, 0]
    noise = torch.randn(5, model.noise_size, generator=generator(3))
    quieter = World(model, dream_noise=0.25).transition(state, action, noise)
    assert torch.equal(quieter, model.transition(state, action, 0.25 * noise))
    assert not torch.equal(quieter, model.transition(state, action, noise))


def test_only_heads_and_dreams_are_fitted_and_the_same_way_every_time(model):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first = fit(model)
    found = weights(first)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith("reward_head.") for name in changed)
    model.load_state_dict(before)
    second = fit(model)
    assert same(found, weights(second))
    assert first.dream_noise == second.dream_noise and first.support.fitted


def test_without_a_denoiser_dreams_are_the_models(model):
    world = fit(model, denoise=0.0)
    assert world.denoiser is None and world.dream_noise == 1.0 and world.support.fitted


@pytest.mark.parametrize("longest", [2, 5])
def test_padding_has_no_influence(model, longest):
    """Neither where one episode is shorter than the window, nor where all are longer."""
    train = random_batch(PIXELS, seed=1)
    mask = train.mask.clone()
    mask[0, longest:] = False
    padding = torch.nn.functional.pad(~mask, (1, 0))[..., None, None, None]
    reached = []
    for value in (0, 255):
        frames = train.observations.masked_fill(padding, value)
        reached.append(
            weights(fit(model, train=with_fields(train, observations=frames, mask=mask)))
        )
    assert same(*reached)


def test_what_diverges_is_said(model, monkeypatch):
    monkeypatch.setattr(dreaming, "open_loop_error", lambda *_: torch.full((2,), torch.nan))
    with pytest.raises(DivergenceError, match="at any scale"):
        fit(model)
    with pytest.raises(DivergenceError, match="states to be denoised"):
        Denoiser(model.latent_size).fit(torch.full((10, model.latent_size), torch.nan), False)


def test_ends_are_calibrated_and_what_they_pay_is_found(model):
    train = random_batch(PIXELS, seed=1)
    model.calibrate(train)
    plain = fit(model, denoise=0.0, train=train)
    more = with_fields(train, rewards=train.rewards + 100.0 * train.terminated)
    world = fit(model, denoise=0.0, train=more)
    assert world.ends.reward == pytest.approx(plain.ends.reward + 100, abs=1e-3)
    assert (world.ends.slope, world.ends.shift) == (plain.ends.slope, plain.ends.shift) != (1, 0)
    model.termination_head.seen.fill_(False)
    assert fit(model, denoise=0.0, train=more).ends == Ends()


def test_too_few_episodes_for_bounds_are_told(model, capsys):
    world = World(model)
    dreaming.fit_trust(world, DreamConfig(), random_batch(PIXELS), progress=True)
    said = capsys.readouterr().out
    assert "are too few to bound errors of dreams by" in said and "worldmodel calibrate" in said
    assert "--dataset DATA" in said, "nobody can act in what the model does not know"
    dreaming.fit_trust(world, DreamConfig(trust_updates=0), random_batch(PIXELS), progress=True)
    assert not capsys.readouterr().out
