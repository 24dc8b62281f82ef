"""What changes in the course of training: functions of its settings and of how far it is."""

from __future__ import annotations

import math

import torch

from worldmodel.training.config import TrainConfig


def coarseness(c: TrainConfig, progress: float) -> float:
    """Power of their variance that components of pictures are weighed with."""
    return c.coarse * max(0.0, 1 - progress / c.coarse_until)


def batch_shape(c: TrainConfig, progress: float) -> tuple[int, int]:
    """Sequences of the next batch, and their steps."""
    if progress >= c.halved_until:
        return c.batch_size, c.window
    steps = max(1, c.window // 2)
    return round(c.batch_size * (c.window + 1) / (steps + 1)), steps


def batch_sizes(c: TrainConfig) -> set[int]:
    """All numbers of sequences that batches have."""
    return {batch_shape(c, fraction * c.halved_until)[0] for fraction in (0.0, 1.0)}


def hidden_fraction(c: TrainConfig, progress: float) -> float:
    """Fraction of sequences in which observation dropout cuts."""
    return c.dropout_fraction if progress < c.dropout_until else 0.0


def draw_prefix(c: TrainConfig, frames: int, generator: torch.Generator) -> int:
    """How many of a sequence's frames the initial network sees."""
    draw = torch.rand((), generator=generator, device=generator.device).item()
    if draw < c.single_frame_fraction:
        return 1
    if draw >= 1 - c.all_frames_fraction:
        return frames
    between = 1 - c.single_frame_fraction - c.all_frames_fraction
    fraction = (draw - c.single_frame_fraction) / between
    return 1 + int(fraction * frames)


def learning_rate(c: TrainConfig, update: int, progress: float) -> float:
    """After so many updates."""
    decay = 0.5 * (1 + math.cos(math.pi * progress))
    rise = min(1.0, (update + 1) / max(c.warmup_steps, 1))
    return c.learning_rate * rise * (c.lr_final_fraction + (1 - c.lr_final_fraction) * decay)
