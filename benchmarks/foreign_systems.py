"""Which foreign systems are learned from pictures, and how they are recorded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from worldmodel.data import ActionProcess, Held, OrnsteinUhlenbeck, Source, Uniform, Wrapping


@dataclass(frozen=True)
class Foreign:
    """One system, observed as its own renderer draws it.

    Attributes:
        env_id: Gymnasium id.
        side: Of the square picture in pixels.
        episodes: For training.
        held_out: For validation and for testing each, and under each of the unseen processes.
        steps: Of an episode, unless it ends before.
        process: How actions are drawn for training and testing, by its name on the command line.
        unseen: Other ways to draw them, that nothing is trained on: a quick and a slow one.
        env_kwargs: Arguments of the environment.
    """

    env_id: str
    side: int
    episodes: int
    steps: int = 200
    held_out: int = 20
    process: str = "held"
    unseen: dict[str, ActionProcess] = field(
        default_factory=lambda: {"quick": Uniform(), "slow": OrnsteinUhlenbeck()}
    )
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        """The environment, observed by its pictures."""
        return Source(self.env_id, self.env_kwargs, Wrapping(pixels=True, resize=self.side))

    @property
    def enough(self) -> int:
        """Test episodes that must reach a frame for an average there to be told."""
        return min(10, self.held_out // 2)

    def brief(self) -> Foreign:
        """A tenth of the episodes, for a smoke run."""
        return replace(self, episodes=self.episodes // 10, held_out=self.held_out // 5)


# Choices have no smooth noise; held for long they are the slow ones.
_CHOICES = {"quick": Uniform(), "slow": Held(15)}
# MuJoCo draws 480 x 480 pixels unless told otherwise, of which most would be thrown away.
_SMALL = {"width": 64, "height": 64}
# Shimmy's default is a free camera and 320 x 240 pixels. Shadows and reflections take most of the
# time without a graphics card.
_CAMERA = {
    "render_kwargs": {
        "width": 64,
        "height": 64,
        "camera_id": 0,
        "render_flag_overrides": {"shadow": False, "reflection": False},
    }
}


def _dm_control(task: str) -> Foreign:
    """25,000 frames of a task; its episodes would go on for 1,000 steps."""
    return Foreign(f"shimmy:dm_control/{task}-v0", 64, 100, 250, env_kwargs=_CAMERA)


# The papers draw what they learn from anywhere.
_ANYWHERE = {"anywhere": True}

# Some 10,000 frames of those that Gymnasium brings, and 5,000 to 10,000 of PC3's.
FOREIGN = {
    "pendulum": Foreign("Pendulum-v1", 32, 50),
    # Held actions fell it in 12 steps, independent ones in 21 on average, few in more than 40.
    "cartpole": Foreign(
        "CartPole-v1",
        32,
        480,
        held_out=200,
        process="uniform",
        unseen={"quick": Held(2), "slow": Held(3)},
    ),
    "acrobot": Foreign("Acrobot-v1", 32, 50, unseen=_CHOICES),
    "lunar-lander": Foreign("LunarLander-v3", 32, 105, unseen=_CHOICES),
    "inverted-pendulum": Foreign("steadied:InvertedPendulum-v5", 32, 50, env_kwargs=_SMALL),
    "reacher": Foreign("Reacher-v5", 32, 80, 125, env_kwargs={**_SMALL, "max_episode_steps": 125}),
    "dm-pendulum": _dm_control("pendulum-swingup"),
    "dm-cartpole": _dm_control("cartpole-swingup"),
    "dm-reacher": _dm_control("reacher-easy"),
    "dm-ball-in-cup": _dm_control("ball_in_cup-catch"),
    "pc3-planar": Foreign("pc3:PC3Planar-v0", 40, 125, 40, env_kwargs=_ANYWHERE),
    "pc3-pendulum": Foreign("pc3:PC3Pendulum-v0", 48, 100, 100, env_kwargs=_ANYWHERE),
    "pc3-cartpole": Foreign("pc3:PC3CartPole-v0", 80, 200, 50, env_kwargs=_ANYWHERE),
}
