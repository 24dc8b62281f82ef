"""What environments say of how far a dream can be believed, and when it is over for that."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from worldmodel.errors import SpecError
from worldmodel.world.trust import Trust
from worldmodel.world.world import World

# Error as a fraction of the variance that a dream may have if nobody says otherwise.
BAD = 0.1
# Of each dream, where nothing bounds errors.
_UNKNOWN, _ZERO = np.full((2, 1), np.inf, np.float32), np.float32(0)
Rule = Any  # see ``truncation``


@dataclass(frozen=True)
class Truncation:
    """When an episode is truncated for not being believed any more.

    Attributes:
        outside: Whether where it leaves the support of the data.
        limit: The greatest bound of its error that it goes on with; infinite if that is no reason.
    """

    outside: bool
    limit: float = math.inf


def truncation(rule: Any, world: World) -> Truncation:
    """What ``truncate_outside`` asks for.

    Args:
        rule: True or "support": on leaving the support. A number: where the bound of the error,
            as a fraction of the variance, exceeds it; "bound" is 0.1. False: never.
        world: That is dreamt of.

    Raises:
        SpecError: It is none of them, or the world has no bounds to go by.
    """
    if isinstance(rule, bool | np.bool_) or rule == "support":
        return Truncation(bool(rule))
    limit = BAD if rule == "bound" else rule
    if not isinstance(limit, int | float) or not 0 < limit < math.inf:
        raise SpecError(
            "truncate_outside must be True or 'support', False, 'bound', or a finite number > 0 "
            f"that bounds of the error may reach, got {rule!r}"
        )
    if world.trust is None:
        raise SpecError(
            f"truncate_outside={rule!r} goes by bounds of the error, and the model has none: "
            "'worldmodel calibrate RUN' makes them"
        )
    return Truncation(False, float(limit))


class Believed:
    """Arrays of bounds to what ``info`` holds; without a trust all bounds are infinite.

    Args:
        trust: Of the world.

    Attributes:
        first: Memory (memory,) at the beginning of a dream.
        start: Bounds (outputs,) there.
        begin: Both, one after the other.
    """

    def __init__(self, trust: Trust | None) -> None:
        self._streams = () if trust is None else trust.streams
        with torch.no_grad():
            first = np.zeros(0) if trust is None else trust.begin(1)[0].cpu().numpy()
            start = np.zeros(0) if trust is None else trust.start.cpu().numpy()
        self.first, self.start = first.astype(np.float32), start.astype(np.float32)
        self.begin = np.concatenate([self.first, self.start])
        self._known = trust is not None

    def one(self, bounds: np.ndarray) -> dict[str, Any]:
        """Of one dream, from (outputs,)."""
        if not self._known:
            return {"error_bound": math.inf, "reward_bound": math.inf}
        if not self._streams:
            error, reward = bounds.tolist()
            return {"error_bound": error, "reward_bound": reward}
        error, reward, *streams = bounds.tolist()
        named = dict(zip(self._streams, streams, strict=True))
        return {"error_bound": error, "reward_bound": reward, "error_bounds": named}

    def many(self, bounds: np.ndarray, mask: Callable[[], np.ndarray]) -> dict[str, Any]:
        """Of many dreams, from (outputs, n), as Gymnasium's vector environments join infos.

        Args:
            bounds: Of all dreams; what is given back are views of it.
            mask: Gives fresh arrays (n,) that say whose bounds these are.
        """
        if not self._known:
            bounds = np.where(mask(), _UNKNOWN, _ZERO)
        error, reward, *others = bounds
        infos: dict[str, Any] = {
            "error_bound": error,
            "_error_bound": mask(),
            "reward_bound": reward,
            "_reward_bound": mask(),
        }
        if self._streams:
            streams = dict(zip(self._streams, others, strict=True))
            streams |= {f"_{name}": mask() for name in self._streams}
            infos |= {"error_bounds": streams, "_error_bounds": mask()}
        return infos
