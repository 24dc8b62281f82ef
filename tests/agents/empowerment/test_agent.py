from dataclasses import replace

import pytest
import torch
from linear_model import BOX, LinearModel, fit_support
from small import DISCRETE, generator, tiny_model
from torch.distributions import Normal

from agents.empowerment import EmpoweredConfig, Noise, on_its_data, train_empowered
from worldmodel.errors import ConfigError, SpecError
from worldmodel.world.denoiser import DenoiserConfig
from worldmodel.world.world import World

SMALL = EmpoweredConfig(
    steps=2,
    noise=Noise(0.1, frames=1),
    states=400,
    actions=3,
    samples=1,
    rounds=2,
    updates=150,
    hidden=16,
    denoiser=DenoiserConfig(updates=100, hidden=16),
)


class Louder(LinearModel):
    """A point that is pushed along its first axis, and shows it the more the further right it is.

    Whoever asks for its reward fails.
    """

    def transition(self, state, action, noise=None):
        moved = state + action @ torch.tensor([[0.4, 0.0]])
        return moved if noise is None else moved + 0.02 * noise

    def emit(self, state):
        return Normal(state.exp()[:, :1].expand(-1, self.C.shape[1]) / 10, 0.05)

    def reward(self, state, action, next_state):
        raise AssertionError("nobody may look at a reward")

    @property
    def reward_range(self):
        raise AssertionError("nobody may look at a reward")


@pytest.fixture(scope="module")
def world():
    return fit_support(Louder().requires_grad_(False), 0.7)


@pytest.mark.parametrize("estimator", ["gaussian", "sampled"])
def test_it_goes_where_actions_matter_most_and_stays_with_the_data(world, estimator):
    trained = train_empowered(world, replace(SMALL, estimator=estimator), progress=False)
    right = trained.teacher.states[:, 0].argmax()
    assert trained.nats[right] > trained.nats.median()
    state = torch.stack([torch.linspace(-1.2, 0.8, 11), torch.zeros(11)], 1)
    with torch.no_grad():
        assert (trained.policy(state[:6]) > 0.5).all()
        for _ in range(30):
            state = world.transition(state, trained.policy(state))
    assert (state[:, 0] > 0.8).all() and world.support.inside(state).all()


def test_it_keeps_off_what_ends_an_episode(world):
    """Actions matter most to the right, and beyond 0.5 there is none left to take."""
    deadly = World(Louder().requires_grad_(False), world.support)
    deadly.model.can_terminate = True
    deadly.model.termination = lambda state: state[:, 0] - 0.5
    trained = train_empowered(deadly, SMALL, progress=False)
    state = torch.stack([torch.linspace(-1.2, 0.2, 8), torch.zeros(8)], 1)
    with torch.no_grad():
        for _ in range(30):
            state = deadly.transition(state, trained.policy(state))
            assert (state[:, 0] < 0.5).all()
    assert (state[:, 0] > -0.2).all()


def test_moves_of_its_denoiser_count_as_distance_beyond_honest_ones(world):
    kept = on_its_data(world, DenoiserConfig(noise=0.5, updates=800), progress=False)
    still = torch.zeros(1024, 1)
    _, distance = kept.arrive(world.support.states, still)
    assert (distance <= 1).float().mean() > 0.95
    far = 2 * kept.support.bounds()[1].expand(1024, -1)
    # As if all were inside: what is left is how far they are led back.
    kept.support.radius = kept.support.radius * 100
    assert kept.support.inside(world.transition(far, still)).all()
    assert (kept.arrive(far, still)[1] > 1).all()


def test_the_same_seed_gives_the_same_agent(world):
    probe = torch.randn(50, 2, generator=generator())
    brief = replace(SMALL, updates=5, denoiser=DenoiserConfig(updates=5, hidden=4))
    first, second, other = (
        train_empowered(world, replace(brief, seed=seed), progress=False) for seed in (3, 3, 4)
    )
    assert torch.equal(first.policy(probe), second.policy(probe))
    assert torch.equal(first.teacher.values, second.teacher.values)
    assert not torch.equal(first.policy(probe), other.policy(probe))


def test_what_cannot_be_is_refused():
    with pytest.raises(SpecError, match="support"):
        train_empowered(World(LinearModel(action_spec=BOX)), SMALL, progress=False)
    discrete = World(tiny_model(actions=DISCRETE))
    discrete.support.fit(torch.randn(300, 3), torch.randn(50, 3))
    with pytest.raises(SpecError, match="Box"):
        train_empowered(discrete, SMALL, progress=False)
    for bad in ({"states": 0}, {"actions": 1}, {"rounds": 0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            replace(SMALL, **bad)
