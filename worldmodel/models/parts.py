"""Models' parts, built as their configurations say."""

from __future__ import annotations

import torch

from worldmodel.models.bounded import Bounded
from worldmodel.models.dvbf_config import DVBFConfig, TransitionConfig
from worldmodel.models.floored import FlooredNoise
from worldmodel.models.fusion import Fusion
from worldmodel.models.recognition import Recognition
from worldmodel.models.transition import LocallyLinear, MLPTransition, Transition


def build_recognition(c: DVBFConfig, features: int, action_size: int) -> Recognition | Fusion:
    """What infers the process noise from ``features`` numbers that describe a frame."""
    latent, r = c.latent_size, c.recognition
    if r.kind == "fusion":
        return Fusion(features, latent, r.hidden, r.reading_scale)
    return Recognition(features, latent, action_size, latent, r.hidden)


def build_transition(c: DVBFConfig, action_size: int, generator: torch.Generator) -> Transition:
    """The transition; ``generator`` draws its initial base matrices."""
    latent, t = c.latent_size, c.transition
    if t.noise_floor:
        mean = _build_mean(t, (latent, action_size, 0), generator)
        free: Transition = FlooredNoise(mean, latent, t.noise_floor)
    else:
        free = _build_mean(t, (latent, action_size, latent), generator)
    return Bounded(free, t.bound) if t.bound else free


def _build_mean(
    t: TransitionConfig, sizes: tuple[int, int, int], generator: torch.Generator
) -> Transition:
    if t.kind == "mlp":
        return MLPTransition(*sizes, t.mlp_hidden, t.init_scale, t.leak, generator)
    return LocallyLinear(
        *sizes,
        t.base_matrices,
        t.mixing_hidden,
        t.init_scale,
        t.coupling,
        t.gate,
        t.leak,
        generator,
    )
