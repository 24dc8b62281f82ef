import pytest
import torch
from small import BOX, PIXELS, VECTOR, as_dataset, generator, random_batch, tiny_config, tiny_model
from torch.distributions import Bernoulli

from worldmodel.errors import ConfigError, DivergenceError
from worldmodel.models.codec.emission import BernoulliEmission, GaussianEmission
from worldmodel.models.networks import mlp
from worldmodel.training.config import TrainConfig
from worldmodel.training.losses.constrained import ConstrainedConfig
from worldmodel.training.trainer import Trainer
from worldmodel.world.world import World


def test_a_bernoulli_scores_black_and_white_as_torch_does():
    g = generator()
    emission = BernoulliEmission(mlp(3, 5, 7), 12.0)
    state = torch.randn(4, 6, 3, generator=g)
    seen = (torch.rand(4, 6, 7, generator=g) < 0.5).float()
    chance = emission.mean(state)
    expected = Bernoulli(probs=chance).log_prob(seen).sum(-1)
    compared = emission.compare(state, seen)
    torch.testing.assert_close(compared.reconstruction, expected)
    torch.testing.assert_close(emission(state).log_prob(seen).sum(-1), expected)
    torch.testing.assert_close(compared.distortion, -2 * expected)
    assert torch.equal(compared.calibration, compared.reconstruction)
    assert not compared.calibration.requires_grad


def test_grey_is_scored_by_the_expected_likelihood_of_its_draws():
    emission = BernoulliEmission(torch.nn.Identity(), 12.0)
    logit, grey = torch.tensor([[0.7]]), torch.tensor([[0.3]])
    on, off = (emission.compare(logit, torch.full((1, 1), v)).reconstruction for v in (1.0, 0.0))
    compared = emission.compare(logit, grey).reconstruction
    torch.testing.assert_close(compared, 0.3 * on + 0.7 * off)


def test_distortion_is_nothing_for_the_chances_themselves_and_for_their_mean_what_they_weigh():
    grey = torch.rand(50, 3, generator=generator()).clamp(0.05, 0.95)
    emission = BernoulliEmission(torch.nn.Identity(), 12.0)
    exact = emission.compare(grey.logit(), grey).distortion
    torch.testing.assert_close(exact, torch.zeros(50), atol=1e-5, rtol=0)
    mean = grey.mean(0).logit().expand(50, 3)
    assert emission.compare(mean, grey).distortion.mean() != pytest.approx(12, rel=0.1)
    emission.calibrate(grey)
    assert emission.compare(mean, grey).distortion.mean() == pytest.approx(12, rel=1e-4)
    exact = emission.compare(grey.logit(), grey).distortion
    torch.testing.assert_close(exact, torch.zeros(50), atol=1e-3, rtol=0)


def test_extreme_logits_stay_finite():
    emission = BernoulliEmission(torch.nn.Identity(), 12.0)
    logits = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    compared = emission.compare(logits, torch.tensor([[1.0, 0.0]]))
    compared.reconstruction.sum().backward()
    assert compared.reconstruction.item() == -400
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, -1.0]]))


def test_a_state_that_no_network_can_read_has_no_picture():
    """Far out a network's norm overflows: that is for whoever asked to name."""
    model = tiny_model(PIXELS, BOX)
    size = model.emission.size
    layers = torch.nn.Linear(model.latent_size, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, size)
    model.emission = GaussianEmission(torch.nn.Sequential(*layers), size)
    far = torch.full((2, model.latent_size), 1e25)
    assert model.emit(far).mean.isnan().all()
    with pytest.raises(DivergenceError, match="is not finite"):
        World(model).decode(far)


def test_the_squared_error_has_the_gradient_of_its_definition():
    emission = GaussianEmission(torch.nn.Linear(3, 4), 4).double()
    draw = torch.Generator().manual_seed(0)
    state, frame = (
        torch.randn(2, 5, size, generator=draw, dtype=torch.float64, requires_grad=True)
        for size in (3, 4)
    )
    assert torch.autograd.gradcheck(lambda z, x: emission.compare(z, x).distortion, (state, frame))
    expected = (frame - emission.mean(state)).square().sum(-1)
    torch.testing.assert_close(emission.compare(state, frame).distortion, expected)


@pytest.mark.parametrize("encoder", ["dense", "conv"])
def test_a_bernoulli_model_gives_pixels_and_finite_terms(encoder):
    model = tiny_model(PIXELS, BOX, codec={"emission": "bernoulli", "encoder": encoder})
    batch = random_batch(PIXELS, BOX)
    terms = model.terms(batch, generator())
    frames = model.scale_observations(batch.observations)
    expected = model.emit(terms.states).log_prob(frames).sum(-1)
    torch.testing.assert_close(terms.reconstruction, expected, atol=1e-3, rtol=1e-4)
    assert (terms.reconstruction < 0).all() and terms.unevenness > 0
    mean = model.emit(terms.states).mean
    assert mean.min() > 0 and mean.max() < 1


def halves(seed: int):
    """Episodes in which either the upper or the lower half stays white."""
    batch = random_batch(PIXELS, BOX, size=16, seed=seed)
    batch.observations[:] = 0
    batch.observations[::2, :, :4] = 255
    batch.observations[1::2, :, 4:] = 255
    return batch


@pytest.mark.parametrize("objective", ["constrained", "elbo"])
def test_black_and_white_is_learned_by_either_objective(objective, tmp_path):
    data = as_dataset(PIXELS, BOX, train=halves(0), validation=halves(1))
    config = TrainConfig(
        updates=100,
        batch_size=16,
        window=6,
        warmup_steps=1,
        learning_rate=1e-2,
        validate_every=50,
        objective=objective,
        constrained=ConstrainedConfig(min_multiplier=60.0, flatness=13.0),
        tensorboard=False,
    )
    model = tiny_model(
        PIXELS, BOX, codec={"emission": "bernoulli", "encoder": "dense", "hidden": 32}
    )
    world = Trainer(model, data, config, tmp_path).fit(progress=False)
    seen = data.validation.observations.numpy()
    drawn = world.decode(world.filter(seen, data.validation.actions.numpy()))
    # A model that has learned nothing is off by 127.
    assert abs(drawn.astype(int) - seen).mean() < 60


def test_what_is_not_between_black_and_white_stays_gaussian():
    model = tiny_model(VECTOR, BOX, codec={"emission": "bernoulli", "encoder": "dense"})
    assert isinstance(model.emission, GaussianEmission)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("codec", "emission"),
        ("codec", "encoder"),
        ("recognition", "kind"),
        ("transition", "kind"),
        ("transition", "gate"),
    ],
)
def test_a_choice_that_there_is_not_is_refused(part, name):
    config = getattr(tiny_config(), part)
    object.__setattr__(config, name, "poisson")  # past the tests' own type checker
    with pytest.raises(ConfigError, match=rf"{name} must be one of .*got 'poisson'"):
        config.__post_init__()
