"""Latent states of the same test frames at a handful of moments of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float

from worldmodel.data import Dataset
from worldmodel.errors import FileFormatError
from worldmodel.evaluation.identification import Targets
from worldmodel.files import whole
from worldmodel.models.ssm import StateSpaceModel

FRACTIONS = (0.0, 0.05, 0.15, 0.3, 0.6, 1.0)  # of training, at which snapshots are taken
_EPISODES, _FRAMES = 150, 15
# What numpy raises on bytes that are no archive of arrays.
_UNREADABLE = (ValueError, EOFError, TypeError, AttributeError, KeyError, BadZipFile)


class Snapshot(NamedTuple):
    """Sampled latents of the same test frames at one moment of the training.

    Attributes:
        update: Updates made by then.
        latents: (n, latent).
        truth: Ground truth (n,) by variable; empty if there is none.
    """

    update: int
    latents: Float[np.ndarray, "n latent"]
    truth: dict[str, np.ndarray]


class Snapshots:
    """Takes snapshots of a training and keeps them as files, one per moment.

    Args:
        folder: Where they go.
        dataset: With a split "test".
        updates: Of the whole training.
        targets: Names the ground-truth variables.
    """

    def __init__(self, folder: Path, dataset: Dataset, updates: int, targets: Targets) -> None:
        self.folder = folder
        self.moments = {round(fraction * updates) for fraction in FRACTIONS}
        few = np.arange(min(_EPISODES, len(dataset.test)))
        self.batch = dataset.test.padded(few, _FRAMES - 1)
        self.targets = targets

    @torch.no_grad()
    def take(self, model: StateSpaceModel, update: int) -> None:
        """Keep the latents of this moment if it is one of those to be shown."""
        if update not in self.moments:
            return
        batch, training = self.batch.to(model.device), model.training
        generator = torch.Generator(model.device).manual_seed(0)
        states = model.eval().terms(batch, generator).states
        model.train(training)
        mask = batch.frame_mask
        arrays: dict[str, Any] = {"latents": states[mask].cpu().numpy()}
        if batch.states is not None:
            arrays |= self.targets(batch.states[mask].cpu().numpy())
        with whole(self.folder / f"{update:07d}.npz") as file:
            np.savez_compressed(file, **arrays)  # numbers; NumPy 2.0 takes no allow_pickle here

    @staticmethod
    def read(folder: Path) -> list[Snapshot]:
        """All snapshots that were taken, in order.

        Raises:
            FileFormatError: One is truncated, corrupt or foreign.
        """
        snapshots = []
        for path in sorted(folder.glob("*.npz")):
            try:
                with np.load(path, allow_pickle=False) as kept:
                    arrays = dict(kept)
                snapshots.append(Snapshot(int(path.stem), arrays.pop("latents"), arrays))
            except _UNREADABLE as error:
                raise FileFormatError(f"{path} is truncated or corrupt: {error}") from error
        return snapshots
