"""Is a filter's belief consistent with the last frames? If it is not, it begins anew.

A filter that was led astray, or into states that recognition never was in, may never come back: its
corrections are those for other states. It can be told by its innovations, what frames differ by
from those it predicted, of which calibration has seen how large they are while all is well.

A beginning is no help where first frames were all alike in training: what reads the first state
then takes every frame for such a one. So a belief begins anew only if it shows the frame better.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodel.types import Belief, Observations
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
        before: Float[Tensor, "n latent"],
        controls: Float[Tensor, "n act"],
        frames: Observations,
        belief: Belief,
    ) -> Belief:
        """The beliefs after a step, begun anew from the frames where these say that they are lost.

        Args:
            before: Means before the step.
            controls: Of the step.
            frames: After it.
            belief: After it, as the filter has corrected it.
        """
        if self._trust is None:
            return belief
        model = self._world.model
        self.innovation = self._misses(model.transition(before, controls), frames)
        # What is not finite is impossible, too.
        wrong = ~(self.innovation <= float(self._trust.surprise))
        self._doubts = np.where(wrong, self._doubts + 1, 0)
        lost = self._doubts >= PATIENCE
        self._doubts[lost] = 0
        self.restarted = lost
        if not lost.any():
            return belief
        chosen = torch.from_numpy(lost).to(before.device)
        rows = frames[chosen]
        fresh = model.initial(
            rows.unsqueeze(1), controls.new_zeros(len(rows), 0, controls.shape[1])
        )
        worse = ~(self._misses(belief.mean[chosen], rows) <= self._misses(fresh.mean, rows))
        self.restarted = lost.copy()
        self.restarted[lost] = worse
        if not worse.any():
            return belief
        return belief.with_rows(self.restarted, fresh[torch.from_numpy(worse).to(before.device)])

    def _misses(self, states: Float[Tensor, "n latent"], frames: Observations) -> np.ndarray:
        """What states show against frames, as ``innovation``."""
        assert self._trust is not None, "asked for only where there is one"
        shown = self._world.model.emit(states).mean
        shares = stream_errors(self._world, shown, frames) / self._trust.variance
        return shares.amax(1).cpu().numpy().astype(np.float32)
