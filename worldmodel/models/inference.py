"""Inference of the process noise along a window, and the path that it leads to.

Source: Karl et al. 2017, eq. 9 and algorithm 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodel.models.fusion import Fusion
from worldmodel.models.recognition import Recognition
from worldmodel.models.transition import Transition


class Sampled(NamedTuple):
    """A sampled path, and the process noise that it was drawn with; time comes first.

    Attributes:
        states: (T + 1, batch, latent).
        means: Of the inferred noise (T, batch, noise).
        scales: Its standard deviations (T, batch, noise).
    """

    states: Tensor
    means: Tensor
    scales: Tensor


def recognise(
    recognition: Recognition | Fusion,
    transition: Transition,
    context: Float[Tensor, "batch hidden"],
    state: Float[Tensor, "batch latent"],
    control: Float[Tensor, "batch act"],
    weights: Tensor | None = None,
) -> tuple[Float[Tensor, "batch noise"], Float[Tensor, "batch noise"]]:
    """Mean and scale of the process noise that leads to the frame ``context`` is of."""
    if isinstance(recognition, Recognition):
        return recognition(context, state)
    predicted = transition(state, control, torch.zeros_like(state), weights)
    return recognition(context, predicted, transition.gain(state, control, weights))


def infer(
    recognition: Recognition | Fusion,
    transition: Transition,
    features: Float[Tensor, "steps batch size"],
    controls: Float[Tensor, "steps batch act"],
    start: Float[Tensor, "batch latent"],
    draws: Float[Tensor, "steps batch noise"],
    unseen: Float[Tensor, "steps batch noise"],
    seen: Bool[Tensor, "steps batch 1"],
    weights: Tensor | None,
) -> Sampled:
    """Infer the noise of each step from the next frame and the state so far, and take the step.

    Args:
        recognition: Of the noise.
        transition: Of the state.
        features: What describes frames 1 to T.
        controls: Scaled actions.
        start: State at the first frame.
        draws: Standard normal.
        unseen: Noise of steps whose frame is not looked at.
        seen: Which frames are.
        weights: Of the transition, as it drew them.
    """
    contexts = recognition.embed(features, controls)
    states, means, scales = [start], [], []
    for context, control, draw, other, look in zip(
        *(each.unbind() for each in (contexts, controls, draws, unseen, seen)), strict=True
    ):
        mean, scale = recognise(recognition, transition, context, states[-1], control, weights)
        noise = torch.where(look, torch.addcmul(mean, scale, draw), other)
        states.append(transition(states[-1], control, noise, weights))
        means.append(mean)
        scales.append(scale)
    return Sampled(torch.stack(states), torch.stack(means), torch.stack(scales))
