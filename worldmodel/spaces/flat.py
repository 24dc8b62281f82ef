"""Any action space as the flat Box or Discrete that most algorithms ask for."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorActionWrapper, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Float64

from worldmodel.errors import ConfigError
from worldmodel.spaces.actions import ActionSpace
from worldmodel.spaces.stream import Stream


class Flattening:
    """From the actions of a simple space to those of the real one.

    Args:
        actions: The real ones.
        box: Whether discrete ones become a Box too, whose largest number is chosen.
        reach: Half the range, (size,) or one for all, of numbers that have no two bounds: around
            zero, or from their one bound on.

    Attributes:
        space: Discrete(n) of Discrete; MultiDiscrete of such, from 0 and in one row; else a
            ``float32`` Box of [-1, 1] with one number per control.

    Raises:
        ConfigError: ``reach`` is not finite and greater than 0.
    """

    def __init__(self, actions: ActionSpace, box: bool = False, reach: Any = 1.0) -> None:
        self._actions = actions
        self._offset, self._scale = _affine(actions, reach)
        self._indexed = None if box else _indexed(actions)
        if self._indexed is None:
            self.space: gym.Space = gym.spaces.Box(-1, 1, (actions.size,), np.float32)
        elif actions.kind == "discrete":
            self.space = gym.spaces.Discrete(self._indexed.sizes[0])
        else:
            self.space = gym.spaces.MultiDiscrete(list(self._indexed.sizes))

    def __call__(self, flat: Any) -> Any:
        """Real actions of flat ones (..., [size]), in Gymnasium's layout if they are a batch."""
        flat = np.asarray(flat)
        if self._indexed is None:
            return self._actions.decode(self._offset + self._scale * np.clip(flat, -1, 1))
        return self._indexed.write(flat[..., None] if self._actions.kind == "discrete" else flat)


class FlatActions(gym.ActionWrapper, gym.utils.RecordConstructorArgs):
    """An environment that takes a flat Box or Discrete and is given its real actions.

    Args:
        env: With any action space that can be learned from.
        box: See ``Flattening``.
        reach: Likewise.

    Raises:
        SpecError: The action space cannot be learned from.
        ConfigError: ``reach`` is not finite and greater than 0.
    """

    def __init__(self, env: gym.Env, box: bool = False, reach: Any = 1.0) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, box=box, reach=reach)
        super().__init__(env)
        self._real = Flattening(ActionSpace.from_space(env.action_space), box, reach)
        self.action_space = self._real.space

    def action(self, action: Any) -> Any:
        """The real action."""
        return self._real(action)


class VectorFlatActions(VectorActionWrapper):
    """``FlatActions`` over a vector environment; see there for arguments and errors."""

    def __init__(self, env: VectorEnv, box: bool = False, reach: Any = 1.0) -> None:
        super().__init__(env)
        self._real = Flattening(ActionSpace.from_space(env.single_action_space), box, reach)
        self.single_action_space = self._real.space
        self.action_space = batch_space(self._real.space, env.num_envs)

    def actions(self, actions: Any) -> Any:
        """The real actions, a batch."""
        return self._real(actions)


def _indexed(actions: ActionSpace) -> Stream | None:
    root = actions.root
    return root if isinstance(root, Stream) and root.kind == "discrete" else None


def _affine(
    actions: ActionSpace, reach: Any
) -> tuple[Float64[np.ndarray, " size"], Float64[np.ndarray, " size"]]:
    """Offset and scale of controls, where numbers without two bounds get the given half range."""
    half = np.asarray(reach, np.float64)
    if half.shape not in ((), (actions.size,)) or not (np.isfinite(half) & (half > 0)).all():
        raise ConfigError(
            f"reach must be finite, greater than 0, and one or {actions.size} numbers, got {reach}"
        )
    low, high = np.array(actions.low), np.array(actions.high)
    offset, scale, _ = actions.scaling()
    below, above = np.isfinite(low), np.isfinite(high)
    middle = np.where(below, low + half, np.where(above, high - half, 0.0))
    free = ~(below & above)
    return np.where(free, middle, offset), np.where(free, half, scale)
