"""Judges a model while it is trained, by the windows of the validation split."""

from __future__ import annotations

from worldmodel.evaluation.learned import standing
from worldmodel.evaluation.prediction import open_loop_error
from worldmodel.models.learned import LearnedModel
from worldmodel.training.shown import in_words
from worldmodel.training.validation import validate
from worldmodel.types import Batch
from worldmodel.world.world import World


class Judge:
    """Measures a model, and leaves it in training mode.

    Args:
        model: Where the windows are.
        batch: Windows of the validation split.
        seed: Of sampled latents.

    Attributes:
        batch: As given.
    """

    def __init__(self, model: LearnedModel, batch: Batch, seed: int) -> None:
        self.batch = batch
        self._model, self._seed = model, seed
        self._standing: dict[str, float] | None = None

    @property
    def filtered(self) -> int:
        """Frames that are filtered before predictions are judged."""
        return max(1, self.batch.steps // 2)

    @property
    def standing(self) -> dict[str, float]:
        """The variance, and what those err by that know nothing; see ``learned.standing``."""
        if self._standing is None:
            self._standing = standing(self._model, self.batch, self.filtered)
        return self._standing

    def measure(self) -> dict[str, float]:
        """As of ``validate``, and errors as fractions of the variance."""
        logs = validate(self._model, self.batch, self._seed)
        self._model.train()
        shares = self._shares(logs["validation/prediction_mse"])
        return {**logs, **{f"validation/{name}": share for name, share in shares.items()}}

    def in_words(self) -> str:
        """What is learned so far."""
        world = World(self._model.eval())
        error = open_loop_error(world, self.batch, self.filtered).mean().item()
        self._model.train()
        return in_words(self._shares(error))

    def _shares(self, error: float) -> dict[str, float]:
        """A prediction's error beside those that know nothing."""
        others = {name: v for name, v in self.standing.items() if name != "variance"}
        return {"prediction": error / self.standing["variance"], **others}
