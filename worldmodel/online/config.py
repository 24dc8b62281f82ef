"""Settings of learning online, and which of them suit what is observed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from agents.actor_critic import ActorCriticConfig
from agents.intrinsic import Intrinsic
from agents.planning import PlanningConfig
from agents.sac import SACConfig
from worldmodel.errors import ConfigError, require_at_least, require_choices, require_finite
from worldmodel.models.dvbf import DVBF
from worldmodel.models.learned import LearnedModel
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.systems.preset import GENERIC
from worldmodel.training.config import TrainConfig

# The constraint is tight when the first fit ends, and stays so.
_VECTORS_TRAIN = replace(
    GENERIC["vectors"].train,
    updates=500,
    batch_size=64,
    window=8,
    learning_rate=4e-3,
    lr_final_fraction=0.5,
    tensorboard=False,
    constrained=replace(GENERIC["vectors"].train.constrained, tighten_from=0.2, tighten_to=1.0),
)
# What lies beyond the data is where there is something to be learned: nothing keeps it away.
_AGENT = ActorCriticConfig(updates=150, ood_penalty=0.0, ood_radius=math.inf)
_PLANNING = PlanningConfig(ood_penalty=0.0, ood_radius=math.inf)

MethodName = Literal["actor-critic", "planner", "sac"]


@dataclass(frozen=True)
class OnlineConfig:
    """How a model and its agent grow.

    Attributes:
        seed_steps: Real steps under random actions before anything is learned, in whole episodes,
            at least two.
        held: Steps that a random action is held.
        round_steps: Real steps of a round at least, in whole episodes.
        num_envs: Environments that act side by side, one episode each at a time.
        parallel: Whether each runs in a process of its own; worth it if a step takes milliseconds.
        episode_steps: Steps of an episode at most; by default the environment's own limit, or 1000.
        method: Who acts: "actor-critic" (``agent``), a "planner" that searches at every step
            (``planning``), or Stable-Baselines3's "sac" (``sac``).
        planner: Which search.
        intrinsic: What is paid for beside the task while the actor and critic learn: "disagreement"
            about what comes next, or "empowerment" (of numbers, not of choices); "auto" is
            disagreement as long as no rewards and no ends tell anything, and then nothing.
        intrinsic_weight: Of that at first, in units of how much rewards vary.
        intrinsic_steps: Real steps over which it falls to nothing, linearly; "auto" does not fall.
        updates: Of the model in a round; ``train.updates`` are those of the first fit.
        agent_updates: Of actor and critic in a round; ``agent.updates`` are those of the first.
        replayed: Latest training episodes whose filtered beliefs imagined episodes begin at.
        noise: Deviation of what is added to an action at first, in half ranges, correlated in time;
            a choice is replaced by a random one that often.
        final_noise: The same at last.
        noise_steps: Real steps over which it falls, linearly.
        noise_correlation: From one step to the next.
        held_out: One group of episodes in so many is kept to validate with, the second first.
        evaluate_every: Rounds between evaluations without noise; 0 for none but the last.
        evaluate_episodes: Real episodes of each. They are no training data, and counted apart.
        film_every: Evaluations between films; 0 for none.
        timeout: Seconds after which an environment that does not answer is given up.
        train: Of the first fit. Afterwards its schedules stay where it ended.
        agent: Of actor and critic.
        planning: Of the planner.
        sac: Of SAC.
        seed: Of everything random, in place of those of ``train`` and ``agent``.
    """

    seed_steps: int = 1000
    held: int = 3
    round_steps: int = 200
    num_envs: int = 1
    parallel: bool = False
    episode_steps: int | None = None
    method: MethodName = "actor-critic"
    planner: Literal["mppi", "icem", "cem"] = "mppi"
    intrinsic: Intrinsic = "auto"
    intrinsic_weight: float = 1.0
    intrinsic_steps: int = 10_000
    updates: int = 60
    agent_updates: int = 60
    replayed: int = 24
    noise: float = 0.3
    final_noise: float = 0.15
    noise_steps: int = 5000
    noise_correlation: float = 0.8
    held_out: int = 10
    evaluate_every: int = 5
    evaluate_episodes: int = 10
    film_every: int = 1
    timeout: float = 60.0
    train: TrainConfig = _VECTORS_TRAIN
    agent: ActorCriticConfig = _AGENT
    planning: PlanningConfig = _PLANNING
    sac: SACConfig = field(default_factory=SACConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("seed_steps", "held", "round_steps", "num_envs", "updates", "agent_updates")
        more = ("replayed", "noise_steps", "evaluate_episodes", "intrinsic_steps")
        require_at_least(1, **{name: getattr(self, name) for name in counts + more})
        require_at_least(2, held_out=self.held_out)
        require_at_least(0, evaluate_every=self.evaluate_every, film_every=self.film_every)
        require_at_least(0, seed=self.seed)
        require_at_least(1, episode_steps=self.episode_steps or 1)
        require_finite(0, noise=self.noise, final_noise=self.final_noise, timeout=self.timeout)
        require_finite(0, intrinsic_weight=self.intrinsic_weight)
        require_choices(self)
        if self.intrinsic not in ("auto", "none") and self.method != "actor-critic":
            raise ConfigError(
                f"--intrinsic {self.intrinsic} is for --method actor-critic, got {self.method}"
            )
        if not 0 <= self.noise_correlation < 1:
            raise ConfigError(f"noise_correlation must lie in [0, 1), got {self.noise_correlation}")
        if self.train.dreaming.denoise:
            raise ConfigError(
                "a denoiser takes longer to fit than a round; train.dreaming.denoise must be 0, "
                f"got {self.train.dreaming.denoise}"
            )

    def noise_after(self, steps: int) -> float:
        """Deviation of exploration after so many real steps."""
        gone = min(max(steps - self.seed_steps, 0) / self.noise_steps, 1.0)
        return self.noise + gone * (self.final_noise - self.noise)

    def intrinsic_after(self, steps: int, silent: bool) -> float:
        """Weight of what is paid for beside the task.

        Args:
            steps: Real ones so far.
            silent: Whether nothing tells what the task is yet.
        """
        if self.intrinsic == "none" or self.method != "actor-critic":
            return 0.0
        if self.intrinsic == "auto":
            return self.intrinsic_weight * silent
        gone = max(steps - self.seed_steps, 0) / self.intrinsic_steps
        return self.intrinsic_weight * max(1 - gone, 0.0)

    def lasting(self) -> dict[str, Any]:
        """What a run cannot change when it goes on: all that a result depends on."""
        plain = asdict(self)
        del plain["train"]["tensorboard"]
        return {k: v for k, v in plain.items() if k not in ("timeout", "parallel", "film_every")}


def online_for(observations: ObservationSpace, actions: ActionSpace) -> OnlineConfig:
    """What suits what is observed, and how it is acted on.

    Pictures are fitted longer, on longer windows. Choices end episodes, as of a pole that falls:
    few are left to chance, the agent looks farther and keeps to the data.
    """
    config = OnlineConfig()
    if observations.preset != "vectors":
        # What a schedule ends at is what all later rounds learn by.
        changes = {
            "updates": 2000,
            "lr_final_fraction": 0.3,
            "dropout_until": 1.0,
            "tensorboard": False,
        }
        train = replace(GENERIC[observations.preset].train, **changes)
        config = replace(config, updates=200, train=train)
    if all(actions.continuous):
        return config
    agent = replace(GENERIC["vectors"].actor_critic(actions), updates=150)
    chances = {"held": 1, "noise": 0.1, "final_noise": 0.05}
    updates = max(config.updates, 100)
    return replace(config, updates=updates, agent_updates=200, agent=agent, **chances)


def usual_model(seed: int) -> Callable[[ObservationSpace, ActionSpace], LearnedModel]:
    """A DVBF of the generic preset of what is observed."""

    def build(observations: ObservationSpace, actions: ActionSpace) -> LearnedModel:
        settings = GENERIC[observations.preset].model("dvbf", observations)
        return DVBF(settings, observations, actions, seed)

    return build
