"""How many dimensions are used is known of systems that are mixed into more by hand."""

import pytest
import torch
from linear_model import LinearModel
from oscillator import SPECS, dataset, episodes, maximise_bound
from small import box, generator, random_batch, tiny_config, vector
from torch.distributions import Normal

import worldmodel
from worldmodel.data import SplitConfig, collect
from worldmodel.errors import DivergenceError
from worldmodel.evaluation.dimensions import used_dimensions
from worldmodel.models.dvbf import DVBF
from worldmodel.types import Belief


class Mixed(LinearModel):
    """Two dimensions that are seen, one that drives them, and two that nothing depends on.

    The last two move as much as any, of their own and after the others; all are mixed.
    """

    def __init__(self, driven=True, seen=1.0):
        super().__init__(vector(2), box(-1.0, 1.0))
        self.latent_size = self.noise_size = 5
        g = generator(0)
        self.mix = torch.linalg.qr(torch.randn(5, 5, generator=g)).Q
        self.mix *= torch.tensor([1.0, 2.0, 0.1, 3.0, 1.0])
        self.driven, self.seen = float(driven), seen

    def _moved(self, s, action):
        first, second, driver, own, follows = s.unbind(-1)
        push = action[..., 0]
        return torch.stack(
            [
                0.9 * first + 0.3 * second + 0.5 * self.driven * driver,
                0.9 * second - 0.3 * first,
                0.9 * driver + 0.3 * push,
                0.8 * own + push,
                0.5 * follows + first,
            ],
            -1,
        )

    def filter_beliefs(self, observations, actions, prefix=1, seen=None):
        s = [torch.randn(len(actions), 5, generator=generator(1))]
        for action in actions.unbind(1):
            s.append(self._moved(s[-1], action))
        mean = torch.stack(s, 1) @ self.mix.T
        return Belief(mean, torch.full_like(mean, 0.05))

    def transition(self, state, action, noise=None):
        return self._moved(state @ torch.linalg.inv(self.mix).T, action) @ self.mix.T

    def emit(self, state):
        return Normal(self.seen * (state @ torch.linalg.inv(self.mix).T)[..., :2], 0.05)


@pytest.mark.parametrize(
    ("model", "used"),
    [(Mixed(), 3), (Mixed(driven=False), 2), (Mixed(seen=0.0), 0)],
)
def test_what_predictions_do_not_depend_on_is_not_used(model, used):
    batch = random_batch(vector(2), box(-1.0, 1.0), 40, 50)
    assert used_dimensions(model, batch, generator()) == used


def test_what_a_belief_knows_exactly_is_used_too():
    class Sure(Mixed):
        def filter_beliefs(self, observations, actions, prefix=1, seen=None):
            beliefs = super().filter_beliefs(observations, actions)
            beliefs.scale[..., :3] = 0
            return beliefs

    batch = random_batch(vector(2), box(-1.0, 1.0), 40, 50)
    assert used_dimensions(Sure(), batch, generator()) == 3


@pytest.mark.parametrize("kind", ["network", "fusion"])
def test_a_roomy_model_of_an_oscillator_uses_two(kind, tmp_path):
    config = tiny_config(
        latent_size=8, recognition={"kind": kind, "hidden": 32}, codec={"hidden": 32}
    )
    model = DVBF(config, *SPECS, 0)
    maximise_bound(model, dataset(), tmp_path, updates=200, window=10, learning_rate=3e-3)
    assert used_dimensions(model.eval(), episodes(50, 40, 5), generator()) == 2


@pytest.mark.parametrize(("name", "used"), [("pendulum", 3), ("ball", 4)])
def test_bundled_models_use_as_many_as_their_systems_need(name, used):
    world = worldmodel.load(name)
    splits = {"test": SplitConfig(20, 60)}
    test = collect(world.require_source().env_id, splits=splits, num_envs=20, seed=3).test.padded()
    assert used_dimensions(world.model, test, generator()) == used


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_short_episodes_do(steps):
    batch = random_batch(vector(2), box(-1.0, 1.0), 40, steps)
    assert 0 < used_dimensions(Mixed(), batch, generator()) <= 5


def test_a_filter_that_diverges_is_named():
    class Diverged(Mixed):
        def filter_beliefs(self, observations, actions, prefix=1, seen=None):
            beliefs = super().filter_beliefs(observations, actions)
            beliefs.mean[0, 1] = torch.nan
            return beliefs

    batch = random_batch(vector(2), box(-1.0, 1.0), 4, 4)
    with pytest.raises(DivergenceError, match="1 of 12 latent states are not finite"):
        used_dimensions(Diverged(), batch, generator())
