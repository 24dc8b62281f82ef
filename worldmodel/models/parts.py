"""Models' parts, built as their configurations say."""

from __future__ import annotations

import torch

from worldmodel.models.bounded import Bounded
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.models.floored import FlooredNoise
from worldmodel.models.fusion import Fusion
from worldmodel.models.recognition import Recognition
from worldmodel.models.transition import LocallyLinear, MLPTransition, Transition


def build_recognition(c: DVBFConfig, features: int, action_size: int) -> Recognition | Fusion:
    """What infers the process noise from ``features`` numbers that describe a frame."""
    if c.recognition == "fusion":
        return Fusion(features, c.latent_size, c.hidden, c.reading_scale)
    return Recognition(features, c.latent_size, action_size, c.latent_size, c.hidden)


def build_transition(c: DVBFConfig, action_size: int, generator: torch.Generator) -> Transition:
    """The transition; ``generator`` draws its initial base matrices."""
    if c.noise_floor:
        mean = _build_mean(c, action_size, 0, generator)
        free: Transition = FlooredNoise(mean, c.latent_size, c.noise_floor)
    else:
        free = _build_mean(c, action_size, c.latent_size, generator)
    return Bounded(free, c.bound) if c.bound else free


def _build_mean(
    c: DVBFConfig, action_size: int, noise_size: int, generator: torch.Generator
) -> Transition:
    sizes = (c.latent_size, action_size, noise_size)
    if c.transition == "mlp":
        return MLPTransition(*sizes, c.hidden, c.transition_init, c.leak, generator)
    return LocallyLinear(
        *sizes,
        c.base_matrices,
        c.mixing_hidden,
        c.transition_init,
        c.coupling,
        c.gate,
        c.leak,
        generator,
    )
