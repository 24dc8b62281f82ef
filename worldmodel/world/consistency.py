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
from jaxtyping import Bool, Float, Float32
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
        known: Whether there is anything to judge by.
        innovation: (n,), squared error of the frame that was predicted, as a fraction of the
            stream's variance, the largest over streams; 0 after a beginning.
        restarted: (n,), whether the belief was begun anew from the last frame.
        doubtful: Whether the last step left any doubt.
        consistent: (n,), whether it agrees with the last frame as well as beliefs do.
    """

    def __init__(self, world: World, n: int) -> None:
        self.known = world.trust is not None
        self._limit = np.inf if world.trust is None else float(world.trust.surprise)
        self.innovation, self._doubts = np.zeros(n, np.float32), np.zeros(n, np.intp)
        self.restarted, self.consistent = np.zeros(n, np.bool_), np.ones(n, np.bool_)
        self.doubtful = False

    def begin(self, mask: np.ndarray | None = None) -> None:
        """Forget what was, of all or of those in a mask."""
        some = slice(None) if mask is None else mask
        self.innovation[some], self._doubts[some] = 0, 0
        self.restarted[some], self.consistent[some] = False, True

    def judge(self, innovation: Float32[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Whose beliefs are lost, given fresh what a step's frames differ by.

        Those begin anew unless ``restarted`` is told otherwise.
        """
        # What is not finite is impossible, too.
        right = innovation <= self._limit
        self.innovation, self.consistent = innovation, right
        some = not right.all()
        if some or self.doubtful:
            self._doubts = np.where(right, 0, self._doubts + 1)
            self.restarted = self._doubts >= PATIENCE
            self._doubts[self.restarted] = 0
            self.doubtful = some
        return self.restarted


@torch.inference_mode()
def innovations(
    world: World,
    mean: Float[Tensor, "n latent"],
    controls: Float[Tensor, "n act"],
    frames: Observations,
) -> Float32[np.ndarray, " n"]:
    """What frames differ by from those that were predicted, of a world that was calibrated.

    Args:
        world: Whose model predicts.
        mean: Of the beliefs before the step.
        controls: That were taken.
        frames: They led to.

    Returns:
        See ``Consistency``.
    """
    return misses(world, world.model.transition(mean, controls), frames)


@torch.inference_mode()
def misses(
    world: World, states: Float[Tensor, "n latent"], frames: Observations
) -> Float32[np.ndarray, " n"]:
    """What frames differ by from those that states show, in the units of innovations."""
    assert world.trust is not None, "asked only of a calibrated world"
    shares = stream_errors(world, world.model.emit(states).mean, frames) / world.trust.variance
    return shares.amax(1).cpu().numpy().astype(np.float32)


def shown_better(
    world: World,
    fresh: Float[Tensor, "n latent"],
    kept: Float[Tensor, "n latent"],
    frames: Observations,
) -> Bool[np.ndarray, " n"]:
    """Whether means that were read off frames show them better than those that were kept."""
    # What is not finite shows nothing.
    return ~(misses(world, kept, frames) <= misses(world, fresh, frames))
