"""A trainer whose data grow: it goes on where it was, and what weights mean stays.

Scalings are those of the first data; only the ranges of rewards, whether an episode ends, and what
components say of pictures are widened. Schedules run through the first fit and then stay at its
last update.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from worldmodel.data import Dataset
from worldmodel.errors import FileFormatError
from worldmodel.models.learned import LearnedModel
from worldmodel.training.config import TrainConfig
from worldmodel.training.dreaming import fit_world
from worldmodel.training.state import STATE_FILE, read_state
from worldmodel.training.trainer import Trainer
from worldmodel.training.windows import Windows
from worldmodel.types import Batch
from worldmodel.world.world import World

# Components of pictures that are left free for what comes later. A pole on a cart is elsewhere when
# it is balanced: the dozen that say .998 of CartPole's first thousand frames say .93 of those that
# come after three thousand.
_SPARE = 64


class GrowingTrainer(Trainer):
    """Trains a model on a dataset that is added to.

    Args:
        model: Freshly built; its scaling is taken from the first data, or from the folder's state.
        dataset: As it is now, with splits "train" and "validation".
        config: How to train; ``updates`` are those of the first fit.
        folder: Run folder.
        lasting: What else a run cannot change when it goes on; expressible as JSON.

    Raises:
        SpecError: As of ``Trainer``.
        FileFormatError: As of ``Trainer``.
    """

    def __init__(
        self,
        model: LearnedModel,
        dataset: Dataset,
        config: TrainConfig,
        folder: str | Path,
        lasting: Mapping[str, Any],
    ) -> None:
        self._lasting = dict(lasting)
        super().__init__(model, dataset, config, folder)
        self._fitted = self.update  # when a world was last made of the model
        self.grow(dataset)

    def _calibrate(self) -> None:
        path = self.folder / STATE_FILE
        if not path.exists():
            self.model.calibrate(self._dataset.train, _SPARE)
            return
        # Data have grown since, and would ask for more components than there are.
        config = json.loads(read_state(path, self.model.device)["identity"])["model"]
        if codec := config.get("codec"):
            self.model.keep_components(codec["components"])

    @property
    def _progress(self) -> float:
        last = self.config.updates - 1
        return min(self.update, last) / self.config.updates

    @property
    def _most_updates(self) -> float | int:
        return math.inf

    def _identify(self) -> dict[str, Any]:
        return {**self._lasting, "model": asdict(self.model.config)}

    def grow(self, dataset: Dataset, arrived: Batch | None = None) -> None:
        """Learn from a dataset as it is now.

        Args:
            dataset: With all that there was before.
            arrived: What is new, to which ranges are widened.
        """
        if arrived is not None:
            self.model.widen(arrived)
        train = dataset.train
        self._dataset, self._drawn = dataset, Windows.of(train, self.model, by_step=True)
        self._judge = self._judge_by(dataset.validation)
        self.windows = max(1, int(train.lengths.sum()) // self.config.window)

    def train(self, updates: int, watch: Callable[[int], None] = lambda done: None) -> None:
        """So many gradient updates, and a validation.

        Args:
            updates: How many.
            watch: Is told before each how many of them are done.

        Raises:
            DivergenceError: A loss or gradient is not finite.
        """
        self.model.train()
        for done in range(updates):
            watch(done)
            self.step()
        self.validate()
        self.model.eval()

    def world(self) -> World:
        """The model as it is now, its support fitted to the data as they are now."""
        train, validation = self.samples()
        c, updates = self.config, self.update - self._fitted
        self._fitted = self.update
        parts = self.model.eval(), c.dreaming, train, validation
        return fit_world(*parts, c.window, c.seed, False, self.source, updates)

    def write(self, beside: Mapping[str, Any]) -> None:
        """All that exact resume needs, and what is to be kept with it, in one file.

        Args:
            beside: Numbers, text, tensors, and lists and dictionaries of such.
        """
        self._resuming.write({**self._course(), "beside": dict(beside)})


def read_beside(folder: str | Path) -> dict[str, Any] | None:
    """What ``GrowingTrainer.write`` kept in a run folder; None if nothing was written yet.

    Raises:
        FileFormatError: It is truncated, corrupt, or of a run that does not grow.
    """
    path = Path(folder) / STATE_FILE
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise FileFormatError(f"{path} is truncated or corrupt: {error!r}") from error
    if "beside" not in state:
        raise FileFormatError(f"{path} is of a run that does not grow; choose another folder")
    return state["beside"]
