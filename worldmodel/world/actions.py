"""From the actions that agents choose to the actions that the model understands."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.error import InvalidAction
from torch import Tensor

from worldmodel.types import ActionSpec

_FLOAT, _INDEX = np.dtype(np.float32), (np.int64, int)


class ActionReader:
    """Checks actions and turns them into a fresh tensor; never keeps or changes what it is given.

    The policy is that of the real environments: a finite action outside the Box is clipped to it;
    a wrong shape, a dtype that holds no real numbers, NaN or infinity is refused.

    Args:
        spec: The model's actions.
        lead: Leading shape of what is read: () for one environment, (n,) for n.
        device: Where the model lives.
        dtype: Of the model's parameters.
    """

    def __init__(
        self, spec: ActionSpec, lead: tuple[int, ...], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._discrete = spec.kind == "discrete"
        self._size = spec.size
        self._shape = lead if self._discrete else (*lead, spec.size)
        self._low = np.asarray(spec.low, np.float32)
        self._high = np.asarray(spec.high, np.float32)
        self._one_hot = np.eye(spec.size, dtype=np.float32)
        self._device, self._dtype = device, dtype

    def __call__(self, actions: Any) -> Tensor:
        """Actions (*lead, act) or indices (*lead,) to model actions (*lead, act).

        Raises:
            InvalidAction: The actions cannot be taken; the message says why.
        """
        return torch.from_numpy(self.array(actions)).to(self._device, self._dtype)

    def array(self, actions: Any) -> np.ndarray:
        """The same as a fresh ``float32`` array, contiguous."""
        array = np.asarray(actions)
        allowed = "iu" if self._discrete else "fiu"
        if array.shape != self._shape or array.dtype.kind not in allowed:
            kind = "integer" if self._discrete else "real"
            raise InvalidAction(
                f"expected {kind} actions of shape {self._shape}, "
                f"got {array.dtype} of shape {array.shape}"
            )
        return self._indices(array) if self._discrete else self._clipped(array)

    def raw(self, actions: Any) -> np.ndarray:
        """The same for who clips actions and refuses what is not finite himself.

        Actions that need no change may be given back as they are.
        """
        if self._discrete:
            if type(actions) in _INDEX and not self._shape and 0 <= actions < self._size:
                return self._one_hot[actions]
        elif (
            type(actions) is np.ndarray
            and actions.dtype is _FLOAT
            and actions.shape == self._shape
            and actions.flags.c_contiguous
        ):
            return actions
        return self.array(actions)

    def _indices(self, array: np.ndarray) -> np.ndarray:
        if ((array < 0) | (array >= self._size)).any():
            raise InvalidAction(f"expected actions in 0..{self._size - 1}, got {array}")
        # A third of what indexing takes.
        return self._one_hot.take(array, 0)

    def _clipped(self, array: np.ndarray) -> np.ndarray:
        if not np.isfinite(array).all():
            raise InvalidAction(f"actions must be finite, got {array}")
        # Two ufuncs cost a fifth of np.clip on a thousand small actions.
        clipped = np.minimum(np.maximum(array, self._low), self._high)
        return clipped.astype(np.float32, "C", copy=False)
