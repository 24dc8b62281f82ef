"""The pendulum of ``envs/pendulum.py``, the paper's first system."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from agents.empowerment import EmpoweredConfig
from agents.rollout import Rollout
from worldmodel.models.codec import CodecConfig
from worldmodel.models.dkf import DKFConfig
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.models.e2c import E2CConfig
from worldmodel.models.ekvae import EKVAEConfig
from worldmodel.systems.preset import Preset
from worldmodel.systems.system import System, free
from worldmodel.training.config import TrainConfig
from worldmodel.training.dreaming import DreamConfig
from worldmodel.training.losses.constrained import ConstrainedConfig


def targets(states: Float[np.ndarray, "*n 2"]) -> dict[str, Float[np.ndarray, "*n"]]:
    """sin, cos and velocity of states (angle in rad, velocity in rad/s)."""
    angle, velocity = states[..., 0], states[..., 1]
    return {"sin": np.sin(angle), "cos": np.cos(angle), "velocity": velocity}


def hanging(n: int, seed: int) -> dict[str, Any]:
    """Reset options: n pendulums at rest below, each up to 0.1 rad and 0.1 rad/s off."""
    offset = np.random.default_rng(seed).uniform(-0.1, 0.1, (n, 2))
    return {"state": np.array([np.pi, 0.0]) + offset}


def upright_fraction(states: np.ndarray, last: int = 20, cosine: float = 0.95) -> float:
    """Fraction of episodes in which a pendulum stays upright to the end.

    Args:
        states: (n, T + 1, 2), angle in rad (0 is upright) and velocity.
        last: Final frames that all must be upright; 20 are 2 s of the shipped pendulum.
        cosine: Upright means cos(angle) above this.
    """
    return float((np.cos(states[:, -last:, 0]) > cosine).all(1).mean())


def _task(real: Rollout) -> dict[str, float]:
    assert real.states is not None, "the pendulum always tells its state"
    return {"upright_fraction": upright_fraction(real.states)}


# Tables 1 and 2, DVBF-LL.
_PAPER = {
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
}
# Angle and velocity are a cylinder, for which three dimensions would do. But frames that begin to
# wind through all three leave no way out on which they would not get worse; a fourth is one.
_DENSE = CodecConfig("dense")
_MODELS = {
    "dvbf": DVBFConfig(latent_size=4, recurrent=32, codec=_DENSE),
    "dkf": DKFConfig(codec=_DENSE),
    "e2c": E2CConfig(codec=_DENSE),
    "ekvae": EKVAEConfig(codec=_DENSE),
}
# Upright is an unstable equilibrium: unless dropout ends before training does no dream comes there,
# and unless dreams are denoised none stays. The filter's corrections go with the transition that
# they were learned with.
_TRAIN = TrainConfig(
    updates=3500,
    batch_size=64,
    learning_rate=6e-3,
    dropout_until=0.7,
    constrained=ConstrainedConfig(step=0.0075, decay=0.985),
    dreaming=DreamConfig(denoise=0.03, transition_updates=0),
)

SYSTEM = System(
    env_id="worldmodel/Pendulum-v0",
    targets=targets,
    unactuated=free({"state": (np.pi / 3, 0.0)}),
    task_start=hanging,
    task_metrics=_task,
    plane=("angle", "velocity"),
    action_unit="N m",
    presets={
        "pendulum": Preset(
            "Pendulum from 16 x 16 pixels",
            train=_TRAIN,
            models=_MODELS,
            film_start={"start": "hanging"},
            paper=_PAPER,
        ),
        "empowerment": Preset(
            "Pendulum from 16 x 16 pixels, without a reward",
            train=_TRAIN,
            models=_MODELS,
            agent=EmpoweredConfig(),
            film_start={"start": "hanging"},
            paper=_PAPER,
        ),
    },
)
