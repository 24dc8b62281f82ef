"""States of a filter that lost itself: none that its system was ever in.

Where a model was taught little, as of what falls, one unstable direction may run away from all
frames. A few states hundreds of deviations off would set the units of all that is fitted to states.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

# Deviations at which a state counts as lost, of states whose greatest and least are cut off by that
# share; and what a dimension's are at least, of the greatest: some stand still nearly always.
_FAR, _TAIL, _LEAST = 10.0, 0.01, 0.3
# States that tell.
_SOME = 10_000


def strays(
    states: Float[Tensor, "n latent"], others: Float[Tensor, "*batch latent"]
) -> Bool[Tensor, "*batch"]:
    """Which of ``others`` lie many deviations away from nearly all ``states``."""
    few = states[:: max(1, len(states) // _SOME)]
    few = few[few.isfinite().all(1)]
    if not len(few):
        return ~others.isfinite().all(-1)
    ends = few.quantile(few.new_tensor([_TAIL, 1 - _TAIL]), 0)
    typical = few.clamp(*ends)
    deviation = typical.std(0)
    spread = deviation.clamp_min(_LEAST * deviation.max().item())
    return ~((others - typical.mean(0)).abs() <= _FAR * spread).all(-1)
