"""An agent without a reward: it seeks the states in which its actions matter most.

Empowerment is computed inside the learned world, of states that the data showed; value iteration
finds what to do in each of them to have as much of it as possible from then on; and a policy
is distilled from that. Nothing of it looks at a recorded reward.

Source: Karl et al. 2019, "Unsupervised Real-Time Control through Variational Empowerment", whose
policy ascends the sum of empowerment through a learned model. Differs: the sum is maximised by
value iteration, since its gradient leads into the nearest of many optima, such as a pendulum's
spinning; and the model is kept on its data (``worldmodel/world/denoiser.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from agents.empowerment.dynamics import Dynamics, dynamics_of, on_its_data
from agents.empowerment.gaussian import GaussianEmpowerment, Noise
from agents.empowerment.sampled import SampledEmpowerment
from agents.policy import Policy
from agents.value_iteration import Lookahead, iterate_values
from worldmodel.errors import SpecError, require_at_least, require_choices, require_fraction
from worldmodel.progress import track
from worldmodel.spaces import ActionSpace
from worldmodel.world.denoiser import DenoiserConfig
from worldmodel.world.dynamics import Dynamics as Dream
from worldmodel.world.dynamics import Goal
from worldmodel.world.world import World

EstimatorName = Literal["gaussian", "sampled"]
ESTIMATORS = {"gaussian": GaussianEmpowerment, "sampled": SampledEmpowerment}

# Nobody asks what the environment would pay.
_NOTHING = Goal(lambda state, action, next_state: state.new_zeros(len(state)), 0.0, 0.0)


@dataclass(frozen=True)
class EmpoweredConfig:
    """How the agent is trained.

    Attributes:
        estimator: "gaussian", linearised, sees what unstable dynamics do for small actions;
            "sampled", regressed on random actions, what walls and other bends do to large ones.
        steps: Actions in a sequence, n, of the empowerment.
        noise: Which noise counts.
        states: How many states values are found for.
        actions: How many values of each action component are tried.
        discount: Of empowerment, per step.
        samples: Draws of the dream's noise in every state under every action.
        rounds: How often the policy's own states in the dream are added to what it learns from.
        updates: Gradient updates of the policy in every round.
        hidden: Units of each of its two hidden layers.
        denoiser: How the dream is kept on its data; its seed is ``seed``.
        seed: Of everything random.
    """

    estimator: EstimatorName = "gaussian"
    steps: int = 10
    noise: Noise = field(default_factory=Noise)
    states: int = 4096
    actions: int = 9
    discount: float = 0.97
    samples: int = 4
    rounds: int = 4
    updates: int = 1000
    hidden: int = 64
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("steps", "states", "samples", "rounds", "updates", "hidden")
        require_at_least(1, **{name: getattr(self, name) for name in counts})
        require_at_least(2, actions=self.actions)
        require_at_least(0, seed=self.seed)
        require_fraction(discount=self.discount)
        require_choices(self)


@dataclass(frozen=True)
class Empowered:
    """A trained agent, and what it was trained on.

    Attributes:
        policy: On latent states.
        teacher: What the policy is distilled from; its values are mean discounted empowerment
            from each state on, nats.
        nats: (n,), empowerment of the teacher's states.
        dynamics: The dream that both have lived in.
    """

    policy: Policy
    teacher: Lookahead
    nats: Float[Tensor, " n"]
    dynamics: Dynamics


@torch.no_grad()
def train_empowered(
    world: World, config: EmpoweredConfig = EmpoweredConfig(), progress: bool = True
) -> Empowered:
    """Train an agent on its empowerment alone, in the dream alone.

    Args:
        world: With a fitted support.
        config: How.
        progress: Whether to show progress bars.

    Raises:
        SpecError: The support is not fitted, or the actions are discrete.
    """
    if not world.support.fitted:
        raise SpecError("the support is not fitted; call world.support.fit first")
    known = world.support.states
    device = known.device
    generator = torch.Generator(device).manual_seed(config.seed)
    kept = on_its_data(world, replace(config.denoiser, seed=config.seed), progress)
    dynamics, dream, denoiser = dynamics_of(kept), Dream(kept, goal=_NOTHING), kept.denoiser
    assert denoiser is not None
    rows = torch.arange(config.states, device=device) % len(known)
    noise = torch.randn(config.states, known.shape[1], generator=generator, device=device)
    states = denoiser(known[rows] + config.denoiser.noise * denoiser.std * noise)
    estimator = ESTIMATORS[config.estimator](dynamics, config.steps, config.noise)
    parts = track(states.split(256), "empowerment", disable=not progress)
    nats = torch.cat([estimator(part) for part in parts])

    def step(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        arrived = dream.step(state, action, dream.draw(1, len(state), generator)[0].T)
        return arrived.next_state, arrived.inside & ~arrived.terminated

    grid = _grid(dynamics, config.actions)
    rewarded = Lookahead(step, grid, states, nats, config.samples)
    teacher = iterate_values(rewarded, config.discount)
    policy = _distill(teacher, world.model.action_spec, dynamics, config, generator, progress)
    return Empowered(policy, teacher, nats, dynamics)


def _grid(dynamics: Dynamics, values: int) -> Float[Tensor, "m act"]:
    """All combinations of equally spaced values of every action component."""
    ranges = (
        torch.linspace(float(low), float(high), values, device=dynamics.low.device)
        for low, high in zip(dynamics.low, dynamics.high, strict=True)
    )
    return torch.cartesian_prod(*ranges).view(-1, len(dynamics.low))


def _distill(
    teacher: Lookahead,
    space: ActionSpace,
    dynamics: Dynamics,
    config: EmpoweredConfig,
    generator: torch.Generator,
    progress: bool,
) -> Policy:
    """A policy that acts like its teacher, where the one and the other lead it.

    Source: Ross, Gordon and Bagnell 2011, "A Reduction of Imitation Learning and Structured
    Prediction to No-Regret Online Learning" (DAgger).
    """
    low, high, states = dynamics.low, dynamics.high, teacher.states
    half = torch.where(dynamics.half > 0, dynamics.half, 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        policy = Policy(states.mean(0), states.std(0), space, low, high, config.hidden)
    policy.to(states.device)
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.rounds * config.updates)
    actions = teacher(states)
    for done in track(range(config.rounds), "policy", disable=not progress):
        if done:
            visited = _rollout_policy(policy, teacher, len(teacher.states), generator)
            states, actions = torch.cat([states, visited]), torch.cat([actions, teacher(visited)])
        for _ in range(config.updates):
            rows = torch.randint(len(states), (256,), generator=generator, device=states.device)
            with torch.enable_grad():
                error = (policy(states[rows]) / 2 - actions[rows] / 2) / half
                loss = error.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return policy.eval()


def _rollout_policy(
    policy: Policy, teacher: Lookahead, count: int, generator: torch.Generator, steps: int = 64
) -> Float[Tensor, "count latent"]:
    """States that a policy comes to in the dream, as far as they are to be believed."""
    known = teacher.states

    def draw(n: int) -> Tensor:
        return torch.randint(len(known), (n,), generator=generator, device=known.device)

    state = known[draw(1 + count // steps)]
    visited = []
    for _ in range(steps):
        state, alive = teacher.step(state, policy(state))
        fresh = known[draw(len(state))]
        state = torch.where(alive.unsqueeze(1), state, fresh)
        visited.append(state)
    return torch.cat(visited)[:count]
