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

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.policy import Policy
from worldmodel.errors import (
    SpecError,
    require_at_least,
    require_finite,
    require_fraction,
    require_positive,
)
from worldmodel.progress import track
from worldmodel.world.dynamics import Dynamics, Goal, SupportRule, recorded_reward
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
        max_grad_norm: Greatest norm of the gradient.
        ood_penalty: Reward lost per step and radius of distance outside the support.
        ood_radius: Distance, in radii from the nearest centre, at which a trajectory ends.
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
    max_grad_norm: float = 1.0
    ood_penalty: float = 0.3
    ood_radius: float = 3.0
    noise_scale: float = 2.0
    hidden: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("updates", "batch_size", "horizon", "hidden")
        require_at_least(1, **{name: getattr(self, name) for name in counts})
        require_at_least(0, seed=self.seed)
        require_fraction(discount=self.discount)
        require_finite(0, ood_penalty=self.ood_penalty, noise_scale=self.noise_scale)
        require_finite(0, learning_rate=self.learning_rate)
        require_positive(max_grad_norm=self.max_grad_norm, ood_radius=self.ood_radius)


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
        SpecError: The support is not fitted, or there is no goal and the data had no rewards.
    """
    if not world.support.fitted:
        raise SpecError("the support is not fitted; call world.support.fit first")
    if goal is None:
        world.require_reward()
    generator = torch.Generator(world.model.device).manual_seed(config.seed)
    policy, goal = _build(world, config), goal or recorded_reward(world)
    optimizer = torch.optim.Adam(policy.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, config.updates)
    history = []
    for _ in track(range(config.updates), "agent", disable=not progress):
        rewards = imagined_rewards(world, policy, config, generator, goal)
        discount = config.discount ** torch.arange(config.horizon, device=world.model.device)
        loss = -(rewards * discount).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
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
    dynamics = Dynamics(world, SupportRule(config.ood_penalty, config.ood_radius), goal)
    known, device = world.support.states, model.device
    state = known[torch.randint(len(known), (size,), generator=generator, device=device)]
    lost = torch.zeros(size, dtype=torch.bool, device=device)
    alive = torch.ones(size, device=device)
    rewards = []
    for _ in range(config.horizon):
        noise = torch.randn(size, model.noise_size, generator=generator, device=device)
        action = policy(state, policy.noise(size, generator))
        step = dynamics.step(state, action, config.noise_scale * noise)
        lost = lost | ~(step.distance <= config.ood_radius)
        rewards.append(alive * torch.where(lost, goal.outside, step.reward))
        if model.can_terminate:
            alive = torch.where(lost, alive.detach(), alive * (1 - step.logit.sigmoid()))
        # A state that is given up stands still, so that none runs off to infinity and back
        # through the gradient.
        state = torch.where(lost.unsqueeze(1), state.detach(), step.next_state)
    return torch.stack(rewards, 1)


def _build(world: World, config: PathwiseConfig) -> Policy:
    known, model = world.support.states, world.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        policy = Policy(
            known.mean(0), known.std(0), model.action_spec, *model.control_range, config.hidden
        )
    return policy.to(model.device)
