"""Settings that suit what is observed: the one place where they are chosen by the data.

Pictures say little about velocities and nothing exactly; vectors of a simulator say nearly all of
the state, exactly. The pendulum's settings, which are the defaults of ``DVBFConfig`` and
``TrainConfig``, were found on pictures.
"""

from __future__ import annotations

from dataclasses import replace

from worldmodel.data import Dataset
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.objectives.constrained import ConstrainedConfig
from worldmodel.training.config import TrainConfig


def recipe(dataset: Dataset) -> tuple[DVBFConfig, TrainConfig]:
    """Model and training settings to start from, by the observations and the episodes' length."""
    longest = int(dataset.train.mask.any(0).sum())
    training = TrainConfig()
    training = replace(training, window=min(training.window, longest))
    spec = dataset.observation_spec
    if spec.pixels:
        return DVBFConfig(), training
    model = DVBFConfig(latent_size=max(2, spec.size), recognition="fusion", noise_floor=0.02)
    constrained = ConstrainedConfig(
        tight=0.001, greatest=1000.0, step=0.01, tighten_from=0.1, tighten_to=0.5, flatness=0.0
    )
    # The weight of so sharp a constraint makes gradients large; clipped, the heads would starve.
    return model, replace(training, updates=1500, clip_norm=1e5, constrained=constrained)
