"""Is a filter's belief consistent with the last frames? If it is not, it begins anew.

A filter that was led astray, or into states that recognition never was in, may never come back: its
corrections are those for other states. It can be told by its innovations, what frames differ by
from those it predicted, of which calibration has seen how large they are while all is well.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodel.types import Observations
from worldmodel.world.calibration import stream_errors
from worldmodel.world.world import World

# Innovations in a row that must be impossible: a single one may be a frame's fault.
PATIENCE = 2


class Consistency:
    """Watches the innovations of ``n`` filters; without a calibration it knows of none.

    Args:
        world: Whose model filters.
        n: How many.

    Attributes:
        innovation: (n,), squared error of the frame that was predicted, as a fraction of the
            stream's variance, the largest over streams; 0 after a beginning.
        restarted: (n,), whether the belief was begun anew from the last frame.
    """

    def __init__(self, world: World, n: int) -> None:
        self._world, self._trust = world, world.trust
        self.innovation, self._doubts = np.zeros(n, np.float32), np.zeros(n, np.intp)
        self.restarted = np.zeros(n, np.bool_)

    @property
    def known(self) -> bool:
        """Whether there is anything to judge by."""
        return self._trust is not None

    @property
    def consistent(self) -> Bool[np.ndarray, " n"]:
        """Whether each belief agrees with the last frame as well as beliefs do."""
        limit = np.inf if self._trust is None else float(self._trust.surprise)
        return (self.innovation <= limit) & ~self.restarted

    def begin(self, mask: np.ndarray | None = None) -> None:
        """Forget what was, of all or of those in a mask."""
        some = slice(None) if mask is None else mask
        self.innovation[some], self._doubts[some], self.restarted[some] = 0, 0, False

    @torch.inference_mode()
    def watch(
        self,
        mean: Float[Tensor, "n latent"],
        controls: Float[Tensor, "n act"],
        frames: Observations,
    ) -> Bool[np.ndarray, " n"]:
        """Whose beliefs are to begin anew, given means before a step, and the frames after it."""
        if self._trust is None:
            return self.restarted
        model = self._world.model
        shown = model.emit(model.transition(mean, controls)).mean
        shares = stream_errors(self._world, shown, frames) / self._trust.variance
        self.innovation = shares.amax(1).cpu().numpy().astype(np.float32)
        # What is not finite is impossible, too.
        wrong = ~(self.innovation <= float(self._trust.surprise))
        self._doubts = np.where(wrong, self._doubts + 1, 0)
        self.restarted = self._doubts >= PATIENCE
        self._doubts[self.restarted] = 0
        return self.restarted
