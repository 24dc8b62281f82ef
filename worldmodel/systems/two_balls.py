"""Balls that bounce off each other, of ``envs/bouncing_balls.py``, the paper's third system."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from worldmodel.data import SplitConfig, default_splits
from worldmodel.models.codec import CodecConfig
from worldmodel.models.dvbf_config import DVBFConfig, RecognitionConfig, TransitionConfig
from worldmodel.systems.ball import VARIABLES
from worldmodel.systems.preset import Preset
from worldmodel.systems.system import System, free
from worldmodel.training.config import TrainConfig
from worldmodel.training.dreaming import DreamConfig
from worldmodel.training.losses.constrained import ConstrainedConfig


def targets(states: Float[np.ndarray, "*n states"]) -> dict[str, Float[np.ndarray, "*n"]]:
    """Positions and velocities of several balls, numbered from left to right in every frame.

    Balls that look the same can be exchanged without changing a picture, so no model of pictures
    can know which of them a recording calls the first: on the recorder's numbers even a perfect
    model is left with the balls' mean. Their order in the picture is something that can be known.
    Where two balls pass each other their numbers, and with them y and velocities, are exchanged,
    which no linear map of a continuous state follows: a perfect model, too, stays below 1 (by how
    much: docs/results.md).

    Args:
        states: (x, y, vx, vy) of one ball after the other.

    Returns:
        ``x_1``, ``y_1``, ``vx_1``, ``vy_1``, ``x_2`` and so on; 1 is the leftmost ball.
    """
    balls = states.reshape(*states.shape[:-1], -1, len(VARIABLES))
    order = np.argsort(balls[..., 0], -1, kind="stable")
    ranked = np.take_along_axis(balls, order[..., None], -2)
    return {
        f"{name}_{i + 1}": ranked[..., i, k]
        for i in range(ranked.shape[-2])
        for k, name in enumerate(VARIABLES)
    }


SYSTEM = System(
    env_id="worldmodel/TwoBouncingBalls-v0",
    targets=targets,
    unactuated=free(),
    controlled=False,
    presets={
        "two-balls": Preset(
            "Two bouncing balls from 20 x 20 pixels",
            splits=default_splits() | {"train": SplitConfig(5000, 14)},
            models={
                "dvbf": DVBFConfig(
                    latent_size=10,
                    visible_size=6,
                    codec=CodecConfig("dense", emission="bernoulli", hidden=256, depth=2),
                    recognition=RecognitionConfig(hidden=256),
                    transition=TransitionConfig(
                        base_matrices=24,
                        coupling=0.1,
                        gate="factorial",
                        mixing_hidden=64,
                        leak=0.05,
                        bound=10.0,
                    ),
                )
            },
            train=TrainConfig(
                updates=9000,
                learning_rate=5e-3,
                # At this rate, which is needed, the filter diverges on a sequence now and then; one
                # or two in a batch would be the end of what was learned.
                max_grad_ratio=3.0,
                dropout_fraction=0.9,
                dropout_scale=0.05,
                patience=0,
                # The filter's corrections go with the transition that they were learned with.
                dreaming=DreamConfig(denoise=0.15, distilled=0, transition_updates=0),
                constrained=ConstrainedConfig(
                    loose=0.06,
                    tight=0.008,
                    tighten_from=0.2,
                    tighten_to=0.6,
                    min_multiplier=7.4,
                    max_multiplier=59.0,
                    flatness=0.0,
                ),
            ),
            agent=None,
            film_rows=2,
        )
    },
)
