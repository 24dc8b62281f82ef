"""A small network that is told the truth in training: what can be read off, nonlinearly."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodel.models.networks import mlp
from worldmodel.progress import track


@runtime_checkable
class Readable(Protocol):
    """Inputs that the truth is to be read off, made as they are asked for.

    Attributes:
        truth: (n, variables).
    """

    truth: Float[Tensor, "n variables"]

    def inputs(self, rows: Int[Tensor, " k"]) -> Float[Tensor, "k features"]:
        """Those of some rows."""
        ...


@torch.enable_grad()
def fit_reader(
    known: Readable,
    held_out: Readable,
    scaled: Callable[[Tensor], nn.Module],
    seed: int = 0,
    updates: int = 1500,
    progress: str | None = None,
) -> Callable[[Readable], Float[np.ndarray, "n variables"]]:
    """Train a network with one hidden layer of 128 by Adam on the squared error.

    Every variable counts in units of its own deviation. Of the network's states during training
    the one that validates best is kept.

    Args:
        known: To train on.
        held_out: To validate on; 2,048 rows of it at most.
        scaled: From some inputs to what scales them.
        seed: Of weights and batches.
        updates: Gradient updates of 128 rows.
        progress: What a progress bar says; None shows none.

    Returns:
        What reads the truth off others.
    """
    mean, std = known.truth.mean(0), known.truth.std(0)
    std = torch.where(std > 0, std, 1.0)
    generator = torch.Generator().manual_seed(seed)
    judged = torch.randperm(len(held_out.truth), generator=generator)[:2048]
    inputs, truth = held_out.inputs(judged), (held_out.truth[judged] - mean) / std
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = nn.Sequential(scaled(inputs), mlp(inputs.shape[1], 128, truth.shape[1]))
    optimizer = torch.optim.Adam(reader.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    best, least = reader, math.inf
    for update in track(range(updates), progress or "", disable=progress is None):
        rows = torch.randint(len(known.truth), (128,), generator=generator)
        error = reader(known.inputs(rows)) - (known.truth[rows] - mean) / std
        optimizer.zero_grad()
        error.square().mean().backward()
        optimizer.step()
        schedule.step()
        if (update + 1) % 100 == 0 or update + 1 == updates:
            with torch.no_grad():
                loss = (reader(inputs) - truth).square().mean().item()
            if loss < least:
                best, least = copy.deepcopy(reader), loss

    @torch.no_grad()
    def read(asked: Readable) -> np.ndarray:
        parts = torch.arange(len(asked.truth)).split(2048)
        values = [torch.addcmul(mean, best(asked.inputs(rows)), std) for rows in parts]
        return torch.cat(values).numpy()

    return read
