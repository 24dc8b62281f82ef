"""An actor and a critic that learn in the dream, and go on learning when the dream is refitted.

The actor ascends the gradient of imagined lambda-returns through the model; what comes after the
horizon is estimated by a slowly moving copy of the critic, which learns from the same returns.
Choices have no gradient: those become likelier after which more is paid than the critic believed
(REINFORCE), numbers beside them learn by theirs. Passed straight through to the choices'
probabilities, gradients are wrong where one choice more or less decides: poles that had been
balanced in the dream fell again the longer it was learned in.

Source: Hafner et al. 2020, "Dream to Control: Learning Behaviors by Latent Imagination" (lambda-
returns through the model); Hafner et al. 2021, "Mastering Atari with Discrete World Models" (slow
critic, entropy, choices by REINFORCE); Hafner et al. 2023, "Mastering Diverse Domains through
World Models" (returns in units of their range between the 5th and 95th percentile); the pathwise
derivative of a short horizon and a value is SVG(k) of Heess et al. 2015; both kinds in one sum is
Schulman et al. 2015, "Gradient Estimation Using Stochastic Computation Graphs". Differs: the critic
is regressed on one number, and leaving the support is an end that pays the least from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.learner import ActorCritic
from agents.policy import Policy
from agents.starts import known_states, sample_states
from worldmodel.errors import (
    ConfigError,
    DivergenceError,
    SpecError,
    require_at_least,
    require_finite,
    require_fraction,
    require_positive,
)
from worldmodel.progress import track
from worldmodel.types import Belief
from worldmodel.world.dynamics import Dynamics, Goal, SupportRule
from worldmodel.world.world import World

# Percentiles of the returns whose distance is their unit, and how slowly it moves.
_RANGE, _RANGE_DECAY = (0.05, 0.95), 0.99


@dataclass(frozen=True)
class ActorCriticConfig:
    """How actor and critic learn.

    Attributes:
        updates: Gradient updates of both.
        batch_size: Imagined trajectories per update.
        horizon: Steps per trajectory.
        discount: Of rewards, per step.
        trace: Lambda: 0 trusts the critic after one step, 1 only at the horizon.
        learning_rate: Of Adam.
        critic_learning_rate: Likewise, of the critic's.
        slow: Fraction by which the slow critic follows in an update.
        entropy: What a nat of the policy's entropy is worth, in units of the returns' range.
        saturation: What numbers cost, likewise, before tanh bounds them: times the square of how
            far they are beyond 2. Where tanh is flat no gradient comes back from the dream: a
            policy that has learned extremes while the model was wrong cannot leave them.
        max_grad_norm: Greatest norm of a gradient.
        ood_penalty: Reward lost per step and radius of distance outside the support.
        ood_radius: Distance, in radii from the nearest centre, at which a trajectory ends.
        noise_scale: Factor on the process noise.
        hidden: Units of each of two hidden layers, of both networks.
        seed: Of initial weights, start states and process noise.
    """

    updates: int = 300
    batch_size: int = 128
    horizon: int = 12
    discount: float = 0.98
    trace: float = 0.95
    learning_rate: float = 2e-3
    critic_learning_rate: float = 2e-3
    slow: float = 0.02
    entropy: float = 1e-3
    saturation: float = 1e-2
    max_grad_norm: float = 1.0
    ood_penalty: float = 0.3
    ood_radius: float = 3.0
    noise_scale: float = 1.0
    hidden: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(0, updates=self.updates)
        require_at_least(1, batch_size=self.batch_size, horizon=self.horizon, hidden=self.hidden)
        require_at_least(0, seed=self.seed)
        require_fraction(discount=self.discount, trace=self.trace, slow=self.slow)
        rates = ("learning_rate", "critic_learning_rate", "noise_scale")
        prices = ("entropy", "saturation", "ood_penalty")
        require_finite(0, **{name: getattr(self, name) for name in rates + prices})
        require_positive(max_grad_norm=self.max_grad_norm, ood_radius=self.ood_radius)
        if self.discount == 1:
            raise ConfigError("discount must be less than 1, got 1")


class Imagined(NamedTuple):
    """Trajectories that the policy dreamt, differentiable in its numbers; H is the horizon.

    Attributes:
        states: (batch, H + 1, latent).
        rewards: (batch, H).
        goes_on: (batch, H), the chance that it goes on after a step.
        entropies: (batch, H), of the policy.
        beyond: (batch, H), ``Drawn.beyond``.
        likelihoods: (batch, H), ``Drawn.likelihood``.
    """

    states: Tensor
    rewards: Tensor
    goes_on: Tensor
    entropies: Tensor
    beyond: Tensor
    likelihoods: Tensor


def train_actor_critic(
    world: World,
    config: ActorCriticConfig,
    starts: Belief | None = None,
    learner: ActorCritic | None = None,
    progress: bool = True,
    goal: Goal | None = None,
) -> tuple[ActorCritic, list[float]]:
    """Train actor and critic in the dream, or train them on.

    Args:
        world: With a fitted support; it may have been refitted since the last training.
        config: How to train.
        starts: Beliefs (n, latent) that trajectories begin at (``agents.starts``); by default
            states of the training data.
        learner: What an earlier training gave, which is changed; None begins anew. Its networks
            keep their sizes and its generator goes on, whatever ``config`` says.
        progress: Whether to show a progress bar.
        goal: What to collect; the task by default.

    Returns:
        The learner, and the mean imagined lambda-return of every update.

    Raises:
        SpecError: The support is not fitted, the learner is of another world, or there is no goal
            and the data had no rewards.
        DivergenceError: The imagined returns are not finite.
    """
    _require_support(world)
    if goal is None:
        world.require_reward()
    learner = learner or ActorCritic.begin(world, config.hidden, config.seed)
    _require_same(learner.policy, world)
    for optimizer, rate in zip(
        learner.optimizers, (config.learning_rate, config.critic_learning_rate), strict=True
    ):
        for group in optimizer.param_groups:
            group["lr"] = rate
    starts = starts or known_states(world)
    dynamics = Dynamics(world, SupportRule(config.ood_penalty, config.ood_radius), goal)
    learner.policy.train()
    history = [
        _update(learner, dynamics, starts, config)
        for _ in track(range(config.updates), "agent", disable=not progress)
    ]
    learner.policy.eval()
    return learner, history


def lambda_returns(
    rewards: Float[Tensor, "batch steps"],
    goes_on: Float[Tensor, "batch steps"],
    values: Float[Tensor, "batch steps"],
    discount: float,
    trace: float,
) -> Float[Tensor, "batch steps"]:
    """R_t = r_t + discount c_t ((1 - trace) v_{t+1} + trace R_{t+1}), R_{H-1} bootstrapped by v_H.

    Args:
        rewards: r_t, paid on arrival.
        goes_on: c_t, the chance that the episode goes on after that.
        values: v_{t+1}, of the state arrived at.
        discount: Per step.
        trace: Lambda.

    Source: Sutton and Barto 2018, eq. 12.18; Hafner et al. 2021, eq. 4.
    """
    following, returns = values[:, -1], []
    for t in reversed(range(rewards.shape[1])):
        mixed = (1 - trace) * values[:, t] + trace * following
        following = rewards[:, t] + discount * goes_on[:, t] * mixed
        returns.append(following)
    return torch.stack(returns[::-1], 1)


def imagine(
    learner: ActorCritic, dynamics: Dynamics, start: Tensor, config: ActorCriticConfig
) -> Imagined:
    """Trajectories of the policy from given states.

    One that leaves the support too far stands still from there on; it is paid at once what the
    least reward would come to for ever.
    """
    policy, model, generator = learner.policy, dynamics.model, learner.generator
    never = dynamics.goal.outside / (1 - config.discount)
    chooses = torch.from_numpy(policy.chooses).to(start.device)
    states, noises, lists = [start], [], ([], [], [], [], [])
    with torch.set_grad_enabled(not chooses.all()):
        for _ in range(config.horizon):
            state = states[-1]
            noises.append(policy.noise(len(state), generator))
            drawn = policy.sample(state, noises[-1])
            controls = torch.where(chooses, drawn.controls.detach(), drawn.controls)
            noise = torch.randn(
                len(state),
                model.noise_size,
                generator=generator,
                device=state.device,
                dtype=state.dtype,
            )
            step = dynamics.step(state, controls, config.noise_scale * noise)
            lost = ~(step.distance <= config.ood_radius)
            ends = step.logit.sigmoid()
            arrived = (
                torch.where(lost, never, step.reward),
                torch.where(lost, 0.0, 1 - ends),
                *drawn[1:],
            )
            for kept, value in zip(lists, arrived, strict=True):
                kept.append(value)
            states.append(torch.where(lost.unsqueeze(1), state.detach(), step.next_state))
    dreamt = Imagined(torch.stack(states, 1), *(torch.stack(kept, 1) for kept in lists))
    if not chooses.all():
        return dreamt
    # Where no gradient comes through the dream, the policy is asked once about all of it.
    again = policy.sample(dreamt.states[:, :-1].flatten(0, 1), torch.stack(noises, 1).flatten(0, 1))
    return Imagined(*dreamt[:3], *(each.view_as(dreamt.rewards) for each in again[1:]))


def _update(
    learner: ActorCritic, dynamics: Dynamics, starts: Belief, config: ActorCriticConfig
) -> float:
    start = sample_states(starts, config.batch_size, learner.generator)
    dreamt = imagine(learner, dynamics, start, config)
    if learner.range.isnan():
        _set_unit(learner, dreamt, config)
    values = learner.slow(dreamt.states[:, 1:])
    returns = lambda_returns(dreamt.rewards, dreamt.goes_on, values, config.discount, config.trace)
    if not returns.isfinite().all():
        raise DivergenceError("the imagined returns are not finite")
    # How much a step counts: as much as it is likely to be reached.
    reached = (config.discount * dreamt.goes_on[:, :-1].detach()).cumprod(1)
    weights = torch.cat([torch.ones_like(returns[:, :1]), reached], 1)
    _move_range(learner, returns.detach())
    believed = learner.critic(dreamt.states[:, :-1].detach())
    better = (returns - believed).detach() / learner.range
    worth = returns / learner.range + better * dreamt.likelihoods
    worth = worth + config.entropy * dreamt.entropies - config.saturation * dreamt.beyond
    _ascend(learner.optimizers[0], (weights * worth).mean(), learner.policy, config)
    error = (believed - returns.detach()) / learner.critic.unit
    loss = nn.functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")
    _ascend(learner.optimizers[1], -(weights * loss).mean(), learner.critic, config)
    with torch.no_grad():
        for ours, theirs in zip(
            learner.slow.parameters(), learner.critic.parameters(), strict=True
        ):
            ours.lerp_(theirs, config.slow)
    return returns[:, 0].mean().item()


def _ascend(
    optimizer: torch.optim.Optimizer, gain: Tensor, network: nn.Module, config: ActorCriticConfig
) -> None:
    optimizer.zero_grad()
    (-gain).backward()
    nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
    optimizer.step()


@torch.no_grad()
def _set_unit(learner: ActorCritic, dreamt: Imagined, config: ActorCriticConfig) -> None:
    """Values begin at what the first rewards would come to for ever, in units of their spread."""
    for_ever = dreamt.rewards.mean(1) / (1 - config.discount)
    unit = for_ever.std().clamp_min(1e-3 * for_ever.abs().mean()).clamp_min(1e-6)
    for critic in (learner.critic, learner.slow):
        critic.offset.copy_(for_ever.mean())
        critic.unit.copy_(unit)


@torch.no_grad()
def _move_range(learner: ActorCritic, returns: Tensor) -> None:
    low, high = returns.quantile(torch.tensor(_RANGE, device=returns.device))
    now = (high - low).clamp_min(1e-2 * learner.critic.unit)
    first = learner.range.isnan()
    learner.range = torch.where(first, now, learner.range.lerp(now, 1 - _RANGE_DECAY))


def _require_support(world: World) -> None:
    if not world.support.fitted:
        raise SpecError("the support is not fitted; call world.support.fit first")


def _require_same(policy: Policy, world: World) -> None:
    ours = len(policy.mean), policy.actions.size
    theirs = world.model.latent_size, world.model.action_spec.size
    if ours != theirs:
        raise SpecError(
            f"the learner acts with {ours[1]} numbers on {ours[0]} latent dimensions; "
            f"the model has {theirs[1]} and {theirs[0]}"
        )
