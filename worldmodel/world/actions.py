"""From the actions that agents choose to the controls that the model understands."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from worldmodel.spaces import ActionSpace

_FLOAT = np.dtype(np.float32)


class ActionReader:
    """Checks actions and turns them into fresh controls; see ``ActionSpace.encode``.

    Args:
        space: The model's actions.
        lead: Leading shape of what is read: () for one environment, (n,) for n.
        device: Where the model lives.
        dtype: Of the model's parameters.
    """

    def __init__(
        self, space: ActionSpace, lead: tuple[int, ...], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._space, self._lead = space, lead
        # A vector of float32 within a Box is its own controls.
        real = space.space()
        vector = isinstance(real, gym.spaces.Box) and len(real.shape) == 1
        self._plain = (*lead, space.size) if vector else None
        self._device, self._dtype = device, dtype

    def __call__(self, actions: Any) -> Tensor:
        """Actions in Gymnasium's layout to controls (*lead, size).

        Raises:
            InvalidAction: The actions cannot be taken; the message says why.
        """
        return torch.from_numpy(self.array(actions)).to(self._device, self._dtype)

    def array(self, actions: Any) -> np.ndarray:
        """The same as a fresh ``float32`` array, contiguous."""
        return np.ascontiguousarray(self._space.encode(actions, self._lead))

    def raw(self, actions: Any) -> np.ndarray:
        """The same, writeable, for who clips numbers and refuses what is not finite himself.

        Actions that need no change may be given back as they are.
        """
        if (
            type(actions) is np.ndarray
            and actions.dtype is _FLOAT
            and actions.shape == self._plain
            and actions.flags.carray
        ):
            return actions
        return self.array(actions)
