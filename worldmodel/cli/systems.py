"""What the command line knows about the real systems that ship, and about all others.

The packages below it know nothing of any particular system. ``RECIPES`` is the one place where the
demos' data, models, training and agents are set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from agents.empowerment import EmpoweredConfig, Noise
from agents.evaluation import at_target_share, in_middle_share, upright_share
from agents.pathwise import PathwiseConfig
from agents.rollout import Rollout
from envs.bouncing_ball import INTERVAL, BouncingBall
from worldmodel.data import Provenance, SplitConfig, Zero, default_splits, record
from worldmodel.evaluation.identification import (
    Targets,
    ball_targets,
    balls_targets,
    pendulum_targets,
    state_targets,
)
from worldmodel.evaluation.prediction import Predictor
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.training.config import TrainConfig
from worldmodel.training.dreaming import DreamConfig
from worldmodel.training.losses.constrained import ConstrainedConfig
from worldmodel.types import Batch


@dataclass(frozen=True)
class System:
    """One kind of real system; what is left out is what is known of any.

    Attributes:
        targets: Names the ground-truth variables to regress.
        unactuated: Records one episode without control for the latent walk, or gives None.
        baselines: What predictions are compared with beside the last frame and the mean frame.
        task_start: Reset options of n episodes from which the task is judged.
        task_metrics: What is reported of real episodes beside their return.
        plane: Names of the first two variables of the ground truth.
        action_unit: Of every component of an action; empty if it is not known, or there is none.
    """

    targets: Targets = state_targets
    unactuated: Callable[[Provenance], Batch | None] = lambda provenance: None
    baselines: Callable[[Provenance], Mapping[str, Predictor]] = lambda provenance: {}
    task_start: Callable[[int, int], dict[str, Any] | None] = lambda n, seed: None
    task_metrics: Callable[[Rollout], dict[str, float]] = lambda real: {}
    plane: tuple[str, str] = ("state_0", "state_1")
    action_unit: str = ""


@dataclass(frozen=True)
class Recipe:
    """How a demo learns one system.

    Attributes:
        env_id: The real environment.
        title: What the demo is about.
        agent: How the agent is trained, for the task or for its empowerment; None if there is
            nothing to control.
        model: Sizes.
        train: How the model is trained.
        env_kwargs: Arguments of the environment.
        splits: What is recorded.
        film_rows: Episodes in the dream's film; a soft ball moves too many pixels for three to fit
            into a film that a page loads without complaint.
        task_start: Reset options of the agent's episodes in place of the system's.
        film_start: Reset options of the agent's film.
        paper: What Karl et al. 2017 report of it, by dotted name of the metric.
    """

    env_id: str
    title: str
    agent: PathwiseConfig | EmpoweredConfig | None
    model: DVBFConfig = field(default_factory=DVBFConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, SplitConfig] = field(default_factory=default_splits)
    film_rows: int = 3
    task_start: dict[str, Any] | None = None
    film_start: dict[str, Any] | None = None
    paper: Mapping[str, float] = field(default_factory=dict)

    @property
    def system(self) -> System:
        """What is known about the system."""
        return system_of(self.env_id)


def hanging(n: int, seed: int) -> dict[str, Any]:
    """Reset options: n pendulums at rest below, each up to 0.1 rad and 0.1 rad/s off."""
    offset = np.random.default_rng(seed).uniform(-0.1, 0.1, (n, 2))
    return {"state": np.array([np.pi, 0.0]) + offset}


def constant_velocity(provenance: Provenance) -> Predictor:
    """The ball rolls on from its true state at the true velocity, as far as the box goes.

    It is told what a model has to find out, and knows neither walls, at which it stops, nor pushes.
    The environment itself draws what is predicted.
    """
    ball = gym.make(provenance.env_id, **provenance.env_kwargs).unwrapped
    assert isinstance(ball, BouncingBall)

    def predict(past: Batch, steps: int) -> Tensor:
        assert past.states is not None, "the ball always tells its state"
        state = past.states[:, -1].cpu().double().numpy()
        position, velocity = state[:, None, :2], state[:, None, 2:]
        seconds = INTERVAL * np.arange(1, steps + 1)[:, None]
        rolled = np.clip(position + seconds * velocity, -1, 1)
        states = np.concatenate([rolled, np.broadcast_to(velocity, rolled.shape)], -1)
        observations = ball.system.observer(states[..., 0].size)(states.reshape(-1, 4))
        return torch.from_numpy(observations).unflatten(0, (-1, steps))

    return predict


def _free(options: dict[str, Any] | None = None) -> Callable[[Provenance], Batch]:
    """Records 100 steps without control after a reset with these options."""

    def record_one(provenance: Provenance) -> Batch:
        env = provenance.source.make_vec(1)
        batch = record(env, 1, 100, Zero(), seed=0, options=options)
        env.close()
        return batch

    return record_one


def _upright(real: Rollout) -> dict[str, float]:
    assert real.states is not None, "the pendulum always tells its state"
    return {"upright_share": upright_share(real.states)}


def _ball_task(real: Rollout) -> dict[str, float]:
    assert real.states is not None, "the ball always tells its state"
    return {
        "at_target_share": at_target_share(real.rewards),
        "in_middle_share": in_middle_share(real.states),
    }


SYSTEMS = {
    "worldmodel/Pendulum-v0": System(
        targets=pendulum_targets,
        unactuated=_free({"state": (np.pi / 3, 0.0)}),
        task_start=hanging,
        task_metrics=_upright,
        plane=("angle", "velocity"),
        action_unit="N m",
    ),
    "worldmodel/BouncingBall-v0": System(
        targets=ball_targets,
        unactuated=_free(),
        baselines=lambda provenance: {"constant_velocity": constant_velocity(provenance)},
        task_metrics=_ball_task,
        plane=("x", "y"),
        action_unit="half-widths/s",
    ),
    "worldmodel/TwoBouncingBalls-v0": System(targets=balls_targets, unactuated=_free()),
}

# A ball moves less than a pixel per frame: its velocity is read off sharp positions only.
_SHARP = ConstrainedConfig(
    loose=0.03, tight=0.0015, tighten_from=0.2, tighten_to=0.6, least=40.0, greatest=400.0
)

_PENDULUM = Recipe(
    env_id="worldmodel/Pendulum-v0",
    title="Pendulum from 16 x 16 pixels",
    agent=PathwiseConfig(),
    film_start={"start": "hanging"},
    # Tables 1 and 2, DVBF-LL.
    paper={
        "r2.sin": 0.961,
        "r2.cos": 0.982,
        "r2.velocity": 0.916,
        "loglik.sin": 3990.8,
        "loglik.cos": 7231.1,
        "loglik.velocity": -11139.0,
        "bound.lower_bound": 798.56,
        "bound.reconstruction": 802.06,
        "bound.kl": 3.50,
        "real_frames_used": 7500,
    },
)

_BALL = Recipe(
    env_id="worldmodel/BouncingBall-v0",
    title="Bouncing ball from 16 x 16 pixels",
    splits=default_splits() | {"train": SplitConfig(2000, 14)},
    model=DVBFConfig(
        latent_size=4,
        visible_size=2,
        coupling=0.2,
        gate="switching",
        mixing_hidden=64,
        leak=0.05,
    ),
    train=TrainConfig(
        updates=8000,
        batch_size=256,
        learning_rate=4e-3,
        dropout_share=0.9,
        dropout_scale=0.03,
        patience=0,
        constrained=_SHARP,
    ),
    agent=PathwiseConfig(),
    film_rows=2,
)

RECIPES = {
    "pendulum": _PENDULUM,
    "ball": _BALL,
    "two-balls": Recipe(
        env_id="worldmodel/TwoBouncingBalls-v0",
        title="Two bouncing balls from 20 x 20 pixels",
        splits=default_splits() | {"train": SplitConfig(5000, 14)},
        model=DVBFConfig(
            latent_size=10,
            visible_size=6,
            emission="bernoulli",
            base_matrices=24,
            coupling=0.1,
            gate="factorial",
            mixing_hidden=64,
            leak=0.05,
            bound=10.0,
            hidden=256,
            depth=2,
        ),
        train=TrainConfig(
            updates=9000,
            learning_rate=5e-3,
            dropout_share=0.9,
            dropout_scale=0.05,
            patience=0,
            dreaming=DreamConfig(denoise=0.15),
            # In units of deviance: at 0.5 the bound itself.
            constrained=ConstrainedConfig(
                loose=0.06,
                tight=0.008,
                tighten_from=0.2,
                tighten_to=0.6,
                least=0.5,
                greatest=4.0,
                flatness=0.0,
            ),
        ),
        agent=None,
        film_rows=2,
    ),
    "empowerment": replace(
        _PENDULUM,
        title="Pendulum from 16 x 16 pixels, without a reward",
        agent=EmpoweredConfig(),
    ),
    "ball-empowerment": replace(
        _BALL,
        title="Bouncing ball from 16 x 16 pixels, without a reward",
        agent=EmpoweredConfig("sampled", 15, Noise(0.3), states=2048, actions=5, samples=1),
        task_start={"start": "wall"},
        film_start={"start": "wall"},
    ),
}


def system_of(env_id: str) -> System:
    """What is known about an environment; little, if it is not one of ours."""
    return SYSTEMS.get(env_id.rpartition(":")[2], System())


def recipe_without_reward(system: System) -> Recipe | None:
    """The demo in which an agent lives by its empowerment in a system, if there is one."""
    empowered = (r for r in RECIPES.values() if isinstance(r.agent, EmpoweredConfig))
    return next((r for r in empowered if r.system is system), None)
