"""The bouncing ball of ``envs/bouncing_ball.py``, the paper's second system."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.empowerment import EmpoweredConfig, Noise
from agents.rollout import Rollout
from envs.bouncing_ball import INTERVAL, BouncingBall
from worldmodel.data import Provenance, SplitConfig, default_splits
from worldmodel.evaluation.prediction import Predictor
from worldmodel.models.codec import CodecConfig
from worldmodel.models.dvbf_config import DVBFConfig, TransitionConfig
from worldmodel.systems.preset import Preset
from worldmodel.systems.system import System, free
from worldmodel.training.config import TrainConfig
from worldmodel.training.dreaming import DreamConfig
from worldmodel.training.losses.constrained import ConstrainedConfig
from worldmodel.types import Batch

VARIABLES = ("x", "y", "vx", "vy")


def targets(states: Float[np.ndarray, "*n 4"]) -> dict[str, Float[np.ndarray, "*n"]]:
    """Position and velocity, from states (x, y, vx, vy)."""
    return dict(zip(VARIABLES, np.moveaxis(states, -1, 0), strict=True))


def at_target_fraction(rewards: np.ndarray, last: int = 20, within: float = 0.2) -> float:
    """Fraction of episodes in which a ball stays at its target to the end.

    Args:
        rewards: (n, T), minus the ball's true distance to the target in half-widths of the box.
        last: Final steps that must all end there; 20 are 2 s of the shipped ball.
        within: Distance in half-widths; 0.2 is a tenth of the box, which is two half-widths wide.
    """
    return float((rewards[:, -last:] > -within).all(1).mean())


def in_middle_fraction(states: np.ndarray, last: int = 20, within: float = 0.5) -> float:
    """Fraction of episodes in which a ball stays in the middle half of its box to the end.

    Args:
        states: (n, T + 1, 4), position in half-widths of the box and velocity.
        last: Final frames that all must be there; 20 are 2 s of the shipped ball.
        within: Half-widths from the middle along each axis.
    """
    return float((np.abs(states[:, -last:, :2]) < within).all((1, 2)).mean())


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


def _task(real: Rollout) -> dict[str, float]:
    assert real.states is not None, "the ball always tells its state"
    return {
        "at_target_fraction": at_target_fraction(real.rewards),
        "in_middle_fraction": in_middle_fraction(real.states),
    }


_MODELS = {
    "dvbf": DVBFConfig(
        latent_size=4,
        visible_size=2,
        codec=CodecConfig("dense"),
        transition=TransitionConfig(coupling=0.2, gate="switching", mixing_hidden=64, leak=0.05),
    )
}
_TRAIN = TrainConfig(
    updates=8000,
    batch_size=256,
    learning_rate=4e-3,
    dropout_fraction=0.9,
    dropout_scale=0.03,
    patience=0,
    # A ball moves less than a pixel per frame: its velocity is read off sharp positions only.
    constrained=ConstrainedConfig(
        loose=0.03,
        tight=0.0015,
        tighten_from=0.2,
        tighten_to=0.6,
        min_multiplier=42.0,
        max_multiplier=423.0,
        flatness=95.0,
    ),
    # The filter's corrections go with the transition that they were learned with.
    dreaming=DreamConfig(transition_updates=0),
)
_SPLITS = default_splits() | {"train": SplitConfig(2000, 14)}

SYSTEM = System(
    env_id="worldmodel/BouncingBall-v0",
    targets=targets,
    unactuated=free(),
    baselines=lambda provenance: {"constant_velocity": constant_velocity(provenance)},
    task_metrics=_task,
    plane=("x", "y"),
    action_unit="half-widths/s",
    presets={
        "ball": Preset(
            "Bouncing ball from 16 x 16 pixels",
            train=_TRAIN,
            models=_MODELS,
            splits=_SPLITS,
            film_rows=2,
        ),
        "ball-empowerment": Preset(
            "Bouncing ball from 16 x 16 pixels, without a reward",
            train=_TRAIN,
            models=_MODELS,
            agent=EmpoweredConfig("sampled", 15, Noise(0.3), states=2048, actions=5, samples=1),
            splits=_SPLITS,
            film_rows=2,
            task_start={"start": "wall"},
            film_start={"start": "wall"},
        ),
    },
)
