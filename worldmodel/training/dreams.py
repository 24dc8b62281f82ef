"""What is fitted to dreams once a model is trained: where they are led, and how noisy they are.

The process noise serves two masters. In training it says what recognition may correct, and is made
wide, for wide noise makes corrections cheap; in a dream it should say what the model does not know.
So a dream's noise is scaled until the mean of many dreams predicts best.
"""

from __future__ import annotations

import torch

from worldmodel.errors import DivergenceError
from worldmodel.evaluation.prediction import open_loop_error
from worldmodel.models.base import StateSpaceModel
from worldmodel.types import Batch

# Shares of the prior's standard deviation that dreams are tried with, and how many are averaged.
_SCALES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12)
_DREAMS = 16


@torch.no_grad()
def fit_dreams(
    model: StateSpaceModel, train: Batch, validation: Batch, window: int, seed: int, progress: bool
) -> None:
    """Fit a model's denoiser, and then the scale of its dreams' noise; in place.

    Args:
        model: Trained; one without a denoiser stays as it is.
        train: Whose states the denoiser is fitted to: the best that is known of them, not those
            after a cold start.
        validation: Whose second halves are predicted.
        window: Frames that an episode's first state is read from, less one.
        seed: Of the noise.
        progress: Whether to show a progress bar.

    Raises:
        DivergenceError: The states are not finite, or no noise gives dreams that are.
    """
    if model.denoiser is None:
        return
    # No further than the shortest episode: padding is no observation.
    prefix = min(window, int(train.mask.sum(1).min())) + 1
    belief = model.filter_beliefs(train.observations, train.actions, prefix)
    model.denoiser.fit(belief.mean[train.frame_mask], progress)
    batch = validation.window(0, min(window, validation.steps))
    errors = []
    for scale in _SCALES:
        model.dream_noise.fill_(scale)
        generator = torch.Generator(model.device).manual_seed(seed)
        error = open_loop_error(model, batch, max(1, batch.steps // 2), _DREAMS, generator)
        errors.append(error.mean())
    error = torch.stack(errors).nan_to_num(torch.inf)
    if torch.isinf(error).all():
        raise DivergenceError("dreams diverge: not finite at any scale of their noise")
    model.dream_noise.fill_(_SCALES[int(error.argmin())])
