"""A policy trained by back-propagating the return through the model.

The dream is differentiable in the action, so the gradient of an imagined return with respect to
the policy's weights is exact up to the model's error: no critic and no likelihood ratio are needed.
Discrete actions are one-hot vectors that the model interpolates; they are sampled by the Gumbel
trick and the gradient is passed straight through to their probabilities.

Source: the pathwise derivative of Heess et al. 2015, "Learning Continuous Control Policies by
Stochastic Value Gradients", SVG(infinity), here on imagined rather than real noise; for discrete
actions Jang et al. 2017, "Categorical Reparameterization with Gumbel-Softmax". Differs: termination
discounts what comes after it by its probability, so that the return is differentiable in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from rich.progress import track
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from worldmodel.errors import FileFormatError, SpecError
from worldmodel.files import write_whole
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.world.world import World


@dataclass(frozen=True)
class PathwiseConfig:
    """How the policy is trained.

    Attributes:
        updates: Gradient updates.
        batch_size: Imagined trajectories per update.
        horizon: Steps per trajectory.
        discount: Of rewards, per step.
        learning_rate: Of Adam; decays linearly to a tenth.
        clip_norm: Greatest norm of the gradient.
        astray_cost: Reward lost per step and radius of distance outside the data's support.
        give_up: Distance, in radii from the nearest centre, at which a trajectory ends.
        noise_scale: Factor on the process noise. 0 is the dream's mean; more than 1 asks for a
            policy that bears the model's errors too.
        hidden: Units of each of the policy's two hidden layers.
        seed: Of initial weights, start states and process noise.
    """

    updates: int = 300
    batch_size: int = 64
    horizon: int = 25
    discount: float = 0.97
    learning_rate: float = 1e-2
    clip_norm: float = 1.0
    astray_cost: float = 0.3
    give_up: float = 3.0
    noise_scale: float = 2.0
    hidden: int = 64
    seed: int = 0


def suited_config(world: World) -> PathwiseConfig:
    """Settings to start from, by what the model observes and how it is controlled.

    Models of vectors are sharp, so that longer trajectories are worth following; and what they do
    not know begins closer to the data, so that the policy had better stay near them. The gradient
    of a Box action through unstable dynamics grows with the horizon, where that of a discrete
    action's probability is tamed by the sampling: hence the shorter horizon.
    """
    if world.model.observation_spec.pixels:
        return PathwiseConfig()
    box = world.model.action_spec.kind == "box"
    return PathwiseConfig(
        updates=400,
        horizon=40 if box else 100,
        discount=0.99 if box else 0.995,
        learning_rate=5e-3,
        astray_cost=2.0,
        give_up=1.5,
        noise_scale=1.0 if box else 0.5,
    )


class Policy(nn.Module):
    """Deterministic policy on the latent state: bounded by tanh to a Box, or one-hot.

    Args:
        shift: (latent,), subtracted from the state.
        spread: (latent,), which it is then divided by.
        low: (act,), least action in the environment's units; zeros if discrete.
        high: (act,), greatest action; ones if discrete.
        hidden: Units of each hidden layer.
        kind: "box" or "discrete".
    """

    shift: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        shift: Tensor,
        spread: Tensor,
        low: Tensor,
        high: Tensor,
        hidden: int,
        kind: Literal["box", "discrete"] = "box",
    ) -> None:
        super().__init__()
        self.kind = kind
        for name, value in (("shift", shift), ("spread", spread), ("low", low), ("high", high)):
            self.register_buffer(name, value.clone())
        self.network = nn.Sequential(
            nn.Linear(len(shift), hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, len(low)),
        )

    def forward(
        self,
        state: Float[Tensor, "batch latent"],
        noise: Float[Tensor, "batch act"] | None = None,
    ) -> Float[Tensor, "batch act"]:
        """Model actions, in the environment's units or one-hot.

        Args:
            state: Latent states.
            noise: Gumbel draws that choose among discrete actions; None takes the likeliest. A Box
                has no use for them.
        """
        out = self.network((state - self.shift) / self.spread)
        if self.kind == "box":
            return self.low + (out.tanh() + 1) * (self.high - self.low) / 2
        chances = (out if noise is None else out + noise).softmax(1)
        chosen = nn.functional.one_hot(chances.argmax(1), out.shape[1])
        return chosen + (chances - chances.detach())

    @torch.no_grad()
    def predict(
        self, observation: Float[np.ndarray, "*batch latent"], deterministic: bool = True
    ) -> tuple[np.ndarray, None]:
        """Act on latent observations; the signature is that of Stable-Baselines3's policies.

        Args:
            observation: Of a latent environment or a filtered real one.
            deterministic: Ignored: this policy always is.

        Returns:
            Actions (*batch, act), or indices (*batch,) if discrete; and None.
        """
        states = torch.as_tensor(np.atleast_2d(observation), dtype=self.low.dtype)
        actions = self(states).numpy()
        if self.kind == "discrete":
            actions = actions.argmax(1)
        return (np.asarray(actions[0]) if np.ndim(observation) == 1 else actions), None

    def save(self, path: str | Path) -> None:
        """Write weights and sizes to one safetensors file, whole or not at all."""
        hidden = str(self.network[0].out_features)
        metadata = {"format": "worldmodel-policy", "hidden": hidden, "kind": self.kind}
        write_whole(path, serialize(self.state_dict(), metadata))

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Read what ``save`` wrote.

        Raises:
            FileFormatError: The file is truncated, corrupt or foreign.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}
            if metadata.get("format") != "worldmodel-policy":
                raise FileFormatError(f"{path} is not a policy: its metadata are {metadata}")
            boxes = (weights[name] for name in ("shift", "spread", "low", "high"))
            policy = cls(*boxes, hidden=int(metadata["hidden"]), kind=metadata["kind"])
            policy.load_state_dict(weights)
        except FileFormatError:
            raise
        except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise FileFormatError(f"{path} is truncated or corrupt: {error}") from error
        return policy.eval()


@dataclass(frozen=True)
class Goal:
    """What is to be collected along imagined trajectories, differentiable in all it depends on.

    Attributes:
        reward: (state, action, next state) to (batch,).
        least: Below it no reward is believed; who leaves the data's support earns it, or nothing
            if it is positive.
        greatest: Above it no reward is believed.
    """

    reward: Callable[[Tensor, Tensor, Tensor], Tensor]
    least: float
    greatest: float


def task_of(world: World) -> Goal:
    """The recorded reward, as the model has learned it."""
    return Goal(world.model.reward, *world.model.reward_range)


def train_policy(
    world: World,
    config: PathwiseConfig,
    progress: bool = True,
    goal: Goal | None = None,
) -> tuple[Policy, list[float]]:
    """Train a policy in the dream alone.

    Trajectories start at states of the training data. Every reward counts with the probability
    that the imagined episode has not yet terminated. Outside the data's support distance costs, and
    its gradient leads back; too far outside the trajectory is given up and every further step earns
    the worst reward recorded, or nothing if all were positive. So no policy is drawn to where the
    model guesses.

    Args:
        world: With a fitted support.
        config: How to train.
        progress: Whether to show a progress bar.
        goal: What to collect; the task by default.

    Returns:
        The policy, and the mean imagined reward per step of every update.

    Raises:
        SpecError: The support is not fitted.
    """
    if not world.support.fitted:
        raise SpecError("the support is not fitted; call world.support.fit first")
    generator = torch.Generator(world.model.device).manual_seed(config.seed)
    policy, goal = _build(world, config), goal or task_of(world)
    optimizer = torch.optim.Adam(policy.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, config.updates)
    history = []
    for _ in track(range(config.updates), "agent", disable=not progress):
        rewards = imagined_rewards(world, policy, config, generator, goal)
        discount = config.discount ** torch.arange(config.horizon, device=world.model.device)
        loss = -(rewards * discount).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), config.clip_norm)
        optimizer.step()
        schedule.step()
        history.append(rewards.mean().item())
    return policy.eval(), history


def imagined_rewards(
    world: World,
    policy: Policy,
    config: PathwiseConfig,
    generator: torch.Generator,
    goal: Goal,
) -> Float[Tensor, "batch horizon"]:
    """Rewards along trajectories from random states of the data, differentiable in the policy."""
    model, size = world.model, config.batch_size
    discrete = model.action_spec.kind == "discrete"
    known, device = world.support.states, model.device
    state = known[torch.randint(len(known), (size,), generator=generator, device=device)]
    lost = torch.zeros(size, dtype=torch.bool, device=device)
    alive = torch.ones(size, device=device)
    rewards = []
    for _ in range(config.horizon):
        noise = torch.randn(size, model.noise_size, generator=generator, device=device)
        noise = config.noise_scale * noise
        action = policy(state, _gumbel(size, model, generator) if discrete else None)
        arrived = world.transition(state, action, noise)
        distance = world.support.distance(arrived)
        lost = lost | ~(distance < config.give_up)
        reward = goal.reward(state, action, arrived).clamp(goal.least, goal.greatest)
        reward = reward - config.astray_cost * (distance - 1).clamp_min(0)
        rewards.append(alive * torch.where(lost, min(goal.least, 0.0), reward))
        if model.can_terminate:
            ended = model.termination(arrived).sigmoid()
            alive = torch.where(lost, alive.detach(), alive * (1 - ended))
        # A state that is given up stands still, so that none runs off to infinity and back
        # through the gradient.
        state = torch.where(lost.unsqueeze(1), state.detach(), arrived)
    return torch.stack(rewards, 1)


def _gumbel(size: int, model: StateSpaceModel, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(size, model.action_spec.size, generator=generator, device=model.device)
    return -(-uniform.clamp_min(1e-20).log()).log()


def _build(world: World, config: PathwiseConfig) -> Policy:
    known = world.support.states
    spec = world.model.action_spec
    low, high = (torch.tensor(v, device=world.model.device) for v in (spec.low, spec.high))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        policy = Policy(known.mean(0), known.std(0), low, high, config.hidden, spec.kind)
    return policy.to(world.model.device)
