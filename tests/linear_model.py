"""A linear-Gaussian model, small enough to reason about, and a real environment that it models."""

from __future__ import annotations

from typing import ClassVar

import gymnasium as gym
import numpy as np
import torch
from small import box, pixels
from torch.distributions import Normal

from worldmodel.models.codec import Codec, CodecConfig
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.types import Belief
from worldmodel.world.support import Support
from worldmodel.world.world import World

PIXELS = pixels(4, 4)
BOX = box(-1.0, 1.0)


class LinearModel(StateSpaceModel):
    """z' = F z + B u + 0.1 w; x = (z_1 everywhere above, z_2 everywhere below)."""

    latent_size = noise_size = 2
    can_terminate = True
    reward_range = (-4.0, 0.0)

    def __init__(self, observation_spec=PIXELS, action_spec=BOX, prior_scale=0.5, drift=1.0):
        super().__init__()
        self.observation_spec, self.action_spec = observation_spec, action_spec
        self.config, self.prior_scale = None, prior_scale
        # Not calibrated: pixels are scaled to [0, 1], vectors are left as they are.
        self.codec = Codec(observation_spec, CodecConfig("dense"))
        angle = torch.tensor(0.3)
        rotation = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
        self.F = torch.nn.Parameter(drift * rotation)
        control = torch.tensor([[0.3, 0.1]]).expand(action_spec.size, 2)
        self.register_buffer("B", control * torch.arange(1, action_spec.size + 1)[:, None])
        half = observation_spec.size // 2
        top = torch.cat([torch.ones(half), torch.zeros(observation_spec.size - half)])
        self.register_buffer("C", torch.stack([top, 1 - top]) / 4)

    def initial(self, observations, actions, seen=None):
        mean = self._read(observations[:, 0])
        return Belief(mean, torch.full_like(mean, 0.5))

    def initial_prior(self, n, generator):
        return self.prior_scale * torch.randn(n, 2, generator=generator)

    def update(self, belief, action, observation):
        predicted = self.transition(belief.mean, action)
        mean = predicted + 0.7 * (self._read(observation) - predicted)
        return Belief(mean, 0.5 * belief.scale + 0.1)

    def transition(self, state, action, noise=None):
        mean = state @ self.F.T + action @ self.B
        return mean if noise is None else mean + 0.1 * noise

    def emit(self, state):
        return Normal(state @ self.C + 0.5, 0.05)

    def reward(self, state, action, next_state):
        return -next_state.square().sum(-1) + 0.1 * action.sum(-1)

    def termination(self, next_state):
        return 4 * (next_state[..., 0] - 1.2)

    def terms(self, batch, generator, observed=None, prefix=None, unobserved_scale=1.0):
        raise AssertionError("the simulator never trains")

    def _read(self, observations):
        return (self.scale_observations(observations) - 0.5) @ self.C.T * 32 / self.C.shape[1]


def fit_support(model: LinearModel, scale: float) -> World:
    """Cover a Gaussian cloud; ``scale`` decides how soon a dream leaves it."""
    states = scale * torch.randn(
        4000, model.latent_size, generator=torch.Generator().manual_seed(1)
    )
    support = Support(2, centres=64)
    support.fit(states[:3000], states[3000:])
    return World(model, support)


class RealEnv(gym.Env):
    """The linear system without noise, observed through the model's own emission."""

    metadata: ClassVar = {"render_modes": []}

    def __init__(self, world: World):
        self.world, model = world, world.model
        self.observation_space = model.observation_spec.space()
        self.action_space = model.action_spec.space()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self._frame(), {}

    def step(self, action):
        low, high = self.action_space.low, self.action_space.high
        control = np.clip(action, low, high)[None]
        self.state = self.world.imagine(self.state[None], control[None])[0, 1]
        return self._frame(), -1.0, bool(self.state[0] > 1), False, {"state": self.state.copy()}

    def _frame(self):
        return self.world.decode(self.state)
