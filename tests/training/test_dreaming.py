import pytest
import torch
from linear_model import LinearModel
from small import PIXELS, generator, random_batch, tiny_model, vector, with_fields

from worldmodel.errors import DivergenceError
from worldmodel.training import dreaming
from worldmodel.training.dreaming import DreamConfig, fit_world
from worldmodel.types import Batch
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


class Shown(LinearModel):
    """A point whose every frame shows its state, and whose dreams are lost now and then."""

    can_terminate = False
    lost = 3.0

    def update(self, belief, action, observation):
        return self.initial(observation[:, None], action[:, None])

    def transition(self, state, action, noise=None):
        arrived = super().transition(state, action, noise)
        if noise is None:
            return arrived
        return arrived.masked_fill(noise[:, :1].abs() > self.lost, torch.nan)


def moved(model, scale, seed, size=100, steps=20) -> Batch:
    """Episodes of such a point with so much of its noise; every other one is padded."""
    g = generator(seed)
    states, actions = [torch.randn(size, 2, generator=g)], torch.rand(size, steps, 1, generator=g)
    for action in actions.unbind(1):
        noise = scale * torch.randn(size, 2, generator=g)
        states.append(LinearModel.transition(model, states[-1], action, noise))
    mask = torch.ones(size, steps, dtype=torch.bool)
    mask[::2, 12:] = False
    frames = model.emit(torch.stack(states, 1)).mean
    frames[::2, 13:] = 1000.0
    return Batch(frames, actions, torch.zeros(size, steps), torch.zeros_like(mask), mask)


@pytest.mark.parametrize("scale", [1.0, 0.35, 0.12])
@pytest.mark.parametrize("denoise", [0.0, 0.1])
def test_dreams_are_as_noisy_as_what_is_dreamt_of(scale, denoise, monkeypatch):
    """Also where noise averages out, so that the mean of dreams errs alike at any scale."""
    monkeypatch.setattr(Denoiser, "fit", lambda *_: None)  # it moves nothing
    model = Shown(vector(2), drift=0.95)
    train, validation = moved(model, scale, 0), moved(model, scale, 1)
    world = fit_world(model, DreamConfig(denoise), train, validation, 10, 0, progress=False)
    assert world.dream_noise == scale and (world.denoiser is None) == (denoise == 0)


def test_noise_that_changes_nothing_is_the_least():
    model = Shown(vector(2), drift=0.95)
    model.transition = lambda state, action, noise=None: LinearModel.transition(
        model, state, action, None
    )
    train, validation = moved(model, 0.3, 0), moved(model, 0.3, 1)
    world = fit_world(model, DreamConfig(0.0), train, validation, 10, 0, progress=False)
    assert world.dream_noise == 0.12


def test_episodes_too_short_to_tell_leave_the_noise_and_lost_dreams_do_not_end_the_fit(model):
    single = random_batch(PIXELS, seed=2).window(0, 1)
    settings = DreamConfig(), random_batch(PIXELS, seed=1), single, 4, 0
    assert fit_world(model, *settings, progress=False).dream_noise == 1.0
    lost = Shown(vector(2))
    lost.lost = 0.0
    batch = moved(lost, 0.1, 0)
    assert fit_world(lost, DreamConfig(), batch, batch, 10, 0, progress=False).support.fitted


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


def test_what_diverges_is_said(model):
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
