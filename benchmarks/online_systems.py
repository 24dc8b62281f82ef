"""What learning online is measured on: the system, the goal, and what others published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from worldmodel.data import Source, Wrapping
from worldmodel.data.environments import observed
from worldmodel.online.config import MethodName, OnlineConfig, online_for
from worldmodel.spaces import ActionSpace


@dataclass(frozen=True)
class Case:
    """A system, the clean return that is asked for, and within how many real steps.

    Attributes:
        source: Of the environment.
        goal: Least mean clean return.
        steps: Real steps in all.
        published: What others reach, after how many steps, and where it says so.
        changes: Of the default settings.
    """

    source: Source
    goal: float
    steps: int
    published: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def repeat(self) -> int:
        """Real steps that an agent's step takes."""
        return self.source.wrapping.frame_skip

    def settings(self, seed: int, method: MethodName) -> OnlineConfig:
        """The defaults of such a system but for the changes, judged after every round."""
        env = self.source.make()
        spaces = observed(env.observation_space), ActionSpace.from_space(env.action_space)
        env.close()
        judged = {"evaluate_every": 1, "evaluate_episodes": 10, "film_every": 0}
        config = replace(online_for(*spaces), seed=seed, method=method, **judged)
        return replace(config, **self.changes)


def _suite(task: str, repeat: int) -> Source:
    return Source(f"shimmy:dm_control/{task}-v0", wrapping=Wrapping(frame_skip=repeat))


_PIXELS = Wrapping(pixels=True)
# Where a pole is thin, and small angles decide.
_SHARP = Wrapping(pixels=True, resize=64)

CASES = {
    "Pendulum-v1": Case(
        Source("Pendulum-v1"), -160.0, 2000, "SAC -157 at 20,000 (RL Baselines3 Zoo)"
    ),
    "Pendulum-v1-pixels": Case(Source("Pendulum-v1", wrapping=_PIXELS), -200.0, 10_000),
    "CartPole-v1-pixels": Case(
        Source("CartPole-v1", wrapping=_SHARP),
        475.0,
        8000,
        "DreamerV3 500 near 8,000 steps, in three hours (sheeprl's issue 288)",
    ),
    "CartPole-v1": Case(Source("CartPole-v1"), 475.0, 5000, "threshold 475 (Gymnasium)"),
    "Acrobot-v1": Case(Source("Acrobot-v1"), -100.0, 10_000, "threshold -100 (Gymnasium)"),
    "MountainCarContinuous-v0": Case(
        Source("MountainCarContinuous-v0"),
        90.0,
        20_000,
        "threshold 90 (Gymnasium)",
        {"intrinsic": "disagreement"},
    ),
    "InvertedPendulum-v5": Case(
        Source("InvertedPendulum-v5"), 950.0, 10_000, "threshold 950 (Gymnasium)"
    ),
    "cartpole-swingup": Case(
        _suite("cartpole-swingup", 8), 800.0, 25_000, "TD-MPC2 839, SAC 835 at 100,000"
    ),
    "reacher-easy": Case(
        _suite("reacher-easy", 4), 937.0, 50_000, "TD-MPC2 937, SAC 540 at 100,000"
    ),
    "ball-in-cup": Case(_suite("ball_in_cup-catch", 4), 950.0, 50_000),
    "pendulum-swingup": Case(
        _suite("pendulum-swingup", 4), 724.0, 50_000, "TD-MPC2 724, SAC 96 at 100,000"
    ),
    "Hopper-v5": Case(Source("Hopper-v5"), 1000.0, 50_000),
}
