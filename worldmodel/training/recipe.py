"""Settings that suit a model and what it observes: the one place where training is chosen by data.

Pictures say little about velocities and nothing exactly; vectors of a simulator say nearly all of
the state, exactly. The defaults of ``TrainConfig`` were found on the pendulum's pictures. A model's
own settings are chosen by its configuration, ``suited``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from worldmodel.data import Dataset
from worldmodel.models.registry import model_type
from worldmodel.training.config import TrainConfig
from worldmodel.training.losses.constrained import ConstrainedConfig


def recipe(dataset: Dataset, model: str = "dvbf") -> tuple[Any, TrainConfig]:
    """Model and training settings to start from, by the observations and the episodes' length.

    Args:
        dataset: With a split "train".
        model: Name of a registered model.

    Returns:
        The model's configuration, and how to train it.

    Raises:
        ConfigError: There is no such model.
    """
    config = model_type(model).config_type.suited(dataset.observation_spec)
    longest = int(dataset.train.mask.any(0).sum())
    training = TrainConfig()
    training = replace(training, window=min(training.window, longest))
    if dataset.observation_spec.pixels:
        return config, training
    constrained = ConstrainedConfig(
        tight=0.001, greatest=1000.0, step=0.01, tighten_from=0.1, tighten_to=0.5, flatness=0.0
    )
    # The weight of so sharp a constraint makes gradients large; clipped, the heads would starve.
    return config, replace(training, updates=1500, max_grad_norm=1e5, constrained=constrained)
