"""Actions that were chosen beforehand, from an array or a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldmodel.data.babble import ActionProcess
from worldmodel.errors import FileFormatError, ShapeError
from worldmodel.spaces import ActionSpace


@dataclass(frozen=True)
class Given(ActionProcess):
    """The same actions in every episode.

    Attributes:
        actions: (T, *action shape).
    """

    actions: np.ndarray

    @classmethod
    def read(cls, path: str | Path, space: ActionSpace) -> Given:
        """Actions from a .npy file, (T, *action shape), checked against their space.

        Raises:
            FileNotFoundError: There is no such file.
            FileFormatError: It is no .npy file.
            ShapeError: Another shape, dtype or range; the message names what was expected.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no file of actions at {str(path)!r}; expected a .npy file")
        try:
            actions = np.load(path, allow_pickle=False)
            shape, dtype = actions.shape, actions.dtype
        except (ValueError, EOFError, AttributeError) as error:
            raise FileFormatError(f"{path} is not a .npy file of numbers: {error}") from error
        one = space.space()
        if one.shape is None or one.dtype is None:
            raise ShapeError(f"actions of {one} are no array that a file could hold")
        kinds = "iuf" if one.dtype.kind == "f" else "iu"
        if not len(shape) or not shape[0] or shape[1:] != one.shape or dtype.kind not in kinds:
            each = "".join(f", {size}" for size in one.shape) or ","
            what = "numbers" if one.dtype.kind == "f" else "integers"
            raise ShapeError(
                f"actions in {path} must be (T{each}) {what}, T >= 1; got {shape} {dtype}"
            )
        actions = actions.astype(one.dtype)
        if not all(one.contains(action) for action in actions):
            raise ShapeError(
                f"actions in {path} must lie in {one}, got {actions.min()} to {actions.max()}"
            )
        return cls(actions)

    def sample(
        self, space: ActionSpace, episodes: int, steps: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See ``ActionProcess.sample``; the first ``steps`` of the actions."""
        return np.broadcast_to(self.actions[:steps], (episodes, steps, *self.actions.shape[1:]))
