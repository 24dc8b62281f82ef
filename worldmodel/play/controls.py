"""From what a hand holds down to an action: directions, axes and numbers, no matter whose keys."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from worldmodel.spaces import ActionSpace

Direction = Literal["left", "right", "up", "down"]
# Which component of a pair a direction moves, and which way.
_WAYS: dict[str, tuple[int, float]] = {
    "left": (0, -1.0),
    "right": (0, 1.0),
    "down": (1, -1.0),
    "up": (1, 1.0),
}
GENTLE = 0.3  # fraction of the full action
_DEAD = 0.15  # of an axis's way, below which a stick is at rest


class Controls:
    """What is held, and the action that it means.

    A Box: the sideways directions move one component of the action, up and down the next; released
    they go back to the middle of their range. Where there is one component only, up is right and
    down is left. Where there are more than two, ``next_pair`` moves on to others.

    Of mixed actions every control is moved so, one-hot numbers and switches too.

    Discrete actions: ``choose`` picks one, which stays; left and right hold the first and the last.

    Args:
        spec: The actions.
        low: (act,), least controls, finite; by default the actions' bounds.
        high: (act,), greatest.
    """

    def __init__(
        self, spec: ActionSpace, low: np.ndarray | None = None, high: np.ndarray | None = None
    ) -> None:
        self._spec = spec
        self._low = np.array(spec.low if low is None else low, np.float32)
        self._high = np.array(spec.high if high is None else high, np.float32)
        self._held: set[Direction] = set()
        self._stick = [0.0, 0.0]
        self.gentle = False
        self.pair = 0
        self.chosen = (spec.size - 1) // 2

    def hold(self, direction: Direction, down: bool) -> None:
        """A direction is pressed or let go."""
        (self._held.add if down else self._held.discard)(direction)

    def tilt(self, axis: int, value: float) -> None:
        """A stick is moved along one of its axes, to within [-1, 1]; right and up are positive."""
        self._stick[axis] = 0.0 if abs(value) < _DEAD else float(np.clip(value, -1, 1))

    def choose(self, index: int) -> None:
        """Pick a discrete action; one that there is not changes nothing."""
        if self._spec.kind == "discrete" and 0 <= index < self._spec.size:
            self.chosen = index

    def next_pair(self) -> None:
        """Let the directions move the next two components of a Box."""
        self.pair = (self.pair + 1) % -(-self._spec.size // 2)

    def release(self) -> None:
        """Let go of everything, as when the window loses its keyboard."""
        self._held.clear()
        self._stick = [0.0, 0.0]
        self.gentle = False

    def action(self) -> Any:
        """The action as the environment takes it."""
        across, up = self._push()
        if self._spec.kind == "discrete":
            held = 0 if across < 0 else self._spec.size - 1 if across > 0 else self.chosen
            one_hot = np.zeros(self._spec.size, np.float32)
            one_hot[held] = 1
            return self._spec.decode(one_hot)
        fraction = np.zeros(self._spec.size, np.float32)
        if self._spec.size == 1:
            fraction[0] = np.clip(across + up, -1, 1)
        else:
            moved = fraction[2 * self.pair : 2 * self.pair + 2]
            moved[:] = (across, up)[: len(moved)]
        fraction *= GENTLE if self.gentle else 1.0
        return self._spec.decode(self._low / 2 * (1 - fraction) + self._high / 2 * (1 + fraction))

    def _push(self) -> tuple[float, float]:
        push = list(self._stick)
        for direction in self._held:
            component, way = _WAYS[direction]
            push[component] += way
        return float(np.clip(push[0], -1, 1)), float(np.clip(push[1], -1, 1))
